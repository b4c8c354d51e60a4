"""DGAF-VSR sampling: all frames of a diffusion step as one batch, guided by their neighbours' last x0.

Legend: x = z_t, x0 = noise-free approximation (Eq. 3), aligned = the neighbour's x0 after OGWM.
"""

import torch
from torch import Tensor

from vsrbench.diffusion.frames import denoise
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.flow.bank import FlowBank
from vsrbench.methods.dgaf.networks import GuidingUNet, upscale_warp_downscale
from vsrbench.types import Clip, Progress, Trace


def direction(step: int) -> int:
    """-1: guided by the previous frame, +1: by the next; they alternate in pairs of steps (Sec. 4)."""
    return -1 if step % 2 == 0 else 1


def exact_context(steps: int) -> int:
    """Neighbour frames on either side that can influence a frame: each guided step reaches one frame on."""
    guided = [direction(step) for step in range(1, steps)]  # the first step has no x0 to be guided by
    return max(guided.count(-1), guided.count(1))


def sample(
    prior: Prior,
    guide: GuidingUNet | None,
    sampler: Sampler,
    clip: Clip,
    flows: FlowBank,
    noise: NoiseSource,
    rescale: int = 4,
    batch: int = 4,
    stop: int | None = None,
    trace: Trace | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Latents (B,T,4,h,w) after the last step, and the last x0.

    Sec. 4.1: the neighbour's x0 is that of the previous diffusion step, so frames do not wait for each other.
    The first step and the border frames run unguided. stop: end before this step (training looks inside).
    """

    def predict(step: int, t: int, x: Tensor, x0: Tensor | None) -> Tensor:
        if guide is None or x0 is None:
            return predict_x0(prior, None, clip, x, t, None, batch)
        aligned, has = align_neighbours(x0, flows, direction(step), rescale)
        if trace is not None:
            trace.on_step(step, None, aligned=aligned)
        return predict_x0(prior, guide, clip, x, t, (aligned, has), batch)

    return denoise(prior, sampler, clip, noise, predict, batch, stop, trace, progress)


def align_neighbours(x0: Tensor, flows: FlowBank, shift: int, rescale: int) -> tuple[Tensor, list[bool]]:
    """OGWM for every frame that has a neighbour at ``shift``: (B,T,4,h,w), zeros elsewhere, and who has one."""
    count = x0.shape[1]
    has = [0 <= i + shift < count for i in range(count)]
    frames = [
        upscale_warp_downscale(x0[:, i + shift], flows.toward(i, i + shift), rescale)
        if has[i]
        else torch.zeros_like(x0[:, i])
        for i in range(count)
    ]
    return torch.stack(frames, dim=1), has


def predict_x0(
    prior: Prior,
    guide: GuidingUNet | None,
    clip: Clip,
    x: Tensor,
    t: int,
    aligned: tuple[Tensor, list[bool]] | None,
    batch: int,
) -> Tensor:
    """x0 (B,T,4,h,w) of all frames at timestep t; frames without a guide get zero residuals, so none."""
    clips, count = x.shape[:2]
    flat_x, flat_lr = x.flatten(0, 1), clip.lr.flatten(0, 1)
    has = (aligned[1] if aligned is not None else [False] * count) * clips
    outputs = []
    for rows in torch.arange(clips * count).split(batch):
        residuals = None
        guided = [i for i, row in enumerate(rows.tolist()) if has[row]]
        if guide is not None and aligned is not None and guided:
            flat = rows[guided]
            given = aligned[0].flatten(0, 1)[flat]
            found = guide(flat_x[flat], flat_lr[flat], given, t, prior.prompt, prior.labels(x.device))
            residuals = found.map(lambda r, n=len(rows), g=guided: _scatter(r, g, n))  # type: ignore[misc]
        output = prior.predict(flat_x[rows], flat_lr[rows], t, residuals)
        outputs.append(prior.schedule.x0(flat_x[rows], output.float(), t))
    return torch.cat(outputs).unflatten(0, (clips, count))


def _scatter(rows: Tensor, positions: list[int], total: int) -> Tensor:
    if len(positions) == total:
        return rows
    full = rows.new_zeros(total, *rows.shape[1:])
    full[positions] = rows
    return full
