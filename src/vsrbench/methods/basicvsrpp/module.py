"""BasicVSR++ for the shells: settings, losses, the flow network's own learning rate, and upscaling."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import NoiseSource
from vsrbench.errors import TrainingError
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.basicvsrpp import cost
from vsrbench.methods.basicvsrpp.networks import BasicVSRPlusPlus
from vsrbench.nn.flow_loss import flow_error
from vsrbench.nn.limits import check_least
from vsrbench.nn.perceptual import feature_loss
from vsrbench.nn.propagation import GridPropagation
from vsrbench.nn.trained_flow import trained_flow
from vsrbench.types import WHOLE, Clip, Progress, Trace
from vsrbench.weights.key_maps import is_published, own_state

LEAST: dict[str, float] = {  # of the settings that are numbers
    **dict.fromkeys(("mid_channels", "hr_channels", "flow_levels", "flow_widths", "flow_minimum"), 1),
    **dict.fromkeys(("num_blocks", "feature_blocks", "reconstruction_blocks", "flow_hold", "max_context"), 0),
    **dict.fromkeys(("flow_lr", "flow_loss", "lpips"), 0.0),
}


class BasicVSRPP(Method):
    """BasicVSR++ (Chan et al. 2022, "Improving Video Super-Resolution with Enhanced Propagation and Alignment").

    mid_channels, num_blocks: width, and residual blocks per branch. feature_blocks, reconstruction_blocks,
    hr_channels, residual, zero_start, flow_minimum: see ``BasicVSRPlusPlus`` and its parts. branches, alignment, order,
    groups, max_residue, offload, checkpointing: see ``GridPropagation``.
    flow_net: "spynet", or the thin "pyramid" of flow_levels levels with flow_widths hidden channels (ours).
    flow_weights: file that SPyNet starts from, in training without other weights. flow_lr: its learning rate as a share
    of the others'; flow_hold: steps for which that is zero.
    lpips: weight of a perceptual term (Table 3 of VideoGigaGAN); features: its network, see ``feature_loss``.
    flow_loss: weight of the flow's own error, against exact flow where the data know it, else of the LR frames warped
    by it (ours).
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

    def __init__(
        self,
        mid_channels: int = 64,
        num_blocks: int = 7,
        feature_blocks: int = 5,
        reconstruction_blocks: int = 5,
        hr_channels: int = 64,
        residual: str = "bilinear",
        zero_start: bool = False,
        branches: int = 4,
        alignment: str = "dcn",
        order: int = 2,
        groups: int = 16,
        max_residue: float = 10.0,
        offload: bool = False,
        checkpointing: bool = False,
        flow_net: str = "spynet",
        flow_levels: int = 4,
        flow_widths: Sequence[int] = (16, 16, 16),
        flow_minimum: int = 64,
        flow_weights: str | None = None,
        flow_lr: float = 0.25,
        flow_hold: int = 5000,
        flow_loss: float = 0.0,
        lpips: float = 0.0,
        features: str = "lpips_vgg",
        mirror: bool = False,
        max_context: int | None = None,
        name: str = "basicvsrpp",
    ) -> None:
        super().__init__()
        counts = {"mid_channels": mid_channels, "hr_channels": hr_channels, "flow_levels": flow_levels}
        check_least("method", {**counts, "flow_widths": flow_widths, "flow_minimum": flow_minimum}, LEAST)
        blocks = {"num_blocks": num_blocks, "feature_blocks": feature_blocks, "max_context": max_context}
        check_least("method", {**blocks, "reconstruction_blocks": reconstruction_blocks, "flow_hold": flow_hold}, LEAST)
        check_least("method", {"flow_lr": flow_lr, "flow_loss": flow_loss, "lpips": lpips}, LEAST)
        propagation = GridPropagation(
            mid_channels, num_blocks, branches, alignment, order, groups, max_residue, offload, checkpointing
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
        self.flow_lr, self.flow_hold, self.flow_loss = flow_lr, flow_hold, flow_loss
        self.lpips, self.mirror, self.max_context = lpips, mirror, max_context
        self.perceptual = feature_loss(features) if lpips else None

    @property
    def context(self) -> int:
        return WHOLE if self.max_context is None else self.max_context

    def parts(self) -> dict[str, nn.Module]:
        net = self.net
        return {
            "spynet": net.spynet,
            "feat_extract": net.feat_extract,
            "propagation": net.propagation,
            "reconstruction": net.reconstruction,
        }

    def counted(self) -> dict[str, list[nn.Module]]:
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
        lr = self.as_seen(clip.lr)
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

    def as_seen(self, frames: Tensor) -> Tensor:
        """Frames (B,T,...), followed by themselves in reverse where ``mirror`` says so."""
        return torch.cat([frames, frames.flip(1)], dim=1) if self.mirror else frames

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Charbonnier error of all frames, and the terms with a weight. Raises TrainingError for single frames."""
        if clip.frames < 2:
            raise TrainingError("basicvsrpp learns from neighbouring frames: set train.frames=2 or more")
        assert clip.hr is not None
        lr, hr = self.as_seen(clip.lr), self.as_seen(clip.hr)
        rgb, to_next, to_previous = self.net(lr)
        terms = {"pixel": charbonnier(rgb.float() - hr)}
        if self.perceptual is not None:
            terms["perceptual"] = self.lpips * self.perceptual(rgb.flatten(0, 1), hr.flatten(0, 1))
        if self.flow_loss:
            pairs = clip.frames - 1
            terms["flow"] = self.flow_loss * flow_error(clip, to_next[:, :pairs], to_previous[:, :pairs])
        return terms

    def configure_optimizers(self) -> Any:
        """Two groups of parameters; the second, the flow network's, follows the first in ``on_before_optimizer_step``.

        The flow network is held by a learning rate of zero, not by ``requires_grad``: every parameter has a gradient
        at every step, which distributed training relies on.
        """
        flow = list(self.net.spynet.parameters())
        own = {id(p) for p in flow}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        make = self.optimiser
        if make is not None:
            groups: Any = [{"params": others}, {"params": flow}]
            self.optimiser = lambda _: make(groups)
        try:
            return super().configure_optimizers()
        finally:
            self.optimiser = make

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The flow network's learning rate: nothing for ``flow_hold`` steps, then ``flow_lr`` of the others'.

        Set at every step, so that it holds under any schedule and after any resume.
        """
        others, flow = optimizer.param_groups
        flow["lr"] = others["lr"] * self.flow_lr if self.global_step >= self.flow_hold else 0.0

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Also takes the state of a published generator (OpenMMLab, BasicSR). Raises WeightsError."""
        super().load_trained_state(own_state(state) if is_published(state) else state)


def charbonnier(error: Tensor) -> Tensor:
    """Mean of sqrt(e^2 + 1e-12) (BasicVSR line)."""
    return (error.square() + 1e-12).sqrt().mean()
