"""DGAF-VSR's units of work: the lines of Supp. Table 5, and what else a frame costs here."""

from typing import Any

from torch import Tensor

from vsrbench.diffusion.frames import on_prior_grid
from vsrbench.flow import rescaled
from vsrbench.flow.warp import warp
from vsrbench.methods.base import Work
from vsrbench.methods.work import denoiser_work, flow_work, frame_work, latent
from vsrbench.types import Clip


def work(method: Any, clip: Clip) -> dict[str, Work]:
    """What upscaling ``clip`` (B = 1) consists of, one frame at a time; the clip's length says how often.

    A clip of T frames has 2(T-1) flows, and T-1 guided frames in every step but the first (in every step with
    method.neighbours=same_step). Left out: noise, the sampler's update, copies between the parts.
    """
    pairs = (clip.frames - 1) / clip.frames  # the share of frames that have the neighbour of a step
    lr = on_prior_grid(clip.window(0, min(2, clip.frames)), method.lr_enlargement).lr[0]
    guided = pairs * guided_steps(method)
    lines = flow_work(method, lr, pairs) if pairs else {}
    lines |= warp_work(method, lr, guided) if guided else {}
    return lines | network_work(method, lr[:1], guided)


def guided_steps(method: Any) -> int:
    """Steps with guidance: the first has no step before it whose x0 could guide."""
    return method.sampler.steps - (0 if method.guidance.same_step else 1)


def warp_work(method: Any, lr: Tensor, times: float) -> dict[str, Work]:
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


def network_work(method: Any, lr: Tensor, guided: float) -> dict[str, Work]:
    """FTCM (both U-Nets) and the VAE for one frame (1,3,h,w). guided: calls of the guide per frame."""
    prior, x = method.prior, latent(method, lr)
    t = prior.schedule.length // 2

    def guide() -> object:
        with method.autocast():
            return method.guide(x, lr, x, t, prior.prompt, prior.labels(x.device))

    lines = {"guiding U-Net": Work(guide, guided, "FTCM")} if guided else {}
    return lines | denoiser_work(method, lr, "FTCM") | frame_work(method, lr)
