"""BasicVSR++: networks, settings and upscaling."""

from collections.abc import Callable, Sequence
from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.flow.propagation import Alignment, GridPropagation, Order
from vsrbench.flow.trained import FlowNet, trained_flow
from vsrbench.methods.base import Stage, Work
from vsrbench.methods.basicvsrpp import cost
from vsrbench.methods.basicvsrpp.networks import BasicVSRPlusPlus, Residual
from vsrbench.methods.recurrent import RecurrentMethod
from vsrbench.nn.limits import check_least
from vsrbench.types import Clip

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]


class BasicVSRPP(RecurrentMethod):
    """BasicVSR++ (Chan et al. 2022, "Improving Video Super-Resolution with Enhanced Propagation and Alignment").

    mid_channels, num_blocks: width, and residual blocks per branch. feature_blocks, reconstruction_blocks,
    hr_channels, residual, zero_start, flow_minimum: see ``BasicVSRPlusPlus`` and its parts. branches, alignment, order,
    groups, max_residue, offload: see ``GridPropagation``.
    flow_net: "spynet", or the thin "pyramid" of flow_levels levels with flow_widths hidden channels (ours).
    flow_weights: file that SPyNet starts from, in training without other weights. mirror, max_context: see
    ``RecurrentMethod``.
    """

    stages = {
        "sr": Stage(
            trainable=("spynet", "feat_extract", "propagation", "reconstruction"),
            losses=("pixel", "perceptual", "flow"),
        )
    }

    @check_arguments("method")
    def __init__(
        self,
        mid_channels: Count = 64,
        num_blocks: Whole = 7,
        feature_blocks: Whole = 5,
        reconstruction_blocks: Whole = 5,
        hr_channels: Count = 64,
        residual: Residual = "bilinear",
        zero_start: bool = False,
        branches: Count = 4,
        alignment: Alignment = "dcn",
        order: Order = 2,
        groups: Count = 16,
        max_residue: float = 10.0,
        offload: bool = False,
        flow_net: FlowNet = "spynet",
        flow_levels: Count = 4,
        flow_widths: Sequence[int] = (16, 16, 16),
        flow_minimum: Count = 64,
        flow_weights: str | None = None,
        mirror: bool = False,
        max_context: Whole | None = None,
        name: str = "basicvsrpp",
    ) -> None:
        check_least("method", {"flow_widths": flow_widths}, {"flow_widths": 1})
        propagation = GridPropagation(
            mid_channels, num_blocks, branches, alignment, order, groups, max_residue, offload
        )
        net = BasicVSRPlusPlus(
            trained_flow(flow_net, flow_levels, flow_widths, flow_weights, "method"),
            propagation,
            mid_channels,
            feature_blocks,
            reconstruction_blocks,
            hr_channels,
            residual,
            zero_start,
            flow_minimum,
        )
        super().__init__(net, mirror, max_context)

    def parts(self) -> dict[str, nn.Module]:
        net = self.net
        return {
            "spynet": net.spynet,
            "feat_extract": net.feat_extract,
            "propagation": net.propagation,
            "reconstruction": net.reconstruction,
        }

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """One line per kind of layer, as they can be told apart in the paper's Fig. 2 and 3."""
        net = self.net
        return {
            "flow network": [net.spynet],
            "feature extraction": [net.feat_extract],
            "alignment": [net.propagation.deform_align],
            "propagation branches": [net.propagation.backbone],
            "reconstruction": [net.reconstruction],
        }

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work; see ``cost.work``."""
        return cost.work(self, clip)

    @property
    def passes(self) -> int:
        return len(self.net.propagation.names) + 1

    def restore(self, lr: Tensor, to_next: Tensor, to_previous: Tensor, advance: Callable[[], object]) -> Tensor:
        return self.net.restored(lr, to_next, to_previous, self.batch, advance)
