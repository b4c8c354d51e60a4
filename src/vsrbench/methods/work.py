"""Units of work that several latent methods share, for the tables of ``bench``."""

from typing import Any

import torch
from torch import Tensor

from vsrbench.diffusion.frames import bicubic_latent
from vsrbench.methods.base import Work
from vsrbench.nn.colour import replace_low_band

# method: one with prior, sampler, flow, flow_frames and autocast, as DGAF and StableVSR have them


def flow_work(method: Any, lr: Tensor, pairs: float) -> dict[str, Work]:
    """Flow estimation: each frame enlarged once, two flows per pair of neighbours. lr: two frames (2,3,h,w).

    pairs: pairs of neighbours per frame of the clip.
    """
    frames = method.flow_frames(lr)
    network = any(True for _ in method.flow.parameters())
    lines = {"FM": Work(lambda: method.flow(frames[:1], frames[1:]), 2 * pairs, network=network)}
    if frames is lr:
        return lines
    return {"enlarging for FM": Work(lambda: method.flow_frames(lr[:1]), 1.0, network=False), **lines}


def denoiser_work(method: Any, lr: Tensor, module: str | None = None) -> dict[str, Work]:
    """The denoising U-Net for one frame (1,3,h,w), once per step. module: what it is part of."""
    prior, x = method.prior, latent(method, lr)
    t = prior.schedule.length // 2

    def denoise() -> object:
        with method.autocast():
            return prior.predict(x, lr, t)

    return {"denoising U-Net": Work(denoise, float(method.sampler.steps), module)}


def frame_work(method: Any, lr: Tensor) -> dict[str, Work]:
    """What happens once per frame (1,3,h,w): the VAE decoder, and what the start and the colour fix need."""
    prior, sampler, x = method.prior, method.sampler, latent(method, lr)

    def decode() -> object:
        with method.autocast():
            return prior.decode(x)

    def encode() -> object:
        with method.autocast():
            return bicubic_latent(prior, lr)

    lines = {"VAE decoder": Work(decode, 1.0)}
    if sampler.start == "lr_noised":
        lines["VAE encoder"] = Work(encode, 1.0)
    if sampler.low_band > 0:
        rgb = x.new_zeros(1, 3, 4 * lr.shape[-2], 4 * lr.shape[-1])
        lines["low-band colour"] = Work(lambda: replace_low_band(rgb, rgb, sampler.low_band), 1.0, network=False)
    return lines


def latent(method: Any, lr: Tensor) -> Tensor:
    """A standard normal latent (N,4,h,w) for frames (N,3,h,w), the same in every run."""
    shape = (len(lr), method.prior.latent_channels, *lr.shape[-2:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(lr.device)
