"""Training of DGAF-VSR: as printed (Supp. 7), as released, and on the sampler's own trajectory."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.frames import on_prior_grid
from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.diffusion.objective import draw_choice, draw_timesteps
from vsrbench.diffusion.pairs import draw_eps, encode, guided_terms, pair
from vsrbench.errors import ConfigError
from vsrbench.methods.dgaf.model import DGAF
from vsrbench.methods.dgaf.sampling import align_neighbours, sample
from vsrbench.methods.module import MethodModule
from vsrbench.types import Clip, Trace


class DGAFModule(MethodModule):
    """The guide learns the frozen prior's own target, guided by a neighbouring frame.

    objective: weights of the loss terms ("prediction" alone as printed). posterior: the VAE's "mode", or a "sample" as
    released. train_input_bias: False leaves the guide's input bias as it is, as in a released run that starts from the
    prior (the two share that parameter there). trajectory: train on the x_t that the sampler really visits (ours, for
    few-step sampling from the noised LR frame) instead of noised ground truth. checkpointing: recompute features in
    the backward pass to save memory.
    """

    method: DGAF

    @check_arguments("module")
    def __init__(
        self,
        method: DGAF,
        objective: Mapping[str, float] | None = None,
        posterior: Literal["mode", "sample"] = "mode",
        train_input_bias: bool = True,
        trajectory: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(method)
        self.objective = dict(objective or {"prediction": 1.0})
        self.posterior, self.train_input_bias = posterior, train_input_bias
        self.trajectory, self.checkpointing = trajectory, checkpointing

    def begin_stage(self, name: str, optimiser: Any, noise: Noise, schedule: Any = None) -> None:
        super().begin_stage(name, optimiser, noise, schedule)
        self.method.guide.net.conv_in.bias.requires_grad_(self.train_input_bias)

    def losses(self, clip: Clip, noise: NoiseSource, trace: Trace | None = None) -> dict[str, Tensor]:
        """Supp. 7: the guide learns the prior's target for the middle frame of three, the prior is frozen."""
        clip = on_prior_grid(clip, self.method.lr_enlargement)
        if self.trajectory:
            return self.losses_on_trajectory(clip, noise)
        return self.losses_on_truth(clip, noise, trace)

    def losses_on_truth(self, clip: Clip, noise: NoiseSource, trace: Trace | None) -> dict[str, Tensor]:
        """Loss terms for the middle frame of three, guided by the previous or the next one (each half of the time)."""
        choices = draw_choice(noise, clip, "neighbour", 2)
        method, prior, schedule = self.method, self.method.prior, self.method.prior.schedule
        current, neighbour, flow = pair(clip, choices, method.flow, method.flow_frames)
        t = draw_timesteps(noise, clip, schedule.length)
        earlier = t
        if not method.guidance.same_step:
            # Sec. 4.1: the neighbour's x0 comes from the previous, noisier diffusion step.
            # ours: how training mirrors that is not printed; the gap is the sampler's own.
            earlier = (t + method.sampler.gap(schedule)).clamp(max=schedule.length - 1)
        with torch.no_grad():
            latent, beside = (encode(prior, frame, noise, self.posterior) for frame in (current, neighbour))
            eps = draw_eps(prior, current, noise)
            x_t = schedule.add_noise(latent, eps, t)
            noised = schedule.add_noise(beside, draw_eps(prior, neighbour, noise), earlier)
            output = prior.predict(noised, neighbour.lr[:, 0], earlier)
            aligned = method.guidance.align_neighbour(schedule.x0(noised, output.float(), earlier), flow)
        if trace is not None:
            target = schedule.target(latent, eps, t)
            trace.on_step(0, None, x_neighbour=noised, output_neighbour=output, guidance=aligned, x=x_t, target=target)
        return self._terms(x_t, current, aligned, t, latent, eps, trace)

    def losses_on_trajectory(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """ours: sample without gradients up to a random guided step, then learn that step's target.

        Each sample draws its own step; samples of one step run together. The step decides the neighbour,
        as it does in sampling. Raises ConfigError where the sampler has no guided step, or frames wait for each other.
        """
        method, sampler = self.method, self.method.sampler
        if sampler.steps < 2:
            raise ConfigError("module.trajectory=true needs sampler.steps=2 or more: the first step is not guided")
        if method.guidance.same_step:
            raise ConfigError("module.trajectory=true needs method.neighbours=last_step")
        steps = draw_choice(noise, clip, "step", sampler.steps - 1)
        sums: dict[str, Tensor] = {}
        for step in range(1, sampler.steps):
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
            t = torch.full((len(rows),), sampler.timesteps(method.prior.schedule)[step], device=x.device)
            for name, value in self._terms(x[:, place], current, aligned[:, place], t, latent).items():
                sums[name] = sums.get(name, 0) + value * len(rows) / len(steps)
        return sums

    def _terms(
        self,
        x_t: Tensor,
        current: Clip,
        aligned: Tensor,
        t: Tensor,
        latent: Tensor,
        eps: Tensor | None = None,
        trace: Trace | None = None,
    ) -> dict[str, Tensor]:
        """Of the frozen U-Net's output at x_t (B,4,h,w), guided by the neighbour's ``aligned`` x0."""
        method = self.method
        return guided_terms(
            method.prior, method.guide, self.objective, x_t, current, aligned, aligned, t, latent, eps,
            method.sampler.low_band, self.checkpointing, trace,
        )  # fmt: skip
