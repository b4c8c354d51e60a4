"""Flow networks that a method trains with the rest of it."""

from collections.abc import Sequence

from torch import nn

from vsrbench.errors import ConfigError
from vsrbench.flow.spynet import SpyNetwork, load_spynet
from vsrbench.nn.pyramid_flow import PyramidFlow

NETS = ("spynet", "pyramid")


def trained_flow(kind: str, levels: int, widths: Sequence[int], weights: str | None, settings: str) -> nn.Module:
    """``spynet`` (BasicVSR++), from a file of weights where one is given, or the thin ``pyramid`` (ours, small sizes).

    levels, widths: of the pyramid, see ``PyramidFlow``. settings: where these are set, for the errors, as in
    ``method.front``. Raises ConfigError for another kind and for weights of another, WeightsError for a file that does
    not fit.
    """
    if kind not in NETS:
        raise ConfigError(f"{settings}.flow_net={kind}: use one of {', '.join(NETS)}")
    if kind == "spynet":
        return SpyNetwork() if weights is None else load_spynet(weights)
    if weights is not None:
        raise ConfigError(f"{settings}.flow_weights={weights} are SPyNet's: use {settings}.flow_net=spynet")
    return PyramidFlow(levels, widths)
