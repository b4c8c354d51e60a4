"""Low-resolution frames disguised as text for a frozen text-to-video diffusion model (master's thesis)."""

from vsrbench.methods.adapter.model import AdapterVSR

__all__ = ["AdapterVSR"]
