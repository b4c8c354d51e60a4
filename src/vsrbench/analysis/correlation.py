"""Correlation of adjacent variables by four measures (DGAF-VSR Sec. 3.2, Observation 1).

Variables come as (...,C,H,W) in 0..255. ours: features and frames share that range. On [0,1] the printed gain of
F(sigma) could not be: sigma is at most 0.5 there, which bounds the gain by 50 %, and 106.50 % is printed.
"""

import torch
from torch import Tensor

from vsrbench.metrics.frame import PEAK, psnr, ssim

MEASURES = ("psnr", "ssim", "f_entropy", "f_sigma")


def histograms(x: Tensor, bins: int = 256) -> Tensor:
    """Shares of the values per image and channel: (...,C,bins) from (...,C,H,W) in 0..255.

    ours: one is added to every bin, so that no share is zero and the logarithm always exists.
    """
    places = (x.clamp(0, PEAK) * (bins / PEAK)).long().clamp(max=bins - 1).flatten(-2)
    counts = torch.ones(*places.shape[:-1], bins, dtype=torch.float64, device=x.device)
    counts.scatter_add_(-1, places, torch.ones_like(places, dtype=torch.float64))
    return counts / counts.sum(dim=-1, keepdim=True)


def cross_entropy(a: Tensor, b: Tensor, bins: int = 256) -> Tensor:
    """H = -sum p_a log p_b in nats over the two histograms, mean over channels: (...) from (...,C,H,W) in 0..255.

    For a given it is least where b has the same histogram. ours: bins and base are not printed.
    """
    return -(histograms(a, bins) * histograms(b, bins).log()).sum(-1).mean(-1)


def sigma(x: Tensor) -> Tensor:
    """Standard deviation over the pixels of each channel, mean over channels: (...) from (...,C,H,W)."""
    return x.double().std(dim=(-2, -1), correction=0).mean(-1)


def transformed(value: Tensor) -> Tensor:
    """F(v) = 1 / (1 + v), which turns "less is more correlated" round (Sec. 3.2)."""
    return 1 / (1 + value)


def correlation(a: Tensor, b: Tensor, bins: int = 256) -> dict[str, float]:
    """All four measures of one adjacent pair (C,H,W) in 0..255; PSNR in dB, infinite where the two are equal.

    F(sigma) concerns single variables: the mean of the two.
    """
    return {
        "psnr": psnr(a, b).item(),
        "ssim": ssim(a, b).item(),
        "f_entropy": transformed(cross_entropy(a, b, bins)).item(),
        "f_sigma": (transformed(sigma(a)) + transformed(sigma(b))).item() / 2,
    }
