"""StableVSR: networks, settings and upscaling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.frames import finish
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import TERMS
from vsrbench.diffusion.prior import Prior, save_prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.flow.bank import FlowBank, clip_flows
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.stablevsr import cost
from vsrbench.methods.stablevsr.networks import TemporalConditioning
from vsrbench.methods.stablevsr.sampling import Sampling, sample
from vsrbench.methods.stablevsr.texture import Texture
from vsrbench.types import FULL_CLIP, Clip, Progress, Trace
from vsrbench.weights.folders import save_network
from vsrbench.weights.report import load_strictly
from vsrbench.weights.trained import check_class, read_released


class StableVSR(Method):
    """Temporal texture guidance of a frozen image upscaler (Rota et al. 2024).

    strategy: order of sampling (Table 2). guidance, compensation, tcm_input, align, guidance_precision: see
    ``Texture``. refresh: see ``Sampling``. embedding: see ``TemporalConditioning``. flow_input: "lr" estimates flow
    between LR frames and scales it to HR (Eq. 8), "released" between frames enlarged by torch's bicubic.
    max_context: frames that temporal chunks overlap; None: the whole clip at once, the only way in which chunks change
    nothing. stage=tcm trains the module; stage=prior fine-tunes the upscaler's U-Net on single frames.
    """

    stages = {
        "tcm": Stage(trainable=("tcm",), losses=TERMS),
        "prior": Stage(trainable=("denoising_unet",), losses=("prediction",)),
    }

    @check_arguments("method")
    def __init__(
        self,
        prior: Prior,
        sampler: Sampler,
        flow: nn.Module,
        strategy: Literal["bidirectional", "unidirectional", "auto_regressive", "single_frame"] = "bidirectional",
        guidance: Literal["x0", "x_t"] = "x0",
        compensation: Literal["pixel", "latent", "none"] = "pixel",
        tcm_input: Literal["rgb", "latent"] = "rgb",
        align: Literal["exact", "released"] = "exact",
        guidance_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
        refresh: Annotated[int, Ge(1)] = 1,
        embedding: Sequence[int] = (64, 128, 256),
        flow_input: Literal["lr", "released"] = "lr",
        max_context: int | None = None,
        name: str = "stablevsr",
    ) -> None:
        super().__init__()
        self.texture = Texture(guidance, compensation, tcm_input, align, guidance_precision)
        self.prior, self.sampler, self.flow = prior.eval().requires_grad_(False), sampler, flow
        channels = 3 if tcm_input == "rgb" else prior.latent_channels
        self.tcm = TemporalConditioning(prior.unet, embedding, channels)
        self.strategy, self.refresh = strategy, refresh
        self.flow_input, self.max_context = flow_input, max_context

    @property
    def context(self) -> int:
        exact = 0 if self.strategy == "single_frame" else FULL_CLIP
        return exact if self.max_context is None else min(exact, self.max_context)

    def parts(self) -> dict[str, nn.Module]:
        return {"flow": self.flow, "tcm": self.tcm, "denoising_unet": self.prior.unet, "vae": self.prior.vae}

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """The lines of Table 3, with what the paper's figures leave out on lines of their own."""
        vae = self.prior.vae
        return {
            "denoising U-Net": [self.prior.unet],
            "temporal conditioning module": [self.tcm],
            "VAE decoder": [vae.decoder, vae.post_quant_conv],
            "flow estimator": [self.flow],
            "VAE encoder": [vae.encoder, vae.quant_conv],
        }

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work; see ``cost.work``."""
        return cost.work(self, clip)

    def flows(self, clip: Clip) -> FlowBank:
        """ME of Eq. 8, computed once per clip."""
        frames = self.flow_frames(clip.lr.flatten(0, 1)).unflatten(0, clip.lr.shape[:2])
        return clip_flows(clip, self.flow, frames)

    def flow_frames(self, lr: Tensor) -> Tensor:
        """LR frames (N,3,h,w) as the flow estimator is to see them."""
        if self.flow_input == "lr":
            return lr
        return F.interpolate(lr, scale_factor=4, mode="bicubic", align_corners=False)  # a = -0.75, overshoot kept

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Algorithm 1, then the VAE decoder."""
        flows = self.flows(clip) if self.strategy != "single_frame" else FlowBank.empty(clip)
        with self.autocast():
            latents, _ = sample(self.sampling(clip, flows, trace), noise, progress=progress)
            return finish(self.prior, self.sampler, clip, latents, self.batch)

    def sampling(self, clip: Clip, flows: FlowBank, trace: Trace | None = None) -> Sampling:
        """The networks and settings over one clip."""
        return Sampling(
            self.prior,
            self.tcm,
            self.sampler,
            self.texture,
            clip,
            flows,
            self.strategy,
            self.refresh,
            self.batch,
            trace,
        )

    def shipped_parts(self) -> set[str]:
        """The TCM; the prior's U-Net is exported with its folder."""
        return {"tcm"}

    def load_released(self, folder: Path) -> str:
        """Load a TCM from a ``controlnet/`` folder as published. Raises WeightsError listing keys that do not fit."""
        config, state = read_released(folder)
        check_class(config, folder, ("ControlNetModel",), "stablevsr")
        return load_strictly(self.tcm.net, state, str(folder))

    def export_released(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the whole pipeline folder as published: the prior's parts and ``controlnet/``."""
        save_prior(self.prior, folder, dtype)
        save_network(self.tcm.net, folder / "controlnet", dtype)
