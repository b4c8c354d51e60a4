"""BasicVSR: networks, settings and upscaling."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.flow.spynet import FILES
from vsrbench.flow.trained import random_spynet, trained_flow
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.basicvsr import cost
from vsrbench.methods.basicvsr.networks import BasicVSRNetwork, Propagation
from vsrbench.types import FULL_CLIP, Clip, Progress, Trace
from vsrbench.weights.key_maps import is_published, own_state


class BasicVSR(Method):
    """BasicVSR (Chan et al. 2021, "BasicVSR: The Search for Essential Components in Video Super-Resolution").

    mid_channels, num_blocks: width, and residual blocks of either direction; hr_channels: width at HR.
    offload: see ``Propagation``. flow_net: "spynet", or the thin "pyramid" of flow_levels levels with flow_widths
    hidden channels (ours). flow_minimum: see ``neighbour_flows``. flow_weights: file that SPyNet starts from, in
    training without other weights. mirror: clips are followed by themselves in reverse (Vimeo-90K's 7 frames).
    max_context: frames that temporal chunks overlap; None: the whole clip at once, the only way in which chunks change
    nothing. long_context: the same for clips that are longer than ``inference.whole``, where max_context is None.
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
        super().__init__()
        flow = trained_flow(flow_net, flow_levels, flow_widths, flow_weights, "method")
        self.net = BasicVSRNetwork(flow, Propagation(mid_channels, num_blocks, offload), hr_channels, flow_minimum)
        self.mirror, self.max_context, self.long_context = mirror, max_context, long_context

    @property
    def context(self) -> int:
        return FULL_CLIP if self.max_context is None else self.max_context

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

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """The whole clip; ``noise`` is not used. trace: told the flows once."""
        lr = self.pad_time(clip.lr)
        batch, frames = lr.shape[:2]
        if progress is not None:
            progress.start(2 * batch * frames, "propagation")
        with self.autocast():
            to_next, to_previous = self.net.flows(lr, self.batch)
            if trace is not None:
                trace.on_step(0, None, to_next=to_next, to_previous=to_previous)
            rgb = self.net.restored(
                lr, to_next, to_previous, lambda: None if progress is None else progress.advance(batch)
            )
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
