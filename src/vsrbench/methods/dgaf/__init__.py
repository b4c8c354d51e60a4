"""DGAF-VSR: dense guidance from aligned features (Xu et al. 2025)."""

from vsrbench.methods.dgaf.model import DGAF

__all__ = ["DGAF"]
