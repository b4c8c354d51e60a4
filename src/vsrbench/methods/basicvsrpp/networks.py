"""The network of BasicVSR++ around its propagation: what comes before it and what comes after."""

from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.flow.propagation import GridPropagation
from vsrbench.methods.recurrent import RecurrentNetwork
from vsrbench.nn.functional import zero_init
from vsrbench.nn.imresize import imresize
from vsrbench.nn.residual import SLOPE, ConvResidualBlocks, Upsample

Residual = Literal["bilinear", "bicubic"]


class Reconstruction(nn.Module):
    """From a frame's features of all branches to RGB at four times the size, on top of the enlarged LR frame.

    sources: feature maps of ``channels`` each. hr_channels: width at HR. residual: "bilinear" (the paper) or
    "bicubic" (MATLAB's kernel; ours). zero_start: the last convolution starts at zero, so that training starts at
    the enlarged frame itself (ours, for short trainings).
    """

    def __init__(
        self, sources: int, channels: int, blocks: int, hr_channels: int, residual: Residual, zero_start: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.reconstruction = ConvResidualBlocks(sources * channels, channels, blocks)
        self.upsample1 = Upsample(channels, channels)
        self.upsample2 = Upsample(channels, hr_channels)
        self.conv_hr = nn.Conv2d(hr_channels, hr_channels, 3, padding=1)
        self.conv_last = nn.Conv2d(hr_channels, 3, 3, padding=1)
        if zero_start:
            zero_init(self.conv_last)

    def forward(self, features: Tensor, lr: Tensor) -> Tensor:
        """features (N,sources*channels,h,w), lr (N,3,h,w) in [0,1] to RGB (N,3,4h,4w), not clipped."""
        x = self.reconstruction(features)
        for layer in (self.upsample1, self.upsample2, self.conv_hr):
            x = F.leaky_relu(layer(x), SLOPE)
        return self.conv_last(x) + self.enlarged(lr)

    def enlarged(self, lr: Tensor) -> Tensor:
        """LR frames at four times the size."""
        if self.residual == "bicubic":
            return imresize(lr, 4)
        return F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)


class BasicVSRPlusPlus(RecurrentNetwork):
    """BasicVSR++ (Chan et al. 2022) for factor 4; 7,322,927 parameters at 64 channels and 7 blocks with SPyNet.

    spynet, flow_minimum: see ``RecurrentNetwork``. blocks: residual blocks of the
    features, of each branch and of the reconstruction. The rest: see ``GridPropagation`` and ``Reconstruction``.
    """

    def __init__(
        self,
        spynet: nn.Module,
        propagation: GridPropagation,
        channels: int = 64,
        feature_blocks: int = 5,
        reconstruction_blocks: int = 5,
        hr_channels: int = 64,
        residual: Residual = "bilinear",
        zero_start: bool = False,
        flow_minimum: int = 64,
    ) -> None:
        super().__init__(spynet, flow_minimum)
        self.feat_extract = ConvResidualBlocks(3, channels, feature_blocks)
        self.propagation = propagation
        sources = 1 + len(propagation.names)
        self.reconstruction = Reconstruction(
            sources, channels, reconstruction_blocks, hr_channels, residual, zero_start
        )

    def restored(
        self,
        lr: Tensor,
        to_next: Tensor,
        to_previous: Tensor,
        batch: int | None = None,
        advance: Callable[[], object] | None = None,
    ) -> Tensor:
        """RGB (B,T,3,4h,4w). batch: frames per call where no frame waits for another; None: all.

        advance: called after every frame of every branch and of the reconstruction.
        """
        b, t = lr.shape[:2]
        frames = rearrange(lr, "b t c h w -> (b t) c h w").split(batch or b * t)
        spatial = rearrange(torch.cat([self.feat_extract(f) for f in frames]), "(b t) c h w -> b t c h w", b=b)
        branches = self.propagation(spatial, to_next, to_previous, advance)
        step = max((batch or b * t) // b, 1)
        restored: list[Tensor] = []
        for start in range(0, t, step):
            window = slice(start, start + step)
            maps = [torch.stack(branch[window], dim=1).to(lr.device) for branch in branches.values()]
            inputs = torch.cat([spatial[:, window], *maps], dim=2), lr[:, window]
            rgb = self.reconstruction(*(rearrange(x, "b t c h w -> (b t) c h w") for x in inputs))
            restored.append(rearrange(rgb, "(b t) c h w -> b t c h w", b=b))
            if advance is not None:
                for _ in range(maps[0].shape[1]):
                    advance()
        return torch.cat(restored, dim=1)
