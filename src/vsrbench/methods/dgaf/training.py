"""One training step of DGAF-VSR: as printed (Supp. 7), as released, and on the sampler's own trajectory."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import draw_choice, draw_timesteps
from vsrbench.diffusion.pairs import draw_eps, encode, guided_terms, pair
from vsrbench.errors import ConfigError
from vsrbench.methods.dgaf.sampling import align_neighbours, sample
from vsrbench.types import Clip, Trace

if TYPE_CHECKING:
    from vsrbench.methods.dgaf.module import DGAF


def losses(method: "DGAF", clip: Clip, noise: NoiseSource, trace: Trace | None = None) -> dict[str, Tensor]:
    """Loss terms for the middle frame of three, guided by the previous or the next one (each half of the time)."""
    choices = draw_choice(noise, clip, "neighbour", 2)
    current, neighbour, flow = pair(clip, choices, method.flow, method.flow_frames)
    prior, schedule = method.prior, method.prior.schedule
    t = draw_timesteps(noise, clip, schedule.length)
    earlier = t
    if not method.guidance.same_step:
        # Sec. 4.1: the neighbour's x0 comes from the previous, noisier diffusion step.
        # ours: how training mirrors that is not printed; the gap is the sampler's own.
        earlier = (t + method.sampler.gap(schedule)).clamp(max=schedule.length - 1)
    with torch.no_grad():
        latent, beside = (encode(prior, frame, noise, method.posterior) for frame in (current, neighbour))
        eps = draw_eps(prior, current, noise)
        x_t = schedule.add_noise(latent, eps, t)
        noised = schedule.add_noise(beside, draw_eps(prior, neighbour, noise), earlier)
        output = prior.predict(noised, neighbour.lr[:, 0], earlier)
        aligned = method.guidance.bring(schedule.x0(noised, output.float(), earlier), flow)
    if trace is not None:
        target = schedule.target(latent, eps, t)
        trace.on_step(0, None, x_neighbour=noised, output_neighbour=output, guidance=aligned, x=x_t, target=target)
    return guided_terms(method, method.guide, x_t, current, aligned, aligned, t, latent, eps, trace)


def losses_on_trajectory(method: "DGAF", clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
    """ours: sample without gradients up to a random guided step, then learn that step's target.

    Each sample draws its own step; samples of one step run together. The step decides the neighbour,
    as it does in sampling. Raises ConfigError where the sampler has no guided step, or frames wait for each other.
    """
    if method.sampler.steps < 2:
        raise ConfigError("method.trajectory=true needs sampler.steps=2 or more: the first step is not guided")
    if method.guidance.same_step:
        raise ConfigError("method.trajectory=true needs method.neighbours=last_step")
    steps = draw_choice(noise, clip, "step", method.sampler.steps - 1)
    sums: dict[str, Tensor] = {}
    for step in range(1, method.sampler.steps):
        rows = [b for b, drawn in enumerate(steps) if drawn + 1 == step]
        if not rows:
            continue
        part = clip.rows(rows)
        previous = method.guidance.direction(step) == -1
        frames = part.window(0, 2) if previous else part.window(1, 3)
        place = 1 if previous else 0
        with torch.no_grad():
            flows = method.flows(frames)
            run = replace(method.sampling(frames, flows), batch=len(rows))
            x, x0 = sample(run, noise, stop=step)
            assert x0 is not None
            aligned, _ = align_neighbours(x0, flows, method.guidance, step)
            current = frames.window(place, place + 1)
            assert current.hr is not None
            latent = method.prior.encode(current.hr[:, 0])
        t = torch.full((len(rows),), method.sampler.timesteps(method.prior.schedule)[step], device=x.device)
        guidance = aligned[:, place]
        found = guided_terms(method, method.guide, x[:, place], current, guidance, guidance, t, latent)
        for name, value in found.items():
            sums[name] = sums.get(name, 0) + value * len(rows) / len(steps)
    return sums
