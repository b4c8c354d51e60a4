"""Training of StableVSR: Algorithm 2, as released, on the sampler's own trajectory, and of the prior."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.frames import noised_lr
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import draw_choice, draw_timesteps, objective, over_steps
from vsrbench.diffusion.pairs import GuidedLoss, draw_eps, encode, noised_pair
from vsrbench.errors import ConfigError
from vsrbench.flow.rescaled import upscale_warp_downscale
from vsrbench.methods.module import MethodModule
from vsrbench.methods.stablevsr.model import StableVSR
from vsrbench.methods.stablevsr.sampling import direction, sample
from vsrbench.types import Clip, Trace


class StableVSRModule(MethodModule):
    """stage=tcm trains the temporal conditioning module; stage=prior the upscaler's U-Net on single frames.

    neighbour: the "previous" frame (Algorithm 2) or a "random" one of the two (released). posterior: the VAE's "mode"
    or a "sample" of it (released). objective: weights of the loss terms. trajectory: train on the x_t that the sampler
    really visits (ours, for few-step sampling). checkpointing: recompute features in the backward pass to save memory.
    """

    method: StableVSR
    draws = 8

    @check_arguments("module")
    def __init__(
        self,
        method: StableVSR,
        neighbour: Literal["previous", "random"] = "previous",
        posterior: Literal["mode", "sample"] = "mode",
        objective: Mapping[str, float] | None = None,
        trajectory: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(method)
        self.neighbour, self.posterior = neighbour, posterior
        self.objective = dict(objective or {"prediction": 1.0})
        self.trajectory, self.checkpointing = trajectory, checkpointing

    def frozen_hashes(self) -> dict[str, str]:
        """stage=prior tunes the U-Net alone: the TCM, which takes no part, need not be the same later."""
        hashes = super().frozen_hashes()
        return {name: value for name, value in hashes.items() if self.stage != "prior" or name != "tcm"}

    def losses(self, clip: Clip, noise: NoiseSource, trace: Trace | None = None) -> dict[str, Tensor]:
        """Of the current stage."""
        if self.stage == "prior":
            return self.prior_losses(clip, noise)
        if self.trajectory:
            return self.losses_on_trajectory(clip, noise)
        return self.losses_on_truth(clip, noise, trace)

    @property
    def guided(self) -> GuidedLoss:
        """Of the frozen U-Net's output, conditioned on the neighbour's texture."""
        method = self.method
        return GuidedLoss(method.prior, method.tcm, self.objective, method.sampler.low_band, self.checkpointing)

    def losses_on_truth(self, clip: Clip, noise: NoiseSource, trace: Trace | None) -> dict[str, Tensor]:
        """Algorithm 2 for the middle frame of three; the neighbour is the previous one, or either (as released).

        Line 7 of the algorithm is printed with the clean latent; as in Eq. 6 it must be, and is here, the noisy one.
        """
        choices = [0] * len(clip.name) if self.neighbour == "previous" else draw_choice(noise, clip, "neighbour", 2)
        method, prior = self.method, self.method.prior
        drawn = noised_pair(prior, clip, choices, method.flow, method.flow_frames, noise, self.posterior)  # l. 2-7
        with torch.no_grad():
            texture = method.texture.make(prior, drawn.x0, drawn.noised, drawn.flow)  # l. 8, Eq. 8
        return self.guided.of_pair(drawn, texture, self._aligned(drawn.x0, drawn.flow), trace)  # l. 10, Eq. 9

    def losses_on_trajectory(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """ours: sample a pair of frames without gradients up to a random step, then learn that step's target.

        The step decides the neighbour, as in sampling. Raises ConfigError for a strategy that does not take a step on
        all frames before the next.
        """
        method = self.method
        if method.strategy not in ("bidirectional", "unidirectional"):
            raise ConfigError(f"module.trajectory=true trains with a frame-wise strategy, not {method.strategy}")
        steps = range(method.sampler.steps)
        return over_steps(noise, clip, steps, lambda step, part: self._at_step(step, part, noise))

    def _at_step(self, step: int, part: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss terms of the middle frames at one step of the sampler."""
        method, prior = self.method, self.method.prior
        previous = direction(method.strategy, step) == -1
        frames = part.window(0, 2) if previous else part.window(1, 3)
        place, beside = (1, 0) if previous else (0, 1)
        with torch.no_grad():
            flows = method.flows(frames)
            x, _ = sample(replace(method.sampling(frames, flows), batch=len(part.name)), noise, stop=step)
            t = torch.full((len(part.name),), method.sampler.timesteps(prior.schedule)[step], device=x.device)
            network_input = noised_lr(prior, frames, noise)
            # the neighbour is visited first, so it is unguided
            output = prior.predict(x[:, beside], network_input.lr[:, beside], t)
            x0 = prior.schedule.x0(x[:, beside], output.float(), t)
            flow = flows.flow_to(place, beside)
            texture = method.texture.make(prior, x0, x[:, beside], flow)
            current = network_input.window(place, place + 1)
            latent = encode(prior, current, noise)
        return self.guided.terms(x[:, place], current, texture, self._aligned(x0, flow), t, latent)

    def prior_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """stage=prior: the x4 upscaler's U-Net learns the data set frame by frame, without the TCM.

        The published weights were made so: their U-Net is no longer that of the public upscaler.
        """
        frame, prior = clip.window(1, 2), self.method.prior
        t = draw_timesteps(noise, frame, prior.schedule.length)
        with torch.no_grad():
            latent, eps = encode(prior, frame, noise, self.posterior), draw_eps(prior, frame, noise)
            x_t = prior.schedule.add_noise(latent, eps, t)
        lr = noised_lr(prior, frame, noise).lr[:, 0]
        output = prior.predict(x_t, lr, t, checkpointing=self.checkpointing)
        assert frame.hr is not None
        return objective(prior, {"prediction": 1.0}, x_t, output.float(), t, latent, frame.hr[:, 0], eps=eps)

    @torch.no_grad()
    def _aligned(self, x0: Tensor, flow: Tensor) -> Tensor | None:
        """The neighbour's x0 on the current grid, which only the miniature's agreement term looks at."""
        return upscale_warp_downscale(x0, flow) if self.objective.get("agreement") else None
