"""BasicVSR: networks, settings and upscaling."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.flow.trained import trained_flow
from vsrbench.methods.base import Stage, Work
from vsrbench.methods.basicvsr import cost
from vsrbench.methods.basicvsr.networks import BasicVSRNetwork, Propagation
from vsrbench.methods.recurrent import RecurrentMethod
from vsrbench.types import Clip


class BasicVSR(RecurrentMethod):
    """BasicVSR (Chan et al. 2021, "BasicVSR: The Search for Essential Components in Video Super-Resolution").

    mid_channels, num_blocks: width, and residual blocks of either direction; hr_channels: width at HR.
    offload: see ``Propagation``. flow_net: "spynet", or the thin "pyramid" of flow_levels levels with flow_widths
    hidden channels (ours). flow_minimum: see ``neighbour_flows``. flow_weights: file that SPyNet starts from, in
    training without other weights. mirror, max_context: see ``RecurrentMethod``. long_context: as max_context, for
    clips that are longer than ``inference.whole``, where max_context is None.
    """

    stages = {
        "sr": Stage(trainable=("spynet", "propagation", "reconstruction"), losses=("pixel", "perceptual", "flow"))
    }

    @check_arguments("method")
    def __init__(
        self,
        mid_channels: Annotated[int, Ge(1)] = 64,
        num_blocks: Annotated[int, Ge(0)] = 30,
        hr_channels: Annotated[int, Ge(1)] = 64,
        offload: bool = False,
        flow_net: Literal["spynet", "pyramid"] = "spynet",
        flow_levels: Annotated[int, Ge(1)] = 4,
        flow_widths: Sequence[int] = (16, 16, 16),
        flow_minimum: Annotated[int, Ge(1)] = 64,
        flow_weights: str | None = None,
        mirror: bool = False,
        max_context: Annotated[int, Ge(0)] | None = None,
        long_context: Annotated[int, Ge(0)] | None = 8,
        name: str = "basicvsr",
    ) -> None:
        flow = trained_flow(flow_net, flow_levels, flow_widths, flow_weights, "method")
        propagation = Propagation(mid_channels, num_blocks, offload)
        super().__init__(BasicVSRNetwork(flow, propagation, hr_channels, flow_minimum), mirror, max_context)
        self.long_context = long_context

    def parts(self) -> dict[str, nn.Module]:
        net = self.net
        return {"spynet": net.spynet, "propagation": net.propagation, "reconstruction": net.reconstruction}

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """One line per kind of layer."""
        net = self.net
        return {
            "flow network": [net.spynet],
            "backward propagation": [net.propagation.backward_trunk],
            "forward propagation": [net.propagation.forward_trunk],
            "reconstruction": [net.reconstruction],
        }

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work; see ``cost.work``."""
        return cost.work(self, clip)

    @property
    def passes(self) -> int:
        return 2

    def restore(self, lr: Tensor, to_next: Tensor, to_previous: Tensor, advance: Callable[[], object]) -> Tensor:
        return self.net.restored(lr, to_next, to_previous, advance)
