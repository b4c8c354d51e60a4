"""The five parts of SATeCo that are trained; the frozen prior stands beside them (Fig. 2)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.diffusion.prior import Prior
from vsrbench.errors import ConfigError
from vsrbench.methods.sateco.adapters import SFA, TFA, Guidance, Init, ZeroConv
from vsrbench.methods.sateco.guidance import unet_widths, vae_widths
from vsrbench.methods.sateco.upscaler import make_upscaler
from vsrbench.nn.functional import zero_init
from vsrbench.nn.residual import SLOPE, ResidualBlock
from vsrbench.nn.windows import in_pieces


class Refiner(nn.Module):
    """X_H = w·X_u + (1-w)·X_d + ResBlock([X_u, X_d]), frame by frame.

    w: 0.5 by the paper's cross validation; a plain attribute, so that a sweep may set it. ours: width, and a last
    convolution that starts at zero, so that training starts at the weighted mean.
    Raises ConfigError for a width or w that is none.
    """

    def __init__(self, width: int = 32, w: float = 0.5) -> None:
        super().__init__()
        if width < 1:
            raise ConfigError(f"method.refiner.width={width}: use 1 or more")
        if isinstance(w, bool) or not isinstance(w, int | float) or not math.isfinite(w):
            raise ConfigError(f"method.refiner.w={w}: use a number, from 0 (X_d) to 1 (X_u); 0.5 in the paper")
        self.w = w
        last = zero_init(nn.Conv2d(width, 3, 3, padding=1))
        self.net = nn.Sequential(nn.Conv2d(6, width, 3, padding=1), nn.LeakyReLU(SLOPE), ResidualBlock(width), last)

    def forward(self, upscaled: Tensor, decoded: Tensor, w: float | None = None) -> Tensor:
        """X_u and X_d (...,3,H,W), about [0,1], to X_H of the same shape, not clamped. w: instead of the own one."""
        share = self.w if w is None else w

        def refined(upscaled: Tensor, decoded: Tensor) -> Tensor:
            residual = self.net(torch.cat([upscaled, decoded], dim=1))
            return share * upscaled + (1 - share) * decoded + residual

        frames = upscaled.flatten(0, -4), decoded.flatten(0, -4)
        return in_pieces(refined, frames, 1).view(upscaled.shape)


class LatentEncoder(nn.Module):
    """z (N,4,h,w) to one map per level of the UNet, finest first, with the UNet's own widths and sizes.

    ours, as the paper says "convolution-based" alone: one residual block per level, and between levels the UNet's own
    way to halve (kernel 3, stride 2, padding 1), which rounds odd sizes up as it does. No timestep goes in, so one
    pass serves all steps. Raises ConfigError for fewer than one block.
    """

    def __init__(self, latent_channels: int, widths: Sequence[int], blocks: int = 1, groups: int = 32) -> None:
        super().__init__()
        if blocks < 1:
            raise ConfigError(f"method.encoder.blocks={blocks}: use 1 or more")
        self.first = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.halve, self.levels = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for i, width in enumerate(widths):
            self.halve.append(nn.Conv2d(before, before, 3, stride=2, padding=1) if i else nn.Identity())
            stack = [ResBlock(before if j == 0 else width, width, groups) for j in range(blocks)]
            self.levels.append(nn.Sequential(*stack))
            before = width

    def forward(self, z: Tensor) -> list[Tensor]:
        x, maps = self.first(z), []
        for halve, level in zip(self.halve, self.levels, strict=True):
            x = level(halve(x))
            maps.append(x)
        return maps


class ResBlock(nn.Module):
    """Twice group norm, SiLU and a 3x3 convolution, added to x (through a 1x1 convolution where the widths differ)."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs), nn.GroupNorm(groups, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(hidden)))


class Networks(nn.Module):
    """upscaler, latent_encoder, unet_guidance, vae_guidance, refiner: shaped to fit ``prior``, which is not kept.

    upscaler: see ``make_upscaler``. encoder: ``blocks`` of ``LatentEncoder`` (its widths and groups are the UNet's).
    guidance: ``unet`` and ``vae`` (zero_conv | sfa | sfa_tfa, Table 2), the rest as in ``Guidance``. refiner: see
    ``Refiner``. init: identity (the prior is unchanged at the start, ours) | paper.
    Raises ConfigError for settings that do not exist or do not fit the prior.
    """

    def __init__(
        self,
        prior: Prior,
        upscaler: Mapping[str, Any] | None = None,
        encoder: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Any] | None = None,
        refiner: Mapping[str, Any] | None = None,
        init: Init = "identity",
        scale: int = 4,
    ) -> None:
        super().__init__()
        if prior.kind == "upscaler" and prior.factor != scale:
            raise ConfigError(f"scale={scale}: this prior enlarges {prior.factor} times; set scale={prior.factor}")
        settings = dict(guidance or {})
        kinds = {part: settings.pop(part, "sfa_tfa") for part in ("unet", "vae")}
        unet = prior.unet.config
        widths = [int(width) for width in unet.block_out_channels]
        groups = int(unet.norm_num_groups)
        self.upscaler = make_upscaler(upscaler or {}, scale)
        self.latent_encoder = LatentEncoder(prior.latent_channels, widths, groups=groups, **(encoder or {}))
        self.unet_guidance = Guidance(unet_widths(prior), kinds["unet"], "unet", init=init, **settings)
        self.vae_guidance = Guidance(vae_widths(prior), kinds["vae"], "vae", init=init, **settings)
        self.refiner = Refiner(**(refiner or {}))

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table: what each counts; lines without parameters are left out."""
        lines: dict[str, list[nn.Module]] = {
            "video upscaler": [self.upscaler],
            "latent encoder E_z": [self.latent_encoder],
        }
        for name, guidance in (("UNet", self.unet_guidance), ("VAE", self.vae_guidance)):
            inside = [part for point in guidance.points for part in point.children()]
            lines[f"SFA ({name})"] = [part for part in inside if isinstance(part, SFA)]
            lines[f"TFA ({name})"] = [part for part in inside if isinstance(part, TFA)]
            lines[f"zero convolutions ({name})"] = [part for part in inside if isinstance(part, ZeroConv)]
        lines["video refiner"] = [self.refiner]
        return {line: parts for line, parts in lines.items() if any(True for p in parts for _ in p.parameters())}
