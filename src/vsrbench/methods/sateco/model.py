"""SATeCo: networks, settings, the four stages, and upscaling."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.sateco import cost
from vsrbench.methods.sateco.adapters import Init
from vsrbench.methods.sateco.networks import Networks
from vsrbench.methods.sateco.sampling import Colour, Result, Sampling, multiple, restore
from vsrbench.types import Clip, Progress, Trace


class SATeCo(Method):
    """Spatial adaptation and temporal coherence around a frozen Stable Diffusion (Chen et al., CVPR 2024).

    upscaler, encoder, guidance, refiner, init: see ``Networks``. length, overlap, colour, result: see ``Sampling``.
    stage=upscaler, unet, vae, refiner (Sec. 3.5), each from the run of the one before.
    """

    stages = {
        "upscaler": Stage(("upscaler",), ("charbonnier",)),
        "unet": Stage(
            ("latent_encoder", "unet_guidance"), ("prediction", "x0", "pixel", "gradient"), needs=("upscaler",)
        ),
        "vae": Stage(("vae_guidance",), ("pixel", "features"), needs=("unet",)),
        "refiner": Stage(("refiner",), ("charbonnier",), needs=("vae",)),
    }

    @check_arguments("method")
    def __init__(
        self,
        prior: Prior,
        sampler: Sampler,
        upscaler: Mapping[str, Any] | None = None,
        encoder: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Any] | None = None,
        refiner: Mapping[str, Any] | None = None,
        init: Init = "identity",
        length: Annotated[int, Ge(1)] = 6,
        overlap: Annotated[int, Ge(0)] = 2,
        colour: Colour = "none",
        result: Result = "refined",
        scale: int = 4,
        name: str = "sateco",
    ) -> None:
        super().__init__()
        self.prior, self.sampler = prior.eval().requires_grad_(False), sampler
        self.networks = Networks(
            prior, upscaler or {}, encoder or {}, guidance or {}, refiner or {}, init=init, scale=scale
        )
        self.stages = self.stages_for({"upscaler": upscaler or {}})
        # beside weights, for they act otherwise with other settings
        parts = [sorted((part or {}).items()) for part in (upscaler, encoder, guidance)]
        self.settings = (parts, init, prior.noise_level, sorted(prior.schedule.config.items()))
        self.scale, self.multiple = scale, multiple(prior, scale)
        self.run = Sampling(prior, self.networks, sampler, length, overlap, colour=colour, result=result)

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

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table: what is new by part, and what is frozen."""
        return {**self.networks.parameter_groups(), "denoising U-Net": [self.prior.unet], "VAE": [self.prior.vae]}

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work; see ``cost.work``."""
        return cost.work(self, clip)

    @torch.inference_mode()
    def upscale(
        self,
        clip: Clip,
        noise: NoiseSource,
        trace: Trace | None = None,
        progress: Progress | None = None,
        result: Result | None = None,
    ) -> Tensor:
        """Fig. 2: upscaler, guided denoising, guided decoding, refiner, in windows of ``length`` frames.

        result: instead of the method's own, see ``Sampling``.
        """
        run = replace(self.run, batch=self.batch, result=result or self.run.result)
        with self.autocast():
            return restore(run, clip, noise, trace, progress)
