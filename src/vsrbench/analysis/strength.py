"""High-frequency density of features: edge strength and high-pass strength (DGAF-VSR Sec. 3.2, Observation 2).

Features come as (...,H,W), mapped to [0,1] beforehand; every (H,W) is an image of its own.
ours: the paper counts 80,000 feature groups, which is 4 clips x 100 frames x 50 steps x 4 channels, so channels
are taken one by one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vsrbench.errors import ConfigError

OPERATORS = ("canny", "sobel", "laplacian")
MEASURES = (*OPERATORS, "highpass")
NAMES = {"canny": "edges, Canny", "sobel": "edges, Sobel", "laplacian": "edges, Laplacian", "highpass": "high-pass"}


def canny(x: Tensor, low: float = 100, high: float = 200) -> Tensor:
    """Canny's edges of the image rounded to 8 bits: 0 or 1, like x (...,H,W) in [0,1].

    low, high: thresholds on the sum of the two absolute 3x3 Sobel responses to 8-bit values (OpenCV's convention).
    """
    import cv2
    import numpy as np

    images = (_images(x).clamp(0, 1) * 255).round().to(torch.uint8)[:, 0].cpu().numpy()
    edges = np.stack([cv2.Canny(np.ascontiguousarray(image), low, high) for image in images])
    return torch.from_numpy(edges).view(x.shape).to(x) / 255


def sobel(x: Tensor) -> Tensor:
    """Gradient magnitude by the 3x3 Sobel pair, each kernel divided by 8: a step of height 1 gives 0.5."""
    from kornia.filters import spatial_gradient

    across, down = spatial_gradient(_images(x), mode="sobel", normalized=True).unbind(2)
    return torch.hypot(across, down).view(x.shape)


def laplacian(x: Tensor) -> Tensor:
    """Response of the 3x3 Laplacian over eight neighbours, divided by 16: within [-0.5, 0.5] for x in [0,1]."""
    from kornia.filters import laplacian as filtered

    return filtered(_images(x), 3, border_type="replicate", normalized=True).view(x.shape)


def high_pass(x: Tensor, radius: float) -> Tensor:
    """x (...,H,W) without the frequencies up to ``radius`` cycles per image side from the spectrum's centre."""
    spectrum = torch.fft.fft2(x.double())
    height, width = x.shape[-2:]
    down = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64, device=x.device)
    across = torch.fft.fftfreq(width, 1 / width, dtype=torch.float64, device=x.device)
    distance = torch.hypot(down[:, None], across[None, :])
    return torch.fft.ifft2(spectrum * (distance > radius)).real.to(x.dtype)


def high_pass_strength(x: Tensor, radius: float, measure: str = "energy") -> Tensor:
    """Spectrum energy behind the high-pass filter, one value per image: (...) from (...,H,W).

    measure: "energy": per pixel, so the mean square of what the filter leaves (Parseval), in squared units of x;
    "share": its part of the image's whole energy without the mean, in [0,1]; 0 for a constant image.
    """
    energy = high_pass(x.double(), radius).square().mean(dim=(-2, -1))
    if measure == "energy":
        return energy.to(x.dtype)
    whole = x.double().var(dim=(-2, -1), correction=0)
    flat = whole <= torch.finfo(torch.float32).eps ** 2
    return torch.where(flat, 0.0, energy / torch.where(flat, 1.0, whole)).to(x.dtype)


@dataclass(frozen=True)
class Strength:
    """How strengths are measured; the paper names the operators and the threshold 30 and nothing else.

    canny: its two thresholds (ours: OpenCV's usual 100 and 200). laplacian: "mean" of the absolute response, or its
    "variance", a usual measure of sharpness (ours: mean, as for Sobel). threshold: radius of the high-pass filter on
    the shifted spectrum. reference: side that the threshold is meant for; it scales with the feature's shorter
    side (ours: REDS4's latents are 180x320; below 60 pixels a radius of 30 would leave nothing but corners). None:
    the threshold as it is. highpass: see ``high_pass_strength``.
    """

    canny: tuple[float, float] = (100, 200)
    laplacian: str = "mean"
    threshold: float = 30
    reference: float | None = 180
    highpass: str = "energy"

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> "Strength":
        """From the node ``analysis``. Raises ConfigError for words and numbers that mean nothing."""
        low, high = node["canny"]
        strength = cls(
            (low, high), node["laplacian"], node["highpass"]["threshold"],
            node["highpass"]["reference"], node["highpass"]["measure"],
        )  # fmt: skip
        if not 0 <= low <= high:
            raise ConfigError(f"analysis.canny=[{low},{high}]: use two thresholds, the lower one first")
        if strength.laplacian not in ("mean", "variance"):
            raise ConfigError(f"analysis.laplacian={strength.laplacian}: use mean or variance")
        if strength.highpass not in ("energy", "share"):
            raise ConfigError(f"analysis.highpass.measure={strength.highpass}: use energy or share")
        if strength.threshold < 0 or (strength.reference is not None and strength.reference <= 0):
            raise ConfigError("analysis.highpass: use a threshold of 0 or more and a reference above 0, or null")
        return strength

    def radius(self, feature: Tensor) -> float:
        """Radius of the high-pass filter for features (...,h,w) at their own size.

        Also used for the same features at other sizes: in cycles per image it stays the same frequency.
        """
        side = min(feature.shape[-2:])
        return self.threshold if self.reference is None else self.threshold * side / self.reference

    def __call__(self, x: Tensor, radius: float) -> dict[str, float]:
        """All four measures of features (...,H,W) in [0,1], each the mean over pixels and images."""
        bend = laplacian(x)
        bends = bend.abs() if self.laplacian == "mean" else bend.var(dim=(-2, -1), correction=0)
        return {
            "canny": canny(x, *self.canny).mean().item(),
            "sobel": sobel(x).mean().item(),
            "laplacian": bends.mean().item(),
            "highpass": high_pass_strength(x, radius, self.highpass).mean().item(),
        }


def _images(x: Tensor) -> Tensor:
    """(...,H,W) to (N,1,H,W)."""
    return rearrange(x[None], "... h w -> (...) 1 h w")
