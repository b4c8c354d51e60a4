"""DGAF-VSR: networks, settings and upscaling."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.frames import finish, on_prior_grid
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import TERMS
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.flow.bank import FlowBank, clip_flows
from vsrbench.flow.rescaled import enlarged_size
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.dgaf import cost, released
from vsrbench.methods.dgaf.guidance import Guidance
from vsrbench.methods.dgaf.networks import GuidingUNet
from vsrbench.methods.dgaf.sampling import Sampling, sample
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip, Progress, Trace


class DGAF(Method):
    """Densely guided diffusion with aligned features (Xu et al. 2025).

    rescale, rescale_mode, align, pick, in_pair, neighbours, projection: see ``Guidance``. guidance: "dense", or
    "encoder" for encoder and middle only (Table 3 case 1). guide_attention, new_channels: see ``GuidingUNet``.
    flow_upscaling: estimate flow between enlarged frames ("pre") or between LR frames and enlarge the flow ("post",
    Supp. Table 7 case 2). flow_input: how frames are enlarged ("nearest" as printed; "bicubic" by MATLAB's kernel;
    "released" by torch's, not clamped). flow_factor: how far: to HR ("hr", 4 times the prior's LR frames), or by s of
    OGWM ("rescale"; Sec. 4 writes both with the same s). lr_enlargement: how LR frames of scale 8 and 16 reach the
    x4 prior. max_context: upper bound of the frames a temporal chunk overlaps; None: as many as make chunked equal to
    whole.
    """

    stages = {"guide": Stage(trainable=("guiding_unet",), losses=TERMS)}

    @check_arguments("method")
    def __init__(
        self,
        prior: Prior,
        sampler: Sampler,
        flow: nn.Module,
        scale: int = 4,
        rescale: float = 4.0,
        rescale_mode: Literal["nearest", "bicubic", "none"] = "nearest",
        align: Literal["exact", "released"] = "exact",
        pick: Literal["centre", "corner"] = "centre",
        in_pair: bool = True,
        neighbours: Literal["last_step", "same_step"] = "last_step",
        projection: Literal["z_t", "z_next"] = "z_t",
        guidance: Literal["dense", "encoder"] = "dense",
        guide_attention: bool = True,
        new_channels: Literal["zero", "copy"] = "zero",
        flow_upscaling: Literal["pre", "post"] = "pre",
        flow_input: Literal["nearest", "bicubic", "released"] = "nearest",
        flow_factor: Literal["hr", "rescale"] = "hr",
        lr_enlargement: Literal["bicubic", "nearest"] = "bicubic",
        max_context: int | None = None,
        name: str = "dgaf",
    ) -> None:
        super().__init__()
        self.prior, self.sampler, self.flow = prior.eval().requires_grad_(False), sampler, flow
        self.guide = GuidingUNet(prior.unet, guide_attention, guidance == "dense", new_channels)
        self.guidance = Guidance(rescale, rescale_mode, align, pick, in_pair, neighbours, projection)
        self.flow_upscaling, self.flow_input, self.lr_enlargement = flow_upscaling, flow_input, lr_enlargement
        self.flow_factor = rescale if flow_factor == "rescale" else 4.0
        self.max_context = max_context
        self.scale = scale

    @property
    def context(self) -> int:
        exact = self.guidance.context(self.sampler.steps)
        return exact if self.max_context is None else min(exact, self.max_context)

    def parts(self) -> dict[str, nn.Module]:
        return {
            "flow": self.flow,
            "guiding_unet": self.guide,
            "denoising_unet": self.prior.unet,
            "vae": self.prior.vae,
        }

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """The lines of Supp. Table 6, with what the paper's figures leave out on lines of their own."""
        guide, vae = self.guide, self.prior.vae
        return {
            "flow estimator (FM)": [self.flow],
            "guiding U-Net": [guide.net],
            "zero convolutions": [guide.zero_encoder, guide.zero_middle, guide.zero_decoder],
            "denoising U-Net": [self.prior.unet],
            "VAE decoder": [vae.decoder, vae.post_quant_conv],
            "VAE encoder": [vae.encoder, vae.quant_conv],
        }

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work, the lines of Supp. Table 5."""
        return cost.work(self, clip)

    def flows(self, clip: Clip) -> FlowBank:
        """FM (Sec. 4): the flows of a clip, computed once."""
        clip = on_prior_grid(clip, self.lr_enlargement)
        frames = self.flow_frames(clip.lr.flatten(0, 1)).unflatten(0, clip.lr.shape[:2])
        return clip_flows(clip, self.flow, frames)

    def flow_frames(self, lr: Tensor) -> Tensor:
        """LR frames (N,3,h,w) as the flow estimator is to see them: enlarged (to 4h,4w), or as they are."""
        # ours: "none" of Table 3 leaves out every interpolation, that of the frames too; its printed row (26.70 dB) is
        # worse than that of s=1 (27.22 dB, Supp. Table 8), so something else than the features' size must differ
        if self.flow_upscaling == "post" or self.guidance.mode == "none":
            return lr
        size = enlarged_size(lr, self.flow_factor)
        if self.flow_input == "nearest":
            return F.interpolate(lr, size=size, mode="nearest")
        if self.flow_input == "bicubic":
            return imresize(lr, self.flow_factor)[..., : size[0], : size[1]].clamp(0, 1).to(lr.dtype)
        return F.interpolate(lr, size=size, mode="bicubic", align_corners=False)  # a = -0.75, overshoot kept

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Sec. 4: flows, guided diffusion steps, VAE decoder."""
        clip = on_prior_grid(clip, self.lr_enlargement)
        flows = self.flows(clip)
        with self.autocast():
            latents, _ = sample(self.sampling(clip, flows, trace), noise, progress=progress)
            return finish(self.prior, self.sampler, clip, latents, self.batch)

    def sampling(self, clip: Clip, flows: FlowBank, trace: Trace | None = None) -> Sampling:
        """The networks and knobs over one clip on the prior's grid."""
        return Sampling(self.prior, self.guide, self.sampler, self.guidance, clip, flows, self.batch, trace)

    def adapt_weights(self, part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """A guide without its decoder takes what it has of the weights of a dense one."""
        if part != "guiding_unet" or self.guide.dense:
            return values
        return {k: v for k, v in values.items() if not k.startswith(("net.up_blocks.", "zero_decoder."))}

    def load_released(self, folder: Path) -> str:
        """Load a guide in the layout of the released code; see ``released.load``."""
        return released.load(self.guide, folder)

    def export_released(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the guide in that layout; see ``released.export``."""
        released.export(self.guide, folder, dtype)
