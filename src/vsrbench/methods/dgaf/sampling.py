"""DGAF-VSR sampling: as printed (all frames of a diffusion step at once) and as released (frame after frame).

Legend: x = z_t, x0 = noise-free approximation (Eq. 3), aligned = the neighbour's x0 after OGWM.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vsrbench.diffusion.frames import denoise
from vsrbench.diffusion.guided import Residuals
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.passes import guided_pass, named, visits
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
    """Latents (B,T,4,h,w) after the last step, and the last x0. stop: end before this step (training looks inside).

    Printed (Sec. 4.1): the neighbour's x0 is that of the previous diffusion step, so frames do not wait for each
    other; the first step and the border frames run unguided.
    """
    predict = in_turn(run) if run.guidance.same_step else together(run)
    return denoise(run.prior, run.sampler, run.clip, noise, predict, run.batch, stop, run.trace, progress)


def together(run: Sampling) -> Callable[[int, int, Tensor, Tensor | None], Tensor]:
    """x0 of all frames of a step, guided by the step before."""

    def predict(step: int, t: int, x: Tensor, x0: Tensor | None) -> Tensor:
        if x0 is None:
            return predict_x0(run, x, t, None)
        aligned, has = align_neighbours(x0, run.flows, run.guidance, step)
        if run.trace is not None:
            run.trace.on_step(step, None, aligned=aligned)
        return predict_x0(run, x, t, (aligned, has))

    return predict


def in_turn(run: Sampling) -> Callable[[int, int, Tensor, Tensor | None], Tensor]:
    """As released: one frame after the other, each guided by the x0 of the frame before it in this very step.

    Forward in even steps, backward in odd ones; the first frame of every pass runs without the guide.
    """

    def predict(step: int, t: int, x: Tensor, x0: Tensor | None) -> Tensor:
        def guide(frame: int, before: int, x0: Tensor) -> tuple[Residuals, dict[str, Tensor]]:
            aligned = run.guidance.align_neighbour(x0, run.flows.flow_to(frame, before))
            residuals = guide_residuals(run, x[:, frame], run.clip.lr[:, frame], aligned, t)
            return residuals, {"aligned": aligned, **named(residuals)}

        order = visits(run.clip.frames, run.guidance.direction(step))
        return guided_pass(run.prior, run.clip, x, t, order, guide, step, run.trace)

    return predict


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
    flat_x, flat_lr = x.flatten(0, 1), run.clip.lr.flatten(0, 1)
    has = (aligned[1] if aligned is not None else [False] * count) * clips
    outputs = []
    for rows in torch.arange(clips * count).split(run.batch):
        residuals = None
        guided = [i for i, row in enumerate(rows.tolist()) if has[row]]
        if aligned is not None and guided:
            flat = rows[guided]
            found = guide_residuals(run, flat_x[flat], flat_lr[flat], aligned[0].flatten(0, 1)[flat], t)
            residuals = found.map(lambda r, n=len(rows), g=guided: _scatter(r, g, n))  # type: ignore[misc]
        output = run.prior.predict(flat_x[rows], flat_lr[rows], t, residuals)
        outputs.append(run.prior.schedule.x0(flat_x[rows], output.float(), t))
    return torch.cat(outputs).unflatten(0, (clips, count))


def guide_residuals(run: Sampling, x: Tensor, lr: Tensor, aligned: Tensor, t: int) -> Residuals:
    """What the guide adds for frames x, aligned (N,4,h,w) and lr (N,3,h,w)."""
    return run.guide(x, lr, aligned, t, run.prior.prompt, run.prior.labels(x.device))


def _scatter(rows: Tensor, positions: list[int], total: int) -> Tensor:
    if len(positions) == total:
        return rows
    full = rows.new_zeros(total, *rows.shape[1:])
    full[positions] = rows
    return full
