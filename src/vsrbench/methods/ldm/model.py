"""The latent diffusion prior as a method of its own: upscales frame by frame."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.frames import Steps, finish, initial_latents, noised_lr, on_prior_grid, unguided
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.prior import Prior, save_prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.methods.base import Method, Stage
from vsrbench.types import Clip, Progress, Trace


class LDM(Method):
    """Stable Diffusion x4 upscaler (Rombach et al. 2022) or its miniature, without any temporal part.

    stage=vae trains the autoencoder, stage=unet the denoising U-Net on the frozen VAE's latents.
    lr_enlargement: how LR frames of scale 8 and 16 reach the x4 prior. guidance_scale: of classifier-free guidance
    away from ``prior.negative_prompt``; 1: none (the stock upscaler's authors: 9, with noise level 20).
    """

    stages = {
        "unet": Stage(trainable=("denoising_unet",), losses=("prediction", "x0", "pixel", "gradient")),
        "vae": Stage(trainable=("vae",), losses=("pixel", "gradient", "kl")),
    }

    @check_arguments("method")
    def __init__(
        self,
        prior: Prior,
        sampler: Sampler,
        scale: int = 4,
        lr_enlargement: Literal["bicubic", "nearest"] = "bicubic",
        guidance_scale: Annotated[float, Ge(1)] = 1.0,
        name: str = "ldm",
    ) -> None:
        super().__init__()
        self.prior, self.sampler = prior.eval(), sampler
        self.scale, self.lr_enlargement, self.guidance_scale = scale, lr_enlargement, guidance_scale

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
            latents, _ = self.sample(clip, noise, trace=trace, progress=progress)
            return finish(self.prior, self.sampler, clip, latents, self.batch)

    def sample(
        self,
        clip: Clip,
        noise: NoiseSource,
        stop: int | None = None,
        trace: Trace | None = None,
        progress: Progress | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x (B,T,4,h,w) after the last step, or before step ``stop``, and the last x0."""
        x, x0 = initial_latents(self.prior, self.sampler, clip, noise, self.batch), None
        network_input = noised_lr(self.prior, clip, noise)
        steps = Steps(self.prior.schedule, self.sampler, clip, noise, stop, trace, progress)
        for step, t in steps:
            last, x0 = x0, unguided(self.prior, network_input, x, t, self.batch, self.guidance_scale)
            x = steps.update(step, x, x0, last)
        return x, x0
