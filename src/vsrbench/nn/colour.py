"""Colour fixes for generated frames."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.nn.functional import full_precision

LEVELS = 5  # of the à-trous transform


def replace_low_band(image: Tensor, reference: Tensor, sigma: float) -> Tensor:
    """``image`` with its low band taken from ``reference`` (both (B,3,H,W)); Gaussian of ``sigma`` pixels.

    The LR frame knows colour and large-scale contrast; a generated frame may drift in both.
    """
    from kornia.filters import gaussian_blur2d

    size = 2 * round(3 * sigma) + 1
    with full_precision(image.device):  # under autocast the blur, a convolution, would round colours to bf16
        return image + gaussian_blur2d(reference - image, (size, size), (sigma, sigma), border_type="replicate")


def wavelet_color(frames: Tensor, reference: Tensor) -> Tensor:
    """The frames' detail on the reference's low band, both (N,C,H,W): mends local and global colour, no detail."""
    return wavelet_split(frames)[0] + wavelet_split(reference)[1]


def adain_color(frames: Tensor, reference: Tensor, scope: str = "frame") -> Tensor:
    """Each channel of frames (N,C,H,W) gets the reference's mean and deviation, of each "frame" or of the "clip"."""
    axes = (2, 3) if scope == "frame" else (0, 2, 3)

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(axes, keepdim=True), (x.var(axes, keepdim=True) + 1e-5).sqrt()

    (mean, deviation), (target, spread) = moments(frames), moments(reference)
    return (frames - mean) / deviation * spread + target


def wavelet_split(image: Tensor) -> tuple[Tensor, Tensor]:
    """(high, low) bands of frames (N,C,H,W); their sum is the image. low: a blur of 13.06 pixels' deviation."""
    low = image
    for level in range(LEVELS):
        low = wavelet_blur(low, 2**level)
    return image - low, low


def wavelet_blur(image: Tensor, radius: int) -> Tensor:
    """One level of the à-trous transform: the kernel (1 2 1) x (1 2 1) / 16 with gaps of ``radius`` pixels."""
    kernel = torch.tensor([1.0, 2.0, 1.0], device=image.device, dtype=image.dtype) / 4
    weight = torch.outer(kernel, kernel).expand(image.shape[1], 1, 3, 3)
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    with full_precision(image.device):
        return F.conv2d(padded, weight, groups=image.shape[1], dilation=radius)
