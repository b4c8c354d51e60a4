"""Training of the latent diffusion prior: the denoising U-Net, and the VAE."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vsrbench.diffusion.frames import frame_noise, noised_lr, on_prior_grid
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import draw_timesteps, objective, over_steps
from vsrbench.diffusion.prior import to_network
from vsrbench.methods.ldm.model import LDM
from vsrbench.methods.module import MethodModule
from vsrbench.nn.functional import charbonnier
from vsrbench.types import Clip


class LDMModule(MethodModule):
    """stage=vae trains the autoencoder, stage=unet the denoising U-Net on the frozen VAE's latents.

    objective, trajectory, checkpointing: as in ``DGAFModule``. latent_noise: largest share of noise added to latents
    while the decoder trains, so that it forgives what a sampler leaves (ours). kl: weight of the KL term.
    """

    method: LDM
    draws = 8

    def __init__(
        self,
        method: LDM,
        objective: Mapping[str, float] | None = None,
        trajectory: bool = False,
        checkpointing: bool = False,
        latent_noise: float = 0.12,
        kl: float = 1e-4,
    ) -> None:
        super().__init__(method)
        self.objective = dict(objective or {"prediction": 1.0})
        self.trajectory, self.checkpointing = trajectory, checkpointing
        self.latent_noise, self.kl = latent_noise, kl

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Of the current stage, on the first frame of each sample."""
        frame = on_prior_grid(clip.window(0, 1), self.method.lr_enlargement)
        if self.stage == "vae":
            return self._vae_losses(frame, noise)
        if self.trajectory:
            return self._losses_on_trajectory(frame, noise)
        assert frame.hr is not None
        t = draw_timesteps(noise, frame, self.method.prior.schedule.length)
        with torch.no_grad():
            latent = self.method.prior.encode(frame.hr[:, 0])
            x_t = self.method.prior.schedule.add_noise(latent, self._eps(noise, frame), t)
        return self._terms(x_t, frame, t, latent, noise)

    def _losses_on_trajectory(self, frame: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """ours: sample without gradients up to a random step, then learn that step's target."""
        steps = range(self.method.sampler.steps)
        return over_steps(noise, frame, steps, lambda step, part: self._at_step(step, part, noise))

    def _at_step(self, step: int, part: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss terms at one step of the sampler."""
        method = self.method
        assert part.hr is not None
        with torch.no_grad():
            x, _ = method.sample(part, noise, stop=step)
            latent = method.prior.encode(part.hr[:, 0])
        t = torch.full((len(part.name),), method.sampler.timesteps(method.prior.schedule)[step], device=x.device)
        return self._terms(x[:, 0], part, t, latent, noise)

    def _terms(self, x_t: Tensor, frame: Clip, t: Tensor, latent: Tensor, noise: NoiseSource) -> dict[str, Tensor]:
        prior, low_band = self.method.prior, self.method.sampler.low_band
        lr = noised_lr(prior, frame, noise).lr[:, 0]
        output = prior.predict(x_t, lr, t, checkpointing=self.checkpointing)
        assert frame.hr is not None
        hr = frame.hr[:, 0]
        return objective(prior, self.objective, x_t, output.float(), t, latent, hr, low_band=low_band)

    def _vae_losses(self, frame: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Charbonnier, gradient and KL terms of a reconstruction from latents with a little noise."""
        assert frame.hr is not None
        hr = frame.hr[:, 0]
        posterior = self.method.prior.vae.encode(to_network(hr)).latent_dist
        share = torch.stack([noise.uniform((), "latent_noise", name) for name in frame.name]).to(hr.device)
        deviation = posterior.mean.detach().std(dim=(1, 2, 3), keepdim=True)  # of each sample by itself
        spread = deviation * self.latent_noise * share.view(-1, 1, 1, 1)
        decoded = self.method.prior.vae.decode(posterior.mean + spread * self._eps(noise, frame)).sample / 2 + 0.5
        error = decoded.float() - hr
        return {
            "pixel": charbonnier(error),
            "gradient": 0.5 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()),
            "kl": self.kl * posterior.kl().mean() / posterior.mean[0].numel(),
        }

    def _eps(self, noise: NoiseSource, frame: Clip) -> Tensor:
        height, width = frame.lr.shape[-2:]
        return frame_noise(noise, frame, (self.method.prior.latent_channels, height, width), "eps")[:, 0]
