"""What BasicVSR and BasicVSR++ share: flows between neighbours, propagation over a whole clip, published generators."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import NoiseSource
from vsrbench.flow.propagation import neighbour_flows
from vsrbench.flow.spynet import FILES
from vsrbench.flow.trained import random_spynet
from vsrbench.methods.base import Method
from vsrbench.types import FULL_CLIP, Clip, Progress, Trace
from vsrbench.weights.key_maps import is_published, own_state


class RecurrentNetwork(nn.Module):
    """A network that carries features along the flow from frame to frame, for factor 4.

    spynet(a, b): a differentiable flow network. flow_minimum: see ``neighbour_flows``. A subclass has ``restored``,
    which gives RGB (B,T,3,4h,4w) of LR (B,T,3,h,w) and the flows both ways.
    """

    restored: Callable[..., Tensor]

    def __init__(self, spynet: nn.Module, flow_minimum: int) -> None:
        super().__init__()
        self.spynet, self.flow_minimum = spynet, flow_minimum

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """LR (B,T,3,h,w) in [0,1] to RGB (B,T,3,4h,4w), with the flows to the next and to the previous frame."""
        to_next, to_previous = self.flows(lr)
        return self.restored(lr, to_next, to_previous), to_next, to_previous

    def flows(self, lr: Tensor, batch: int | None = None) -> tuple[Tensor, Tensor]:
        """See ``neighbour_flows``."""
        return neighbour_flows(self.spynet, lr, self.flow_minimum, batch)


class RecurrentMethod(Method):
    """Upscaling by such a network.

    mirror: clips are followed by themselves in reverse (the recipe for Vimeo-90K's 7 frames). max_context: frames that
    temporal chunks overlap; None: the whole clip at once, the only way in which chunks change nothing.
    """

    net: Any

    def __init__(self, net: RecurrentNetwork, mirror: bool, max_context: int | None) -> None:
        super().__init__()
        self.net, self.mirror, self.max_context = net, mirror, max_context

    @property
    def context(self) -> int:
        return FULL_CLIP if self.max_context is None else self.max_context

    @property
    def passes(self) -> int:
        """How often every frame is counted while a clip is restored, for the progress."""
        raise NotImplementedError

    def restore(self, lr: Tensor, to_next: Tensor, to_previous: Tensor, advance: Callable[[], object]) -> Tensor:
        """RGB (B,T,3,4h,4w). advance: called ``passes`` times per frame."""
        raise NotImplementedError

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """The whole clip; ``noise`` is not used. trace: told the flows once."""
        lr = self.pad_time(clip.lr)
        batch, frames = lr.shape[:2]
        if progress is not None:
            progress.start(self.passes * batch * frames, "propagation")
        with self.autocast():
            to_next, to_previous = self.net.flows(lr, self.batch)
            if trace is not None:
                trace.on_step(0, None, to_next=to_next, to_previous=to_previous)
            rgb = self.restore(lr, to_next, to_previous, lambda: None if progress is None else progress.advance(batch))
        return rgb[:, : clip.frames].float().clamp(0, 1)

    def random_parts(self) -> dict[str, str]:
        """SPyNet, in training without ``flow_weights`` and without weights of the whole."""
        remedy = f"set method.flow_weights=FILE (or VSRBENCH_SPYNET) to {FILES}"
        return {} if "spynet" in self.loaded else random_spynet(self.net.spynet, remedy)

    def pad_time(self, frames: Tensor) -> Tensor:
        """Frames (B,T,...), followed by themselves in reverse where ``mirror`` says so."""
        return torch.cat([frames, frames.flip(1)], dim=1) if self.mirror else frames

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Also takes the state of a published generator (OpenMMLab, BasicSR). Raises WeightsError."""
        super().load_trained_state(own_state(state) if is_published(state) else state)
