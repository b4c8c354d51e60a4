"""StableVSR sampling: Frame-wise Bidirectional Sampling (Algorithm 1) and the strategies it is compared with (Table 2).

Legend: x = x_t, x0 = noise-free approximation (Eq. 6), texture = the warped neighbour that conditions the TCM (Eq. 8).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vsrbench.diffusion.frames import denoise
from vsrbench.diffusion.guided import Residuals
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.passes import guided_pass, named, visits
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
    """Latents (B,T,4,h,w) after the last step, and the last x0. stop: end before this step (training looks inside)."""
    if run.strategy == "auto_regressive":
        return frame_after_frame(run, noise, progress), None

    def predict(step: int, t: int, x: Tensor, x0: Tensor | None) -> Tensor:
        if run.strategy == "single_frame":
            return alone(run, x, t)

        def guide(frame: int, before: int, x0: Tensor) -> tuple[Residuals, dict[str, Tensor]]:
            texture = refreshed(run, step, frame, before, x0, x[:, before])
            residuals = tcm_residuals(run, x[:, frame], run.clip.lr[:, frame], texture, t)
            return residuals, {"texture": texture, **named(residuals)}

        order = visits(run.clip.frames, direction(run.strategy, step))
        return guided_pass(run.prior, run.clip, x, t, order, guide, step, run.trace)

    return denoise(run.prior, run.sampler, run.clip, noise, predict, run.batch, stop, run.trace, progress)


def refreshed(run: Sampling, step: int, frame: int, before: int, x0: Tensor, x_t: Tensor) -> Tensor:
    """The texture of a frame at a step (Eq. 8), or the one kept from an earlier step of the same side."""
    made, texture = run.kept.get((frame, before), (-1, None))
    stride = 2 if run.strategy == "bidirectional" else 1
    if texture is None or step - made >= run.refresh * stride:
        texture = run.texture.make(run.prior, x0, x_t, run.flows.flow_to(frame, before))
        if run.refresh > 1:
            run.kept[frame, before] = (step, texture)
    return texture


def alone(run: Sampling, x: Tensor, t: int) -> Tensor:
    """x0 (B,T,4,h,w) without any guidance, ``batch`` frames at a time."""
    frames = zip(x.flatten(0, 1).split(run.batch), run.clip.lr.flatten(0, 1).split(run.batch), strict=True)
    found = [run.prior.schedule.x0(part, run.prior.predict(part, lr, t).float(), t) for part, lr in frames]
    return torch.cat(found).view_as(x)


def frame_after_frame(run: Sampling, noise: NoiseSource, progress: Progress | None) -> Tensor:
    """All steps of one frame before the next, which is guided by the finished one (Table 2, auto-regressive)."""
    if progress is not None:
        progress.start(run.sampler.steps * run.clip.lr.shape[0] * run.clip.frames, "frame steps")
    finished: list[Tensor] = []
    for frame in range(run.clip.frames):
        texture = None
        if finished:  # the result itself is the guidance: it holds no noise, so x_t and x0 are the same
            texture = run.texture.make(run.prior, finished[-1], finished[-1], run.flows.flow_to(frame, frame - 1))

        def predict(step: int, t: int, x: Tensor, x0: Tensor | None, frame: int = frame, texture: Any = texture) -> Any:
            lr, residuals = run.clip.lr[:, frame], None
            if texture is not None:
                residuals = tcm_residuals(run, x[:, 0], lr, texture, t)
            output = run.prior.predict(x[:, 0], lr, t, residuals)
            found = run.prior.schedule.x0(x[:, 0], output.float(), t)
            if run.trace is not None:
                run.trace.on_step(step, frame, x=x[:, 0], output=output, x0=found)
            if progress is not None:
                progress.advance(len(x))
            return found.unsqueeze(1)

        one = run.clip.window(frame, frame + 1)
        latents, _ = denoise(run.prior, run.sampler, one, noise, predict, run.batch)
        finished.append(latents[:, 0])
    return torch.stack(finished, dim=1)


def tcm_residuals(run: Sampling, x: Tensor, lr: Tensor, texture: Tensor, t: int) -> Residuals:
    """What the TCM adds for frames x (B,4,h,w), lr (B,3,h,w)."""
    return run.tcm(x, lr, texture, t, run.prior.prompt, run.prior.labels(x.device))
