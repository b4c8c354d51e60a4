"""BasicVSR++, the regression method that generative ones are compared with."""

from vsrbench.methods.basicvsrpp.model import BasicVSRPP

__all__ = ["BasicVSRPP"]
