"""The prior alone, frame by frame: the baseline that every temporal method has to beat."""

from vsrbench.methods.ldm.model import LDM

__all__ = ["LDM"]
