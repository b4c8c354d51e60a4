"""Training of the BasicVSR line: losses, and the flow network's own learning rate."""

from typing import Any

import torch
from torch import Tensor

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.errors import TrainingError
from vsrbench.flow.trained import flow_error
from vsrbench.methods.base import Method
from vsrbench.methods.module import MethodModule
from vsrbench.nn.functional import charbonnier
from vsrbench.nn.limits import check_least
from vsrbench.nn.perceptual import Features, feature_loss
from vsrbench.types import Clip

LEAST: dict[str, float] = {"flow_hold": 0, "flow_lr": 0.0, "flow_loss": 0.0, "lpips": 0.0}


class RegressionModule(MethodModule):
    """All networks are trained together.

    method: its ``net(lr)`` gives RGB and the flows both ways, and has ``spynet`` and ``propagation``.

    flow_lr: the flow network's learning rate as a share of the others'; flow_hold: steps for which that is zero.
    flow_loss: weight of the flow's own error, against exact flow where the data know it, else of the LR frames warped
    by it (ours). lpips: weight of a perceptual term (Table 3 of VideoGigaGAN); features: its network, see
    ``feature_loss``. checkpointing: see ``GridPropagation``.
    """

    method: Any

    @check_arguments("module")
    def __init__(
        self,
        method: Method,
        flow_lr: float = 0.25,
        flow_hold: int = 5000,
        flow_loss: float = 0.0,
        lpips: float = 0.0,
        features: Features = "lpips_vgg",
        checkpointing: bool = False,
    ) -> None:
        super().__init__(method)
        check_least(
            "module", {"flow_hold": flow_hold, "flow_lr": flow_lr, "flow_loss": flow_loss, "lpips": lpips}, LEAST
        )
        self.flow_lr, self.flow_hold, self.flow_loss, self.lpips = flow_lr, flow_hold, flow_loss, lpips
        self.features = features
        self.perceptual = feature_loss(features) if lpips else None
        self.method.net.propagation.checkpointing = checkpointing

    def substitutes(self) -> dict[str, str]:
        """See ``MethodModule.substitutes``."""
        other_features = self.perceptual is not None and self.features != "lpips_vgg"
        return super().substitutes() | ({"LPIPS": self.features} if other_features else {})

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Charbonnier error of all frames, and the terms with a weight. Raises TrainingError for single frames."""
        if clip.frames < 2:
            raise TrainingError("this method learns from neighbouring frames: set train.frames=2 or more")
        assert clip.hr is not None
        lr, hr = self.method.pad_time(clip.lr), self.method.pad_time(clip.hr)
        rgb, to_next, to_previous = self.method.net(lr)
        terms = {"pixel": charbonnier(rgb.float() - hr, eps=1e-6)}
        if self.perceptual is not None:
            terms["perceptual"] = self.lpips * self.perceptual(rgb.flatten(0, 1), hr.flatten(0, 1))
        if self.flow_loss:
            pairs = clip.frames - 1
            terms["flow"] = self.flow_loss * flow_error(clip, to_next[:, :pairs], to_previous[:, :pairs])
        return terms

    def parameter_groups(self) -> list[Any]:
        """Two groups; the second, the flow network's, follows the first in ``on_before_optimizer_step``.

        The flow network is held by a learning rate of zero, not by ``requires_grad``: every parameter has a gradient
        at every step, which distributed training relies on.
        """
        flow = list(self.method.net.spynet.parameters())
        own = {id(p) for p in flow}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        return [{"params": others}, {"params": flow}]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The flow network's learning rate: nothing for ``flow_hold`` steps, then ``flow_lr`` of the others'.

        Set at every step, so that it holds under any schedule and after any resume.
        """
        others, flow = optimizer.param_groups
        flow["lr"] = others["lr"] * self.flow_lr if self.global_step >= self.flow_hold else 0.0
