"""BasicVSR++, the regression method that generative ones are compared with."""

from vsrbench.methods.basicvsrpp.module import BasicVSRPP

__all__ = ["BasicVSRPP"]
