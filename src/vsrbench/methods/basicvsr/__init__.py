"""BasicVSR, the published regression network whose weights can be fetched."""

from vsrbench.methods.basicvsr.model import BasicVSR

__all__ = ["BasicVSR"]
