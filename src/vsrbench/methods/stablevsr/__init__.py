"""StableVSR: a temporal conditioning module on a frozen image upscaler (Rota et al. 2024)."""

from vsrbench.methods.stablevsr.module import StableVSR

__all__ = ["StableVSR"]
