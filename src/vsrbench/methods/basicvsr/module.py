"""Training of BasicVSR: the losses and learning rates of the BasicVSR line."""

from vsrbench.methods.basicvsr.model import BasicVSR
from vsrbench.methods.regression import RegressionModule


class BasicVSRModule(RegressionModule):
    """See ``RegressionModule``."""

    method: BasicVSR
