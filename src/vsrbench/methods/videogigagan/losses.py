"""VideoGigaGAN's Eq. 2: its terms as plain functions, each a mean over frames, in float32 at least; their weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from vsrbench.errors import ConfigError
from vsrbench.nn.functional import full_precision, precise
from vsrbench.nn.limits import check_least


@dataclass(frozen=True)
class Objective:
    """Eq. 2 (Sec. 4.1 for the weights) and when its terms begin.

    gan: on the generator's term alone (ours; weighing the discriminator's loss too would make R1 twenty times
    stronger beside it). r1: coefficient, 0 for none, halved with r1_half (StyleGAN2's gamma / 2); r1_every:
    discriminator steps between penalties, each then weighs as many times more. pixel_steps: steps of stage=image
    without the discriminator. image_rate: learning rate of stage=image over that of stage=video. flow_rate, flow_hold:
    of the flow network, relative, and steps that it waits at first (BasicVSR++). propagation_clip: largest norm of the
    gradient of the parts in front of the U-Net. flow: weight of the flow's own error (ours), see ``flow.trained``.
    """

    gan: float = 0.05
    features: float = 5.0
    pixel: float = 10.0
    r1: float = 0.2048
    r1_half: bool = True
    r1_every: int = 16
    pixel_steps: int = 2000
    image_rate: float = 2.0
    flow_rate: float = 0.25
    flow_hold: int = 5000
    propagation_clip: float | None = 10.0
    flow: float = 0.0

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> "Objective":
        """Raises ConfigError for keys it does not know, negative numbers and an interval below 1."""
        known = {field.name for field in fields(cls)}
        unknown = set(settings or {}) - known
        if unknown:
            raise ConfigError(
                f"module.objective has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
            )
        least: dict[str, float] = dict.fromkeys(
            ("gan", "features", "pixel", "r1", "image_rate", "flow_rate", "flow"), 0.0
        )
        least |= {"propagation_clip": 0.0, "r1_every": 1, "pixel_steps": 0, "flow_hold": 0}
        check_least("module.objective", settings or {}, least)
        return cls(**(settings or {}))

    @property
    def r1_weight(self) -> float:
        return self.r1 * self.r1_every * (0.5 if self.r1_half else 1.0)


def generator_loss(logits: Tensor) -> Tensor:
    """Non-saturating loss of the generator: mean of softplus(-D(G(x))) over the frames' logits."""
    return F.softplus(-precise(logits)).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Non-saturating loss of the discriminator: mean of softplus(-D(X)) + softplus(D(G(x)))."""
    return F.softplus(-precise(real)).mean() + F.softplus(precise(fake)).mean()


def gradient_penalty(discriminate: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): squared norm of dD/dX, summed over a frame's pixels, averaged over frames.

    discriminate: clips (B,T,3,H,W) to logits; a frame's gradient is that of all logits it has part in. Can be
    differentiated again: runs in float32 at least, and attention by the one kernel that has a second derivative.
    """
    frames = precise(frames.detach()).requires_grad_(True)
    with full_precision(frames.device), sdpa_kernel(SDPBackend.MATH):
        (slope,) = torch.autograd.grad(discriminate(frames).sum(), frames, create_graph=True)
    return slope.square().flatten(2).sum(2).mean()
