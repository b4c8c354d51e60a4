"""Training of BasicVSR++: the losses and learning rates of the BasicVSR line."""

from vsrbench.methods.basicvsrpp.model import BasicVSRPP
from vsrbench.methods.regression import RegressionModule


class BasicVSRPPModule(RegressionModule):
    """See ``RegressionModule``."""

    method: BasicVSRPP
