"""StableVSR's units of work: at 720p and 50 steps decoding the guidance is most of the cost."""

from typing import Any

from vsrbench.methods.base import Work
from vsrbench.methods.work import denoiser_work, flow_work, frame_work, latent
from vsrbench.types import Clip


def work(method: Any, clip: Clip) -> dict[str, Work]:
    """What upscaling ``clip`` (B = 1) consists of, one frame at a time; the clip's length says how often.

    A clip of T frames has 2(T-1) flows, and T-1 guided frames in every step. Left out: noise, the sampler's update,
    copies between the parts.
    """
    pairs = (clip.frames - 1) / clip.frames  # the share of frames that have the neighbour of a step
    lr = clip.window(0, min(2, clip.frames)).lr[0]
    alone = method.strategy == "single_frame" or not pairs
    lines = {} if alone else flow_work(method, lr, pairs) | guidance_work(method, clip, pairs)
    return lines | denoiser_work(method, lr[:1]) | frame_work(method, lr[:1])


def guidance_work(method: Any, clip: Clip, pairs: float) -> dict[str, Work]:
    """The temporal texture (Eq. 8) and the module that reads it, per guided frame-step."""
    prior, lr = method.prior, clip.lr[:, 0]
    x = latent(method, lr)
    t = prior.schedule.length // 2
    flow = x.new_zeros(1, 2, *method.flow_frames(lr).shape[-2:])
    texture = method.texture.make(prior, x, x, flow)

    def make() -> object:
        with method.autocast():
            return method.texture.make(prior, x, x, flow)

    def condition() -> object:
        with method.autocast():
            return method.tcm(x, lr, texture, t, prior.prompt, prior.labels(x.device))

    return {
        "guidance (decode and warp)": Work(make, pairs * textures(method)),
        "temporal conditioning module": Work(condition, pairs * method.sampler.steps),
    }


def textures(method: Any) -> float:
    """Textures made per guided frame: one a step, fewer with method.refresh, one in all where frames go in turn."""
    steps = method.sampler.steps
    if method.strategy == "auto_regressive":
        return 1.0
    if method.strategy == "unidirectional":
        return float(-(-steps // method.refresh))
    forward, backward = -(-steps // 2), steps // 2
    return float(-(-forward // method.refresh) + -(-backward // method.refresh))
