"""BasicVSR++: networks, settings and upscaling."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.flow.propagation import Alignment, GridPropagation, Order
from vsrbench.flow.spynet import FILES
from vsrbench.flow.trained import FlowNet, random_spynet, trained_flow
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.basicvsrpp import cost
from vsrbench.methods.basicvsrpp.networks import BasicVSRPlusPlus, Residual
from vsrbench.nn.limits import check_least
from vsrbench.types import FULL_CLIP, Clip, Progress, Trace
from vsrbench.weights.key_maps import is_published, own_state

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]


class BasicVSRPP(Method):
    """BasicVSR++ (Chan et al. 2022, "Improving Video Super-Resolution with Enhanced Propagation and Alignment").

    mid_channels, num_blocks: width, and residual blocks per branch. feature_blocks, reconstruction_blocks,
    hr_channels, residual, zero_start, flow_minimum: see ``BasicVSRPlusPlus`` and its parts. branches, alignment, order,
    groups, max_residue, offload: see ``GridPropagation``.
    flow_net: "spynet", or the thin "pyramid" of flow_levels levels with flow_widths hidden channels (ours).
    flow_weights: file that SPyNet starts from, in training without other weights.
    mirror: clips are followed by themselves in reverse (the recipe for Vimeo-90K's 7 frames).
    max_context: frames that temporal chunks overlap; None: the whole clip at once, the only way in which chunks
    change nothing.
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
        super().__init__()
        check_least("method", {"flow_widths": flow_widths}, {"flow_widths": 1})
        propagation = GridPropagation(
            mid_channels, num_blocks, branches, alignment, order, groups, max_residue, offload
        )
        self.net = BasicVSRPlusPlus(
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
        self.mirror, self.max_context = mirror, max_context

    @property
    def context(self) -> int:
        return FULL_CLIP if self.max_context is None else self.max_context

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

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """The whole clip; ``noise`` is not used. trace: told the flows once."""
        lr = self.pad_time(clip.lr)
        batch, frames = lr.shape[:2]
        if progress is not None:
            progress.start(batch * frames * (len(self.net.propagation.names) + 1), "propagation")
        with self.autocast():
            to_next, to_previous = self.net.flows(lr, self.batch)
            if trace is not None:
                trace.on_step(0, None, to_next=to_next, to_previous=to_previous)
            advance = None if progress is None else lambda: progress.advance(batch)
            rgb = self.net.restored(lr, to_next, to_previous, self.batch, advance)
        return rgb[:, : clip.frames].float().clamp(0, 1)

    def random_parts(self) -> dict[str, str]:
        """SPyNet, in training without ``flow_weights`` and without weights of the whole."""
        remedy = f"set method.flow_weights=FILE (or VSRBENCH_SPYNET) to {FILES}"
        return {} if "spynet" in self.given else random_spynet(self.net.spynet, remedy)

    def pad_time(self, frames: Tensor) -> Tensor:
        """Frames (B,T,...), followed by themselves in reverse where ``mirror`` says so."""
        return torch.cat([frames, frames.flip(1)], dim=1) if self.mirror else frames

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Also takes the state of a published generator (OpenMMLab, BasicSR). Raises WeightsError."""
        super().load_trained_state(own_state(state) if is_published(state) else state)
