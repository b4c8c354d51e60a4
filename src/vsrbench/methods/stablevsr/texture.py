"""Temporal Texture Guidance of StableVSR (Sec. 4.2, Eq. 8) and its ablations (Figure 7, Table 4)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.annotations import check_fields
from vsrbench.diffusion.prior import Prior, to_network
from vsrbench.errors import ConfigError
from vsrbench.flow.rescaled import on_grid
from vsrbench.flow.warp import warp
from vsrbench.nn.functional import full_precision

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Texture:
    """How a neighbour's latent becomes the frame that conditions the TCM.

    guidance: the neighbour's noise-free "x0" (Eq. 6) or its noisy "x_t" (Table 4, row 2). compensation: warp the
    decoded frame ("pixel", Eq. 8), the latent before decoding ("latent", Figure 4), or nothing ("none", row 3).
    tcm_input: "rgb", or the warped "latent" itself (row 4: the text says that it is decoded for show only; then
    compensation is "latent"). align: see ``flow.warp``. guidance_precision: of the decoder while it makes guidance;
    "auto" is what the U-Nets run in, and bf16 on a GPU where that is fp32 (bf16 guidance leaves the miniature's
    output within 64.6 dB PSNR).
    Raises ConfigError for values that mean nothing.
    """

    guidance: Literal["x0", "x_t"] = "x0"
    compensation: Literal["pixel", "latent", "none"] = "pixel"
    tcm_input: Literal["rgb", "latent"] = "rgb"
    align: Literal["exact", "released"] = "exact"
    guidance_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self, "method")
        if self.tcm_input == "latent" and self.compensation == "pixel":
            raise ConfigError("method.tcm_input=latent needs method.compensation=latent (or none): nothing is decoded")

    def make(self, prior: Prior, x0: Tensor, x_t: Tensor, flow: Tensor) -> Tensor:
        """The conditioning frame (B,3,4h,4w) in about [-1,1] from a neighbour's x0 and x_t (B,4,h,w).

        flow: flow[current→neighbour] (B,2,H,W) on any grid. Outside the neighbour's frame: zero, mid grey.
        With tcm_input="latent": (B,4,4h,4w).
        """
        latent = x0 if self.guidance == "x0" else x_t
        if self.compensation == "latent":
            latent = self._warp(latent, flow)
        if self.tcm_input == "latent":
            # ours: enlarged by repetition, since the TCM's embedding reduces its input by 4
            return F.interpolate(latent, scale_factor=4, mode="nearest")
        rgb = to_network(self.decode(prior, latent))
        return self._warp(rgb, flow) if self.compensation == "pixel" else rgb

    def decode(self, prior: Prior, latent: Tensor) -> Tensor:
        """RGB (B,3,4h,4w), about [0,1]: the dearest part of guidance, so it may run in half precision."""
        precision = self.guidance_precision
        if precision == "auto" and torch.is_autocast_enabled(latent.device.type):
            return prior.decode(latent).float()
        if precision == "auto":
            precision = "bf16" if latent.device.type == "cuda" else "fp32"
        if precision == "fp32":
            with full_precision(latent.device):  # whatever the U-Nets around it run in
                return prior.decode(latent.float())
        with torch.autocast(latent.device.type, dtype=PRECISIONS[precision]):
            return prior.decode(latent, half=True).float()

    def _warp(self, image: Tensor, flow: Tensor) -> Tensor:
        return warp(image, on_grid(flow, (image.shape[-2], image.shape[-1])), self.align)
