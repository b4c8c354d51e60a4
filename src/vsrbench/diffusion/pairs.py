"""Training on a frame and its neighbour: which neighbour, the flow between them, latents and noise."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from vsrbench.diffusion.frames import frame_noise
from vsrbench.diffusion.guided import Residuals
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import objective
from vsrbench.diffusion.prior import Prior
from vsrbench.flow.bank import pair_flow
from vsrbench.types import Clip, Trace


def pair(
    clip: Clip, choices: list[int], estimator: nn.Module, flow_frames: Callable[[Tensor], Tensor]
) -> tuple[Clip, Clip, Tensor]:
    """The middle frame of three, a neighbour (0: previous, 1: next), and flow[middle→neighbour] (B,2,H,W).

    flow_frames(lr) turns LR frames (B,3,h,w) into what the estimator is to see.
    """
    rows = torch.arange(len(choices), device=clip.lr.device)
    chosen = torch.tensor(choices, device=clip.lr.device)
    known = None
    if clip.flow_forward is not None and clip.flow_backward is not None:
        known = torch.stack([clip.flow_backward[:, 0], clip.flow_forward[:, 1]])[chosen, rows]
    flow = pair_flow(estimator, flow_frames(clip.lr[:, 1]), flow_frames(clip.lr[rows, 2 * chosen]), known)
    assert clip.hr is not None
    neighbour = replace(
        clip.window(0, 1),
        lr=clip.lr[rows, 2 * chosen].unsqueeze(1),
        hr=clip.hr[rows, 2 * chosen].unsqueeze(1),
        index=clip.index[rows, 2 * chosen].unsqueeze(1),
    )
    return clip.window(1, 2), neighbour, flow


def encode(prior: Prior, frame: Clip, noise: NoiseSource, posterior: str = "mode") -> Tensor:
    """Latent (B,4,h,w) of the ground truth of a single frame: the VAE's "mode", or a "sample" of its posterior."""
    assert frame.hr is not None
    draw = None if posterior == "mode" else frame_noise(noise, frame, _latent_shape(prior, frame), "posterior")[:, 0]
    return prior.encode(frame.hr[:, 0], draw)


def draw_eps(prior: Prior, frame: Clip, noise: NoiseSource) -> Tensor:
    """The noise (B,4,h,w) of a single frame's x_t."""
    return frame_noise(noise, frame, _latent_shape(prior, frame), "eps")[:, 0]


def guided_terms(
    prior: Prior,
    guide: Callable[..., Residuals],
    weights: Mapping[str, float],
    x_t: Tensor,
    current: Clip,
    condition: Tensor,
    aligned: Tensor | None,
    t: Tensor,
    latent: Tensor,
    eps: Tensor | None = None,
    low_band: float = 0.0,
    checkpointing: bool = False,
    trace: Trace | None = None,
) -> dict[str, Tensor]:
    """Loss terms of the prior's prediction for the current frame at x_t (B,4,h,w), guided by ``condition``.

    guide(x_t, lr, condition, t, prompt, labels, checkpointing) gives what is added. weights, low_band: see
    ``objective``. latent, eps: of the current frame. aligned: the neighbour's x0 on its grid, for the agreement term.
    """
    lr = current.lr[:, 0]
    residuals = guide(x_t, lr, condition, t, prior.prompt, prior.labels(lr.device), checkpointing)
    output = prior.predict(x_t, lr, t, residuals, checkpointing)
    if trace is not None:
        trace.on_step(0, 0, output=output)
    assert current.hr is not None
    return objective(prior, weights, x_t, output.float(), t, latent, current.hr[:, 0], aligned, low_band, eps)


def _latent_shape(prior: Prior, frame: Clip) -> tuple[int, int, int]:
    return (prior.latent_channels, frame.lr.shape[-2], frame.lr.shape[-1])
