"""StableVSR sampling: Frame-wise Bidirectional Sampling (Algorithm 1) and the strategies it is compared with (Table 2).

Legend: x = x_t, x0 = noise-free approximation (Eq. 6), texture = the warped neighbour that conditions the TCM (Eq. 8).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vsrbench.diffusion.frames import Steps, initial_latents, noised_lr, unguided, visits
from vsrbench.diffusion.guided import Residuals
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.flow.bank import FlowBank
from vsrbench.methods.stablevsr.networks import TemporalConditioning
from vsrbench.methods.stablevsr.texture import Texture
from vsrbench.types import Clip, Progress, Trace

STRATEGIES = ("bidirectional", "unidirectional", "auto_regressive", "single_frame")


@dataclass(frozen=True)
class Sampling:
    """What stays the same over the steps of one clip.

    refresh: make a frame's texture anew at every so many-th step that is guided from the same side (1: always, as
    printed); in between the last one is used again (ours).
    """

    prior: Prior
    tcm: TemporalConditioning
    sampler: Sampler
    texture: Texture
    clip: Clip
    flows: FlowBank
    strategy: str = "bidirectional"
    refresh: int = 1
    batch: int = 4
    trace: Trace | None = None
    kept: dict[tuple[int, int], tuple[int, Tensor]] = field(default_factory=dict)


def direction(strategy: str, step: int) -> int:
    """-1: information runs forward in time (guided by the previous frame), +1: backward (Alg. 1 l. 12)."""
    return 1 if strategy == "bidirectional" and step % 2 else -1


def sample(
    run: Sampling, noise: NoiseSource, stop: int | None = None, progress: Progress | None = None
) -> tuple[Tensor, Tensor | None]:
    """Algorithm 1 (and the strategies of Table 2 beside it): latents (B,T,4,h,w) after the last step, and the last x0.

    stop: end before this step (training looks inside). The trace sees per frame x, output, x0, the texture and what the
    TCM adds, per step x0 and x.
    """
    if run.strategy == "auto_regressive":
        return frame_after_frame(run, noise, progress), None
    prior, schedule = run.prior, run.prior.schedule
    x, x0 = initial_latents(prior, run.sampler, run.clip, noise, run.batch), None  # l. 1-3
    clip = noised_lr(prior, run.clip, noise)
    steps = Steps(schedule, run.sampler, clip, noise, stop, run.trace, progress)
    for step, t in steps:  # l. 4
        last = x0
        if run.strategy == "single_frame":
            x0 = unguided(prior, clip, x, t, run.batch)
        else:
            frames: dict[int, Tensor] = {}
            before: int | None = None
            for i in visits(clip.frames, direction(run.strategy, step)):  # l. 5; its direction: l. 12
                residuals, inputs = None, {}
                if before is not None:
                    texture = refreshed(run, step, i, before, frames[before], x[:, before])  # l. 6, Eq. 8
                    residuals = tcm_residuals(run, x[:, i], clip.lr[:, i], texture, t)
                    inputs = {"texture": texture, **residuals.named()}
                output = prior.predict(x[:, i], clip.lr[:, i], t, residuals)  # l. 7
                frames[i] = schedule.x0(x[:, i], output.float(), t)  # l. 8, Eq. 6
                if run.trace is not None:
                    run.trace.on_step(step, i, x=x[:, i], output=output, x0=frames[i], **inputs)
                before = i
            x0 = torch.stack([frames[i] for i in range(clip.frames)], dim=1)
        x = steps.update(step, x, x0, last)  # l. 9-10, Eq. 5
    return x, x0  # l. 14: see ``StableVSR.upscale``


def refreshed(run: Sampling, step: int, frame: int, before: int, x0: Tensor, x_t: Tensor) -> Tensor:
    """The texture of a frame at a step (Eq. 8), or the one kept from an earlier step of the same side."""
    last_step, texture = run.kept.get((frame, before), (-1, None))
    stride = 2 if run.strategy == "bidirectional" else 1
    if texture is None or step - last_step >= run.refresh * stride:
        texture = run.texture.make(run.prior, x0, x_t, run.flows.flow_to(frame, before))
        if run.refresh > 1:
            run.kept[frame, before] = (step, texture)
    return texture


def frame_after_frame(run: Sampling, noise: NoiseSource, progress: Progress | None) -> Tensor:
    """All steps of one frame before the next, which is guided by the finished one (Table 2, auto-regressive)."""
    prior = run.prior
    if progress is not None:
        progress.start(run.sampler.steps * run.clip.lr.shape[0] * run.clip.frames, "frame steps")
    finished: list[Tensor] = []
    for i in range(run.clip.frames):
        clip, texture = run.clip.window(i, i + 1), None
        lr = noised_lr(prior, clip, noise).lr[:, 0]
        if finished:  # the result itself is the guidance: it holds no noise, so x_t and x0 are the same
            texture = run.texture.make(prior, finished[-1], finished[-1], run.flows.flow_to(i, i - 1))
        x = initial_latents(prior, run.sampler, clip, noise, run.batch)
        x0: Tensor | None = None
        steps = Steps(prior.schedule, run.sampler, clip, noise)
        for step, t in steps:
            residuals = None if texture is None else tcm_residuals(run, x[:, 0], lr, texture, t)
            output = prior.predict(x[:, 0], lr, t, residuals)
            last, x0 = x0, prior.schedule.x0(x[:, 0], output.float(), t).unsqueeze(1)
            if run.trace is not None:
                run.trace.on_step(step, i, x=x[:, 0], output=output, x0=x0[:, 0])
            if progress is not None:
                progress.advance(len(x))
            x = steps.update(step, x, x0, last)
        finished.append(x[:, 0])
    return torch.stack(finished, dim=1)


def tcm_residuals(run: Sampling, x: Tensor, lr: Tensor, texture: Tensor, t: int) -> Residuals:
    """What the TCM adds for frames x (B,4,h,w), lr (B,3,h,w)."""
    return run.tcm(x, lr, texture, t, run.prior.prompt, run.prior.labels(x.device))
