"""The latent diffusion prior as a method of its own: upscales frame by frame, and trains VAE and UNet."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vsrbench.diffusion.frames import denoise, finish, frame_noise, on_prior_grid
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import draw_choice, draw_timesteps, objective
from vsrbench.diffusion.prior import Prior, save_prior, to_network
from vsrbench.diffusion.samplers import Sampler
from vsrbench.methods.base import Method, Stage
from vsrbench.types import Clip, Progress, Trace


class LDM(Method):
    """Stable Diffusion x4 upscaler (Rombach et al. 2022) or its miniature, without any temporal part.

    stage=vae trains the autoencoder, stage=unet the denoising U-Net on the frozen VAE's latents.
    objective, trajectory: as in ``DGAF``. latent_noise: largest share of noise added to latents while the
    decoder trains, so that it forgives what a sampler leaves (ours). kl: weight of the KL term. lr_enlargement: how LR
    frames of scale 8 and 16 reach the x4 prior.
    """

    stages = {
        "unet": Stage(trainable=("denoising_unet",), losses=("prediction", "x0", "pixel", "gradient")),
        "vae": Stage(trainable=("vae",), losses=("pixel", "gradient", "kl")),
    }

    def __init__(
        self,
        prior: Prior,
        sampler: Sampler,
        scale: int = 4,
        lr_enlargement: str = "bicubic",
        objective: Mapping[str, float] | None = None,
        trajectory: bool = False,
        checkpointing: bool = False,
        latent_noise: float = 0.12,
        kl: float = 1e-4,
        name: str = "ldm",
    ) -> None:
        super().__init__()
        self.prior, self.sampler = prior.eval(), sampler
        self.objective = dict(objective or {"prediction": 1.0})
        self.trajectory, self.checkpointing = trajectory, checkpointing
        self.latent_noise, self.kl = latent_noise, kl
        self.scale, self.lr_enlargement = scale, lr_enlargement
        self.multiple, self.minimum = 8 * 4 // scale, 16 * 4 // scale

    def parts(self) -> dict[str, nn.Module]:
        return {"denoising_unet": self.prior.unet, "vae": self.prior.vae}

    def export_released(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the prior as a diffusers folder, to be used as prior.path."""
        save_prior(self.prior, folder, dtype)

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        clip = on_prior_grid(clip, self.lr_enlargement)
        with self.autocast():
            latents, _ = self._sample(clip, noise, trace=trace, progress=progress)
            return finish(self.prior, self.sampler, clip, latents, self.batch)

    def _sample(
        self,
        clip: Clip,
        noise: NoiseSource,
        stop: int | None = None,
        trace: Trace | None = None,
        progress: Progress | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        def predict(step: int, t: int, x: Tensor, x0: Tensor | None) -> Tensor:
            frames = zip(x.flatten(0, 1).split(self.batch), clip.lr.flatten(0, 1).split(self.batch), strict=True)
            found = [self.prior.schedule.x0(x, self.prior.predict(x, lr, t).float(), t) for x, lr in frames]
            return torch.cat(found).view_as(x)

        return denoise(self.prior, self.sampler, clip, noise, predict, self.batch, stop, trace, progress)

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Of the current stage, on the first frame of each sample."""
        frame = on_prior_grid(clip.window(0, 1), self.lr_enlargement)
        if self.stage == "vae":
            return self._vae_losses(frame, noise)
        if self.trajectory:
            return self._losses_on_trajectory(frame, noise)
        assert frame.hr is not None
        t = draw_timesteps(noise, frame, self.prior.schedule.length)
        with torch.no_grad():
            latent = self.prior.encode(frame.hr[:, 0])
            x_t = self.prior.schedule.add_noise(latent, self._eps(noise, frame), t)
        return self._terms(x_t, frame, t, latent)

    def _losses_on_trajectory(self, frame: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """ours: sample without gradients up to a random step, then learn that step's target."""
        steps = draw_choice(noise, frame, "step", self.sampler.steps)
        sums: dict[str, Tensor] = {}
        for step in sorted(set(steps)):
            rows = [b for b, drawn in enumerate(steps) if drawn == step]
            part = frame.rows(rows)
            assert part.hr is not None
            with torch.no_grad():
                x, _ = self._sample(part, noise, stop=step)
                latent = self.prior.encode(part.hr[:, 0])
            t = torch.full((len(rows),), self.sampler.timesteps(self.prior.schedule)[step], device=x.device)
            for name, value in self._terms(x[:, 0], part, t, latent).items():
                sums[name] = sums.get(name, 0) + value * len(rows) / len(steps)
        return sums

    def _terms(self, x_t: Tensor, frame: Clip, t: Tensor, latent: Tensor) -> dict[str, Tensor]:
        output = self.prior.predict(x_t, frame.lr[:, 0], t, checkpointing=self.checkpointing)
        assert frame.hr is not None
        return objective(
            self.prior, self.objective, x_t, output.float(), t, latent, frame.hr[:, 0], low_band=self.sampler.low_band
        )

    def _vae_losses(self, frame: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Charbonnier, gradient and KL terms of a reconstruction from latents with a little noise."""
        assert frame.hr is not None
        hr = frame.hr[:, 0]
        posterior = self.prior.vae.encode(to_network(hr)).latent_dist
        share = torch.stack([noise.uniform((), "latent_noise", name) for name in frame.name]).to(hr.device)
        deviation = posterior.mean.detach().std(dim=(1, 2, 3), keepdim=True)  # of each sample by itself
        spread = deviation * self.latent_noise * share.view(-1, 1, 1, 1)
        decoded = self.prior.vae.decode(posterior.mean + spread * self._eps(noise, frame)).sample / 2 + 0.5
        error = decoded.float() - hr
        return {
            "pixel": (error.square() + 1e-6).sqrt().mean(),
            "gradient": 0.5 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()),
            "kl": self.kl * posterior.kl().mean() / posterior.mean[0].numel(),
        }

    def _eps(self, noise: NoiseSource, frame: Clip) -> Tensor:
        height, width = frame.lr.shape[-2:]
        return frame_noise(noise, frame, (self.prior.latent_channels, height, width), "eps")[:, 0]
