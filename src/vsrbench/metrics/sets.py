"""FID (Heusel et al. 2017): how far the statistics of all output frames are from those of all ground truth frames."""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.errors import DataError
from vsrbench.metrics.perceptual import RECIPES, Perceptual

SIZE = 299  # side of Inception's input
GROUP = 32


class InceptionFeatures:
    """Pool features of pyiqa's Inception-V3, the network that FID was defined with (weights of 2015-12-05).

    ours: frames are resized as clean-fid does (Parmar et al. 2022): bicubic with antialiasing, in floating point,
    clipped. VideoGigaGAN does not say which resizing its FID has; it moves values by several points.
    """

    def __init__(self, device: str = "cpu", folder: Path | None = None) -> None:
        self.net = Perceptual(RECIPES["fid"], device, folder).net.net.model

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 (N,3,H,W) → float64 (N,2048) on the CPU."""
        small = (resized(group) for group in frames.split(GROUP))
        return torch.cat([self.net((x - 128) / 128)[0].flatten(1).double().cpu() for x in small])


def resized(frames: Tensor) -> Tensor:
    """(N,3,H,W) of 0..255 → float32 (N,3,299,299), as Pillow's bicubic resizes each channel."""
    return F.interpolate(frames.float(), (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)


def frechet(out: Tensor, truth: Tensor) -> float:
    """Frechet distance of two Gaussians with the means and covariances of features (n,d) and (m,d); 0 for equal sets.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), covariances with n - 1. With centred features A and B, scaled by
    1/sqrt(n - 1), tr (C1 C2)^(1/2) is the sum of the singular values of A B^T: exact where a covariance is singular,
    as it is below d frames, when a matrix square root needs a term added for stability.
    Raises DataError for fewer than two frames.

    Biased upwards for few frames: it compares methods on one set of frames and nothing else.
    """
    if min(len(out), len(truth)) < 2:
        raise DataError("fid needs two frames or more")
    a, b = ((x.double() - x.double().mean(0)) / math.sqrt(len(x) - 1) for x in (out, truth))
    means = (out.double().mean(0) - truth.double().mean(0)).square().sum()
    cross = torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, float(means + a.square().sum() + b.square().sum() - 2 * cross))
