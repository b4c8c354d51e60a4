"""Training of StableVSR: Algorithm 2, as released, on the sampler's own trajectory, and of the prior."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import draw_choice, draw_timesteps, objective
from vsrbench.diffusion.pairs import draw_eps, encode, guided_terms, pair
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

    def losses_on_truth(self, clip: Clip, noise: NoiseSource, trace: Trace | None) -> dict[str, Tensor]:
        """Algorithm 2 for the middle frame of three; the neighbour is the previous one, or either (as released).

        Line 7 of the algorithm is printed with the clean latent; as in Eq. 6 it must be, and is here, the noisy one.
        """
        choices = [0] * len(clip.name) if self.neighbour == "previous" else draw_choice(noise, clip, "neighbour", 2)
        method, prior, schedule = self.method, self.method.prior, self.method.prior.schedule
        current, neighbour, flow = pair(clip, choices, method.flow, method.flow_frames)  # l. 2
        t = draw_timesteps(noise, clip, schedule.length)  # l. 5
        with torch.no_grad():
            latent, beside = (encode(prior, frame, noise, self.posterior) for frame in (current, neighbour))  # l. 3
            eps = draw_eps(prior, current, noise)  # l. 4
            x_t = schedule.add_noise(latent, eps, t)
            noised = schedule.add_noise(beside, draw_eps(prior, neighbour, noise), t)
            output = prior.predict(noised, neighbour.lr[:, 0], t)  # l. 6
            x0 = schedule.x0(noised, output.float(), t)  # l. 7, Eq. 6
            texture = method.texture.make(prior, x0, noised, flow)  # l. 8, Eq. 8
        if trace is not None:
            target = schedule.target(latent, eps, t)
            trace.on_step(0, None, x_neighbour=noised, output_neighbour=output, guidance=texture, x=x_t, target=target)
        aligned = self._aligned(x0, flow)
        return self._terms(x_t, current, texture, aligned, t, latent, eps, trace)  # l. 10, Eq. 9

    def losses_on_trajectory(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """ours: sample a pair of frames without gradients up to a random step, then learn that step's target.

        Each sample draws its own step; samples of one step run together. The step decides the neighbour, as in
        sampling. Raises ConfigError for a strategy that does not take a step on all frames before the next.
        """
        method = self.method
        if method.strategy not in ("bidirectional", "unidirectional"):
            raise ConfigError(f"module.trajectory=true trains with a frame-wise strategy, not {method.strategy}")
        steps = draw_choice(noise, clip, "step", method.sampler.steps)
        sums: dict[str, Tensor] = {}
        for step in sorted(set(steps)):
            rows = [b for b, drawn in enumerate(steps) if drawn == step]
            part = clip.rows(rows)
            previous = direction(method.strategy, step) == -1
            frames = part.window(0, 2) if previous else part.window(1, 3)
            place, beside = (1, 0) if previous else (0, 1)
            with torch.no_grad():
                flows = method.flows(frames)
                run = replace(method.sampling(frames, flows), batch=len(rows))
                x, _ = sample(run, noise, stop=step)
                t = torch.full((len(rows),), method.sampler.timesteps(method.prior.schedule)[step], device=x.device)
                # the neighbour is visited first, so it is unguided
                output = method.prior.predict(x[:, beside], frames.lr[:, beside], t)
                x0 = method.prior.schedule.x0(x[:, beside], output.float(), t)
                flow = flows.flow_to(place, beside)
                texture = method.texture.make(method.prior, x0, x[:, beside], flow)
                current = frames.window(place, place + 1)
                latent = encode(method.prior, current, noise)
            aligned = self._aligned(x0, flow)
            found = self._terms(x[:, place], current, texture, aligned, t, latent)
            for name, value in found.items():
                sums[name] = sums.get(name, 0) + value * len(rows) / len(steps)
        return sums

    def prior_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """stage=prior: the x4 upscaler's U-Net learns the data set frame by frame, without the TCM.

        The published weights were made so: their U-Net is no longer that of the public upscaler.
        """
        frame, prior = clip.window(1, 2), self.method.prior
        t = draw_timesteps(noise, frame, prior.schedule.length)
        with torch.no_grad():
            latent, eps = encode(prior, frame, noise, self.posterior), draw_eps(prior, frame, noise)
            x_t = prior.schedule.add_noise(latent, eps, t)
        output = prior.predict(x_t, frame.lr[:, 0], t, checkpointing=self.checkpointing)
        assert frame.hr is not None
        return objective(prior, {"prediction": 1.0}, x_t, output.float(), t, latent, frame.hr[:, 0], eps=eps)

    def _terms(
        self,
        x_t: Tensor,
        current: Clip,
        texture: Tensor,
        aligned: Tensor | None,
        t: Tensor,
        latent: Tensor,
        eps: Tensor | None = None,
        trace: Trace | None = None,
    ) -> dict[str, Tensor]:
        """Of the frozen U-Net's output at x_t (B,4,h,w), conditioned on the neighbour's texture."""
        method = self.method
        return guided_terms(
            method.prior, method.tcm, self.objective, x_t, current, texture, aligned, t, latent, eps,
            method.sampler.low_band, self.checkpointing, trace,
        )  # fmt: skip

    @torch.no_grad()
    def _aligned(self, x0: Tensor, flow: Tensor) -> Tensor | None:
        """The neighbour's x0 on the current grid, which only the miniature's agreement term looks at."""
        return upscale_warp_downscale(x0, flow) if self.objective.get("agreement") else None
