"""DGAF-VSR sampling: as printed (all frames of a diffusion step at once) and as released (frame after frame).

Legend: x = z_t, x0 = noise-free approximation (Eq. 3), aligned = the neighbour's x0 after OGWM.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vsrbench.diffusion.frames import Steps, folded, initial_latents, noised_lr, visits
from vsrbench.diffusion.guided import Residuals
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.flow.bank import FlowBank
from vsrbench.methods.dgaf.guidance import Guidance
from vsrbench.methods.dgaf.networks import GuidingUNet
from vsrbench.types import Clip, Progress, Trace


@dataclass(frozen=True)
class Sampling:
    """What stays the same over the steps of one clip: networks, LR frames, flows, knobs, frames per call."""

    prior: Prior
    guide: GuidingUNet
    sampler: Sampler
    guidance: Guidance
    clip: Clip
    flows: FlowBank
    batch: int = 4
    trace: Trace | None = None


def sample(
    run: Sampling, noise: NoiseSource, stop: int | None = None, progress: Progress | None = None
) -> tuple[Tensor, Tensor | None]:
    """Latents (B,T,4,h,w) after the last step, and what guides the next: the last x0, or z_t-1→0.

    stop: end before this step (training looks inside).

    As printed (Sec. 4.1): the neighbour's x0 is that of the previous diffusion step, so frames do not wait for each
    other; the first step and the border frames run unguided.
    """
    if run.guidance.same_step:
        return sample_in_turn(run, noise, stop, progress)
    x = initial_latents(run.prior, run.sampler, run.clip, noise, run.batch)
    run = replace(run, clip=noised_lr(run.prior, run.clip, noise))
    x0: Tensor | None = None
    source: Tensor | None = None
    steps = Steps(run.prior.schedule, run.sampler, run.clip, noise, stop, run.trace, progress)
    for step, t in steps:
        last, guided = x0, None
        if source is not None:
            guided = align_neighbours(source, run.flows, run.guidance, step)  # OGWM, in pairs of steps
            if run.trace is not None:
                run.trace.on_step(step, None, aligned=guided[0])
        x0 = predict_x0(run, x, t, guided)  # FTCM, Eq. 3
        before, x = x, steps.update(step, x, x0, last)
        source = x0 if run.guidance.projection == "z_t" else projected(run, before, x, x0, step)
    return x, source


def sample_in_turn(
    run: Sampling, noise: NoiseSource, stop: int | None = None, progress: Progress | None = None
) -> tuple[Tensor, Tensor | None]:
    """The same as released: one frame after the other, each guided by the x0 of the frame before it in this very step.

    Forward in even steps, backward in odd ones; the first frame of every pass runs without the guide. The trace sees
    per frame x, output, x0, the aligned x0 and what the guide adds.
    """
    prior, schedule = run.prior, run.prior.schedule
    x, x0 = initial_latents(prior, run.sampler, run.clip, noise, run.batch), None
    clip = noised_lr(prior, run.clip, noise)
    steps = Steps(schedule, run.sampler, clip, noise, stop, run.trace, progress)
    for step, t in steps:
        frames: dict[int, Tensor] = {}
        before: int | None = None
        for i in visits(clip.frames, run.guidance.direction(step)):
            residuals, inputs = None, {}
            if before is not None:
                aligned = run.guidance.align_neighbour(frames[before], run.flows.flow_to(i, before))
                residuals = guide_residuals(run, x[:, i], clip.lr[:, i], aligned, t)
                inputs = {"aligned": aligned, **residuals.named()}
            output = prior.predict(x[:, i], clip.lr[:, i], t, residuals)
            frames[i] = schedule.x0(x[:, i], output.float(), t)
            if run.trace is not None:
                run.trace.on_step(step, i, x=x[:, i], output=output, x0=frames[i], **inputs)
            before = i
        last, x0 = x0, torch.stack([frames[i] for i in range(clip.frames)], dim=1)
        x = steps.update(step, x, x0, last)
    return x, x0


def projected(run: Sampling, x: Tensor, following: Tensor, x0: Tensor, step: int) -> Tensor:
    """z_t-1→0 (B,T,4,h,w), Sec. 4.2: Eq. 3 on the step's result ``following`` and its estimate of the noise in x."""
    schedule, visited = run.prior.schedule, run.sampler.timesteps(run.prior.schedule)
    if step + 1 == len(visited):
        return x0  # nothing comes after it
    return schedule.project(following, schedule.eps(x, x0, visited[step]), visited[step + 1])


def align_neighbours(x0: Tensor, flows: FlowBank, guidance: Guidance, step: int) -> tuple[Tensor, list[bool]]:
    """OGWM for every frame that has a neighbour to be guided by: (B,T,4,h,w), zeros elsewhere, and who has one."""
    count, shift = x0.shape[1], guidance.direction(step)
    has = [0 <= i + shift < count for i in range(count)]
    frames = [
        guidance.align_neighbour(x0[:, i + shift], flows.flow_to(i, i + shift))
        if has[i]
        else torch.zeros_like(x0[:, i])
        for i in range(count)
    ]
    return torch.stack(frames, dim=1), has


def predict_x0(run: Sampling, x: Tensor, t: int, aligned: tuple[Tensor, list[bool]] | None) -> Tensor:
    """x0 (B,T,4,h,w) of all frames at timestep t; frames without a guide get zero residuals, so none."""
    clips, count = x.shape[:2]
    flat_x, flat_lr = folded(x), folded(run.clip.lr)
    has = (aligned[1] if aligned is not None else [False] * count) * clips
    outputs = []
    for rows in torch.arange(clips * count).split(run.batch):
        residuals = None
        guided = [i for i, row in enumerate(rows.tolist()) if has[row]]
        if aligned is not None and guided:
            flat = rows[guided]
            own = guide_residuals(run, flat_x[flat], flat_lr[flat], folded(aligned[0])[flat], t)
            residuals = own.map(lambda r, n=len(rows), g=guided: _scatter(r, g, n))  # type: ignore[misc]
        output = run.prior.predict(flat_x[rows], flat_lr[rows], t, residuals)
        outputs.append(run.prior.schedule.x0(flat_x[rows], output.float(), t))
    return torch.cat(outputs).view_as(x)


def guide_residuals(run: Sampling, x: Tensor, lr: Tensor, aligned: Tensor, t: int) -> Residuals:
    """What the guide adds for frames x, aligned (N,4,h,w) and lr (N,3,h,w)."""
    return run.guide(x, lr, aligned, t, run.prior.prompt, run.prior.labels(x.device))


def _scatter(rows: Tensor, positions: list[int], total: int) -> Tensor:
    if len(positions) == total:
        return rows
    full = rows.new_zeros(total, *rows.shape[1:])
    full[positions] = rows
    return full
