"""SATeCo's video refiner (Sec. 3.4, Eq. 5)."""

import math

import torch
from torch import Tensor, nn

from vsrbench.errors import ConfigError
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
