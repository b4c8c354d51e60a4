"""Training of DGAF-VSR: as printed (Supp. 7), as released, and on the sampler's own trajectory."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.frames import frame_noise, noised_lr, on_prior_grid
from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.diffusion.objective import draw_choice, over_steps
from vsrbench.diffusion.pairs import GuidedLoss, NoisedPair, encode, noised_pair
from vsrbench.diffusion.samplers import ddpm
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
    draws = 8

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

    @property
    def guided(self) -> GuidedLoss:
        """Of the frozen U-Net's output, guided by the neighbour's aligned x0."""
        method = self.method
        return GuidedLoss(method.prior, method.guide, self.objective, method.sampler.low_band, self.checkpointing)

    def losses_on_truth(self, clip: Clip, noise: NoiseSource, trace: Trace | None) -> dict[str, Tensor]:
        """Loss terms for the middle frame of three, guided by the previous or the next one (each half of the time)."""
        method, prior = self.method, self.method.prior
        # Sec. 4.1: the neighbour's x0 comes from the previous, noisier diffusion step.
        # ours: how training mirrors that is not printed; the gap is the sampler's own.
        gap = 0 if method.guidance.same_step else method.sampler.gap(prior.schedule)
        choices = draw_choice(noise, clip, "neighbour", 2)
        drawn = noised_pair(prior, clip, choices, method.flow, method.flow_frames, noise, self.posterior, gap)
        with torch.no_grad():
            aligned = method.guidance.align_neighbour(self._projected(drawn, noise), drawn.flow)
        return self.guided.of_pair(drawn, aligned, aligned, trace)

    def _projected(self, drawn: NoisedPair, noise: NoiseSource) -> Tensor:
        """The neighbour's noise-free approximation as sampling has it one step later; see ``Guidance.projection``."""
        method, schedule = self.method, self.method.prior.schedule
        if method.guidance.projection == "z_t" or method.sampler.kind != "ddpm":
            return drawn.x0  # deterministic steps leave it as it is
        abar, later = schedule.abar(drawn.earlier, drawn.x0), schedule.abar(drawn.t, drawn.x0)
        fresh = frame_noise(noise, drawn.neighbour, tuple(drawn.x0.shape[1:]), "step")[:, 0]
        moved = ddpm(drawn.noised, drawn.x0, abar, later, fresh)
        return schedule.project(moved, schedule.eps(drawn.noised, drawn.x0, drawn.earlier), drawn.t)

    def losses_on_trajectory(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """ours: sample without gradients up to a random guided step, then learn that step's target.

        The step decides the neighbour, as it does in sampling. Raises ConfigError where the sampler has no guided
        step, or frames wait for each other.
        """
        method, sampler = self.method, self.method.sampler
        if sampler.steps < 2:
            raise ConfigError("module.trajectory=true needs sampler.steps=2 or more: the first step is not guided")
        if method.guidance.same_step:
            raise ConfigError("module.trajectory=true needs method.neighbours=last_step")
        return over_steps(noise, clip, range(1, sampler.steps), lambda step, part: self._at_step(step, part, noise))

    def _at_step(self, step: int, part: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss terms of the middle frames at one step of the sampler."""
        method = self.method
        previous = method.guidance.direction(step) == -1
        frames, place = (part.window(0, 2), 1) if previous else (part.window(1, 3), 0)
        with torch.no_grad():
            flows = method.flows(frames)
            run = replace(method.sampling(frames, flows), batch=len(part.name))
            x, x0 = sample(run, noise, stop=step)
            assert x0 is not None
            aligned, _ = align_neighbours(x0, flows, method.guidance, step)
            current = noised_lr(method.prior, frames.window(place, place + 1), noise)
            latent = encode(method.prior, current, noise)
        t = torch.full((len(part.name),), method.sampler.timesteps(method.prior.schedule)[step], device=x.device)
        return self.guided.terms(x[:, place], current, aligned[:, place], aligned[:, place], t, latent)
