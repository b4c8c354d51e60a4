"""SATeCo for the shells: settings, the four stages, upscaling."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.errors import ConfigError
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.sateco import cost, training
from vsrbench.methods.sateco.networks import Networks
from vsrbench.methods.sateco.sampling import Sampling, minimum, multiple, restore
from vsrbench.nn.perceptual import NAMES, feature_loss
from vsrbench.types import Clip, Progress, Trace

MAKES = {"upscaler": "upscaled", "unet": "decoded", "vae": "decoded"}  # what a stage is validated by


class SATeCo(Method):
    """Spatial adaptation and temporal coherence around a frozen Stable Diffusion (Chen et al., CVPR 2024).

    upscaler, encoder, guidance, refiner, init: see ``Networks``. length, overlap, colour, result: see ``Sampling``.
    objective: weights of the terms of stage=unet (``diffusion.objective``), of stage=vae (``pixel``, ``features``).
    features: network of the perceptual term, see ``feature_loss``. bridge: in stage=unet x_t holds the latent of the
    upscaled frame as far as the sampler's does (ours, for few steps).
    latent_noise: standard deviation of noise on the latents of stage=vae (ours). timesteps: those below this share of
    all are drawn in stage=unet. checkpointing: of UNet and VAE in training.

    stage=upscaler, unet, vae, refiner (Sec. 3.5), each from the run of the one before. In training ``upscale`` gives
    what the stage makes, X_u in the first and X_d in the two after it, so that this is what is validated.
    """

    stages = {
        "upscaler": Stage(("upscaler",), ("charbonnier",)),
        "unet": Stage(("latent_encoder", "unet_guidance"), ("prediction",), needs=("upscaler",)),
        "vae": Stage(("vae_guidance",), ("pixel", "features"), needs=("unet",)),
        "refiner": Stage(("refiner",), ("charbonnier",), needs=("vae",)),
    }

    def __init__(
        self,
        prior: Prior,
        sampler: Sampler,
        upscaler: Mapping[str, Any] | None = None,
        encoder: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Any] | None = None,
        refiner: Mapping[str, Any] | None = None,
        init: str = "identity",
        length: int = 6,
        overlap: int = 2,
        colour: str = "none",
        result: str = "refined",
        objective: Mapping[str, Mapping[str, float]] | None = None,
        features: str = "auto",
        bridge: bool = False,
        latent_noise: float = 0.0,
        timesteps: float = 1.0,
        checkpointing: bool = False,
        scale: int = 4,
        name: str = "sateco",
    ) -> None:
        super().__init__()
        if features not in NAMES:
            raise ConfigError(f"method.features={features}: use one of {', '.join(NAMES)}")
        if not 0 < timesteps <= 1:
            raise ConfigError(f"method.timesteps={timesteps}: use a share above 0 and up to 1")
        if latent_noise < 0:
            raise ConfigError(f"method.latent_noise={latent_noise}: use 0 or more")
        self.prior, self.sampler = prior.eval().requires_grad_(False), sampler
        self.networks = Networks(
            prior, upscaler or {}, encoder or {}, guidance or {}, refiner or {}, init=init, scale=scale
        )
        self.stages = self.stages_for({"upscaler": upscaler or {}})
        # beside weights, for they act otherwise with other settings
        parts = [sorted((part or {}).items()) for part in (upscaler, encoder, guidance)]
        self.settings = (parts, init, prior.noise_level, sorted(prior.schedule.config.items()))
        self.scale, self.multiple, self.minimum = scale, multiple(prior, scale), minimum(prior, scale)
        self.run = Sampling(prior, self.networks, sampler, length, overlap, colour=colour, result=result)
        self.objective = training.objectives(objective)
        self.features, self.bridge, self.latent_noise = features, bridge, latent_noise
        self.timesteps, self.checkpointing = timesteps, checkpointing
        self.feature_loss: nn.Module | None = None
        self.maker: str | None = None  # hash of what samples X_d for stage=refiner; made when it is asked for

    @classmethod
    def stages_for(cls, settings: Mapping[str, Any]) -> dict[str, Stage]:
        """With ``upscaler.kind=bicubic`` there is no upscaler to train."""
        if settings["upscaler"].get("kind") != "bicubic":
            return cls.stages
        rest = {name: stage for name, stage in cls.stages.items() if name != "upscaler"}
        return {**rest, "unet": replace(rest["unet"], needs=())}

    @property
    def context(self) -> int:
        return self.run.context

    def parts(self) -> dict[str, nn.Module]:
        own = self.networks
        return {
            "upscaler": own.upscaler,
            "latent_encoder": own.latent_encoder,
            "unet_guidance": own.unet_guidance,
            "vae_guidance": own.vae_guidance,
            "refiner": own.refiner,
            "denoising_unet": self.prior.unet,
            "vae": self.prior.vae,
        }

    def counted(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table: what is new by part, and what is frozen."""
        return {**self.networks.counted(), "denoising U-Net": [self.prior.unet], "VAE": [self.prior.vae]}

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work; see ``cost.work``."""
        return cost.work(self, clip)

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Fig. 2: upscaler, guided denoising, guided decoding, refiner, in windows of ``length`` frames."""
        run = replace(self.run, batch=self.batch, result=MAKES.get(self.stage, self.run.result))
        with self.autocast():
            return restore(run, clip, noise, trace, progress)

    # --- training --------------------------------------------------------------------------------

    def begin_stage(self, name: str, optimiser: Any, noise: Noise, schedule: Any = None) -> None:
        """See ``Method.begin_stage``; what earlier ones left behind is forgotten. Raises ConfigError where no term of
        the stage has a weight."""
        super().begin_stage(name, optimiser, noise, schedule)
        terms = self.objective.get(self.stage)
        if terms is not None and not any(terms.values()):
            raise ConfigError(f"method.objective.{self.stage} has no weight above 0: give one to {' or '.join(terms)}")
        self.maker = None
        if self.stage == "vae" and self.objective["vae"]["features"]:
            self.feature_loss = feature_loss(self.features)
            rank_zero_info(f"feature loss: {self.feature_loss.name}")

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Of the current stage (Sec. 3.5); see ``training``."""
        return training.STAGES[self.stage](self, clip, noise)
