"""One diffusion step over the frames of a clip, one after the other, each guided by the frame visited before it."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from vsrbench.diffusion.guided import Residuals
from vsrbench.diffusion.prior import Prior
from vsrbench.types import Clip, Trace

# guide(frame, frame visited before, its x0) -> what to add, and what the trace should see of it
Guide = Callable[[int, int, Tensor], tuple[Residuals, dict[str, Tensor]]]


def visits(frames: int, direction: int) -> Iterable[int]:
    """Frame numbers in visiting order; direction -1: guided by the previous frame, so from front to back."""
    return range(frames) if direction == -1 else reversed(range(frames))


def guided_pass(
    prior: Prior, clip: Clip, x: Tensor, t: int, order: Iterable[int], guide: Guide, step: int, trace: Trace | None
) -> Tensor:
    """x0 (B,T,4,h,w) of all frames at timestep t; the first visited frame runs without guidance.

    The trace sees per frame x, output and x0 (B,4,h,w each) and what ``guide`` gives it.
    """
    found: dict[int, Tensor] = {}
    before: int | None = None
    for frame in order:
        residuals, seen = (None, {}) if before is None else guide(frame, before, found[before])
        output = prior.predict(x[:, frame], clip.lr[:, frame], t, residuals)
        found[frame] = prior.schedule.x0(x[:, frame], output.float(), t)
        if trace is not None:
            trace.on_step(step, frame, x=x[:, frame], output=output, x0=found[frame], **seen)
        before = frame
    return torch.stack([found[frame] for frame in range(clip.frames)], dim=1)


def named(residuals: Residuals) -> dict[str, Tensor]:
    """Residuals as the trace sees them: ``down0..``, ``mid``, ``up0..``."""
    down = {f"down{i}": r for i, r in enumerate(residuals.encoder)}
    up = {f"up{i}": r for i, r in enumerate(residuals.decoder)}
    return {**down, "mid": residuals.middle, **up}
