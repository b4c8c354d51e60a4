"""StableVSR: a temporal conditioning module on a frozen image upscaler (Rota et al. 2024)."""

from vsrbench.methods.stablevsr.model import StableVSR

__all__ = ["StableVSR"]
