"""PSNR and SSIM of single frames. Every function takes (...,C,H,W) and returns one value per image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vsrbench.errors import DataError

PEAK = 255.0
WINDOW, SIGMA = 11, 1.5  # SSIM: Gaussian window of 11x11 pixels (Wang et al. 2004)
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
BLOCK = 32  # pixels that one row of a matrix product filters


def quantise(frames: Tensor) -> Tensor:
    """Frames in [0,1] as 8-bit values: clipped, rounded half up (MATLAB's ``im2uint8``).

    frames: (...) floating point. Returns uint8 of the same shape.
    Raises DataError where a value is not finite: it would silently become some colour.
    """
    if not torch.isfinite(frames).all():
        raise DataError(
            "frames hold values that are not finite: the method diverged; try inference.precision=fp32 "
            "or other weights (ckpt_path=...)"
        )
    return (frames.clamp(0, 1) * PEAK + 0.5).floor().to(torch.uint8)


def luma(frames: Tensor) -> Tensor:
    """BT.601 luma in studio range, not rounded: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    frames: (...,3,H,W) RGB in 0..255. Returns float64 (...,1,H,W) in 16..235.
    Full range (as cv2 and pyiqa have it) would lower PSNR by 1.32 dB; rounding by 0.001 dB.
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device=frames.device)
    return 16.0 + torch.einsum("...chw,c->...hw", frames.double(), weights / PEAK).unsqueeze(-3)


def luma_i420(frames: Tensor) -> Tensor:
    """Luma as OpenCV's ``COLOR_BGR2YUV_I420`` has it: BT.601, studio range, integers (DGAF-VSR's evalY.py).

    frames: uint8 (...,3,H,W) RGB. Returns float64 (...,1,H,W) of whole numbers in 16..235. OpenCV wants even sizes;
    its Y does not depend on that.
    """
    weights = torch.tensor([269484, 528482, 102760], device=frames.device)
    total = (frames.long() * weights.view(3, 1, 1)).sum(-3, keepdim=True)
    return ((total + (16 << 20) + (1 << 19)) >> 20).double()


LUMAS = {"bt601_studio": luma, "opencv_i420": luma_i420}


def psnr(a: Tensor, b: Tensor, border: int = 0) -> Tensor:
    """10 log10(255^2 / MSE) in dB, MSE over all channels and pixels; infinite where the images are equal.

    a, b: (...,C,H,W) in 0..255, uint8 or floating point. border: pixels left out on each side.
    Returns float64 (...). Raises DataError for shapes that differ or a border that leaves nothing.
    """
    a, b = _prepared(a, b, border, smallest=1)
    mse = (a - b).square().mean(dim=(-3, -2, -1))
    return 10 * torch.log10(PEAK**2 / mse)


def ssim(a: Tensor, b: Tensor, border: int = 0) -> Tensor:
    """SSIM with an 11x11 Gaussian window (sigma 1.5), K1 0.01, K2 0.03, over the valid region.

    Population covariance, mean over the map, then over channels: what BasicSR and MATLAB's authors'
    script compute. a, b: (...,C,H,W) in 0..255. border: pixels left out on each side, before the
    5 pixels that the window itself cuts off. Returns float64 (...).
    Raises DataError for shapes that differ or images smaller than the window.
    """
    a, b = _prepared(a, b, border, smallest=WINDOW)
    mean_a, mean_b = blurred(a), blurred(b)
    products, squares = mean_a * mean_b, mean_a.square() + mean_b.square()
    covariance, variances = blurred(a * b) - products, blurred(a.square() + b.square()) - squares
    values = (2 * products + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))
    return values.mean(dim=(-3, -2, -1))


def blurred(image: Tensor) -> Tensor:
    """float64 (...,H,W) under SSIM's window, where it fits: (...,H-10,W-10).

    Rows of ``BLOCK`` outputs are products with a banded matrix: CPUs have no fast convolution in float64.
    """
    position = torch.arange(WINDOW, dtype=torch.float64, device=image.device) - WINDOW // 2
    window = torch.softmax(-position.square() / (2 * SIGMA**2), 0)
    band = image.new_zeros(BLOCK, BLOCK + WINDOW)
    band[:, :WINDOW] = window
    band = band.flatten()[: BLOCK * (BLOCK + WINDOW - 1)].view(BLOCK, -1)  # each row begins one further right
    for axis in (-1, -2):
        rows = image.movedim(axis, -1)
        count = rows.shape[-1] - WINDOW + 1
        blocks = F.pad(rows, (0, -count % BLOCK)).unfold(-1, BLOCK + WINDOW - 1, BLOCK)
        image = (blocks @ band.T).flatten(-2)[..., :count].movedim(-1, axis)
    return image


def sharpness(a: Tensor, b: Tensor, border: int = 0) -> Tensor:
    """Gradient energy of ``a`` relative to that of the reference ``b``; 1 is as sharp as the reference.

    Mean squared differences of neighbouring pixels, across plus down. ours: it counts wrong detail like right
    detail, so it says something only beside PSNR. a, b: (...,C,H,W). Returns float64 (...); infinite where
    the reference is flat. Raises DataError for shapes that differ.
    """
    a, b = _prepared(a, b, border, smallest=2)
    energy = [sum(x.diff(dim=d).square().mean(dim=(-3, -2, -1)) for d in (-1, -2)) for x in (a, b)]
    return torch.as_tensor(energy[0]) / torch.as_tensor(energy[1])


def _prepared(a: Tensor, b: Tensor, border: int, smallest: int) -> tuple[Tensor, Tensor]:
    """Both in float64 without the border."""
    if a.shape != b.shape or a.ndim < 3:
        raise DataError(f"images to compare must have one shape (...,C,H,W), got {tuple(a.shape)} and {tuple(b.shape)}")
    height, width = a.shape[-2] - 2 * border, a.shape[-1] - 2 * border
    if border < 0 or min(height, width) < smallest:
        raise DataError(
            f"crop={border} leaves {width}x{height} of {a.shape[-1]}x{a.shape[-2]} pixels, at least "
            f"{smallest}x{smallest} are needed: lower the protocol's crop"
        )
    inner = (..., slice(border, border + height), slice(border, border + width))
    return a[inner].double(), b[inner].double()
