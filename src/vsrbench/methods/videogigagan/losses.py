"""The terms of VideoGigaGAN's Eq. 2 as plain functions; each is a mean over frames, in float32 at least."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from vsrbench.flow.network import precise


def charbonnier(output: Tensor, truth: Tensor, eps: float = 1e-6) -> Tensor:
    """Mean of sqrt(d² + eps²) over frames, channels and pixels. eps: of the BasicVSR line, none is printed."""
    return ((precise(output) - precise(truth)).square() + eps**2).sqrt().mean()


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
    with torch.autocast(frames.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
        (slope,) = torch.autograd.grad(discriminate(frames).sum(), frames, create_graph=True)
    return slope.square().flatten(2).sum(2).mean()
