"""DGAF-VSR's units of work: the lines of Supp. Table 5, and what else a frame costs here."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vsrbench.diffusion.frames import bicubic_latent, on_prior_grid
from vsrbench.flow import rescaled
from vsrbench.flow.warp import warp
from vsrbench.methods.base import Work
from vsrbench.nn.colour import replace_low_band
from vsrbench.types import Clip

if TYPE_CHECKING:
    from vsrbench.methods.dgaf.module import DGAF


def work(method: "DGAF", clip: Clip) -> dict[str, Work]:
    """What upscaling ``clip`` (B = 1) consists of, one frame at a time; the clip's length says how often.

    A clip of T frames has 2(T-1) flows, and T-1 guided frames in every step but the first (in every step with
    method.neighbours=same_step). Left out: noise, the sampler's update, copies between the parts.
    """
    pairs = (clip.frames - 1) / clip.frames  # the share of frames that have the neighbour of a step
    lr = on_prior_grid(clip.window(0, min(2, clip.frames)), method.lr_enlargement).lr[0]
    lines: dict[str, Work] = {}
    if clip.frames > 1:
        lines |= flow_work(method, lr, pairs)
        lines |= warp_work(method, lr, pairs * guided_steps(method))
    return lines | network_work(method, lr[:1], pairs * guided_steps(method))


def guided_steps(method: "DGAF") -> int:
    """Steps in which a frame with a neighbour is guided: the first has no x0 of a step before it."""
    return method.sampler.steps - (0 if method.guidance.same_step else 1)


def flow_work(method: "DGAF", lr: Tensor, pairs: float) -> dict[str, Work]:
    """FM: each frame enlarged once, two flows per pair of neighbours. lr: two frames (2,3,h,w)."""
    frames = method.flow_frames(lr)
    network = any(True for _ in method.flow.parameters())
    lines = {"FM": Work(lambda: method.flow(frames[:1], frames[1:]), 2 * pairs, network=network)}
    if frames is lr:
        return lines
    return {"enlarging for FM": Work(lambda: method.flow_frames(lr[:1]), 1.0, network=False), **lines}


def warp_work(method: "DGAF", lr: Tensor, times: float) -> dict[str, Work]:
    """OGWM's three steps, as ``flow.rescaled.upscale_warp_downscale`` takes them."""
    knobs, x0 = method.guidance, latent(method, lr[:1])
    size = rescaled.enlarged_size(x0, knobs.rescale)
    flow = x0.new_zeros(1, 2, *method.flow_frames(lr[:1]).shape[-2:])
    direct = knobs.mode == "none" or size == tuple(x0.shape[-2:])
    enlarged = x0 if direct else rescaled.upscale(x0, knobs.rescale, knobs.mode, knobs.pick)
    grid = (enlarged.shape[-2], enlarged.shape[-1])
    warping = Work(lambda: warp(enlarged, rescaled.on_grid(flow, grid), knobs.align), times, "OGWM", False)
    if direct:
        return {"OGWM warping": warping}
    up = Work(lambda: rescaled.upscale(x0, knobs.rescale, knobs.mode, knobs.pick), times, "OGWM", False)
    down = Work(lambda: rescaled.downscale(enlarged, x0, knobs.mode, knobs.pick), times, "OGWM", False)
    return {"OGWM upscaling": up, "OGWM warping": warping, "OGWM downscaling": down}


def network_work(method: "DGAF", lr: Tensor, guided: float) -> dict[str, Work]:
    """FTCM (both U-Nets) and the VAE for one frame (1,3,h,w). guided: calls of the guide per frame."""
    prior, sampler, x = method.prior, method.sampler, latent(method, lr)
    t = prior.schedule.length // 2

    def guide() -> object:
        with method.autocast():
            return method.guide(x, lr, x, t, prior.prompt, prior.labels(x.device))

    def denoise() -> object:
        with method.autocast():
            return prior.predict(x, lr, t)

    def decode() -> Tensor:
        with method.autocast():
            return prior.decode(x)

    def encode() -> object:
        with method.autocast():
            return bicubic_latent(prior, lr)

    lines = {"guiding U-Net": Work(guide, guided, "FTCM")} if guided else {}
    lines |= {"denoising U-Net": Work(denoise, float(sampler.steps), "FTCM"), "VAE decoder": Work(decode, 1.0)}
    if sampler.start == "lr_noised":
        lines["VAE encoder"] = Work(encode, 1.0)
    if sampler.low_band > 0:
        rgb = x.new_zeros(1, 3, 4 * lr.shape[-2], 4 * lr.shape[-1])
        lines["low-band colour"] = Work(lambda: replace_low_band(rgb, rgb, sampler.low_band), 1.0, network=False)
    return lines


def latent(method: "DGAF", lr: Tensor) -> Tensor:
    """A standard normal latent (N,4,h,w) for frames (N,3,h,w), the same in every run."""
    shape = (len(lr), method.prior.latent_channels, *lr.shape[-2:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(lr.device)
