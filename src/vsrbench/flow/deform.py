"""Modulated deformable convolution (Zhu et al. 2019, "Deformable ConvNets v2") in plain PyTorch.

Layouts are those of ``torchvision.ops.deform_conv2d`` and mmcv, so that published weights fit. No compiled operator is
needed; torchvision's takes over on a GPU where it can be loaded. Both give the same values and gradients, but where an
offset lands exactly on a pixel: there bilinear sampling has a kink, and which side's slope is taken is up to rounding.
"""

from functools import cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vsrbench.flow.warp import pixel_grid
from vsrbench.nn.functional import full_precision

BACKENDS = ("auto", "plain", "compiled")


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    backend: str = "auto",
) -> Tensor:
    """Convolution whose taps are displaced and weighted position by position: (N,C,H,W) to (N,O,Ho,Wo).

    weight: (O,C,kh,kw). offset: (N,2*G*K,Ho,Wo) in pixels, for G groups of C/G channels and K = kh*kw taps in rows;
    channel 2*(g*K + tap) displaces y, the next one x. mask: (N,G*K,Ho,Wo), channel g*K + tap. Sampling is bilinear,
    zero outside. Positions and sums are float32 whatever autocast says; the result has the type of ``x``.
    backend: "plain" PyTorch, torchvision's "compiled" operator, or "auto": the latter on a GPU where there is one (on a
    CPU it is twice as slow forward and six times backward). Raises ValueError for shapes that do not belong together,
    and for "compiled" where torchvision's operators do not fit the installed torch.
    """
    _check(x, offset, mask, weight, (stride, padding, dilation), backend)
    with full_precision(x.device):
        exact = torch.promote_types(x.dtype, torch.float32)
        run = _compiled if backend == "compiled" or (backend == "auto" and x.is_cuda and has_compiled()) else _plain
        result = run(x.to(exact), offset.to(exact), mask.to(exact), weight.to(exact), stride, padding, dilation)
        if bias is not None:
            result = result + bias.to(exact).view(1, -1, 1, 1)
    return result.to(x.dtype)


@cache
def has_compiled() -> bool:
    """Whether torchvision's operator can be used; its wheel fits the installed torch or does not."""
    import torchvision  # noqa: F401  (registers the operators)

    return hasattr(torch.ops.torchvision, "deform_conv2d")


def _plain(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    """Tap by tap: sample all groups at once, weigh, and mix the channels."""
    rows, columns = offset.shape[-2:]
    taps = weight.shape[-2] * weight.shape[-1]
    groups = mask.shape[1] // taps
    # groups go into the batch: each has its own positions
    grouped = rearrange(x, "n (g c) h w -> (n g) c h w", g=groups)
    offsets = rearrange(offset, "n (g taps yx) h w -> (n g) taps yx h w", g=groups, taps=taps).flip(2)  # x first
    masks = rearrange(mask, "n (g taps) h w -> (n g) taps 1 h w", g=groups)
    corner = pixel_grid(rows, columns, x) * stride - padding
    total = x.new_zeros(len(x), weight.shape[0], rows, columns)
    for tap in range(taps):
        down, across = divmod(tap, weight.shape[-1])
        place = corner + dilation * x.new_tensor([across, down]).view(2, 1, 1)
        sampled = _sample(grouped, place + offsets[:, tap]) * masks[:, tap]
        sampled = rearrange(sampled, "(n g) c h w -> n (g c) h w", g=groups)
        total = total + F.conv2d(sampled, weight[:, :, down, across, None, None])
    return total


def _sample(image: Tensor, place: Tensor) -> Tensor:
    """Bilinear samples (N,C,Ho,Wo) of ``image`` (N,C,H,W) at ``place`` (N,2,Ho,Wo): pixels, x first; zero outside."""
    size = place.new_tensor([image.shape[-1], image.shape[-2]])
    grid = (2 * rearrange(place, "n xy h w -> n h w xy") + 1) / size - 1
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _compiled(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    groups = mask.shape[1] // (weight.shape[-2] * weight.shape[-1])
    bias = x.new_zeros(weight.shape[0])
    # twice each: vertical and horizontal; then weight groups, offset groups, and that there is a mask
    steps = (stride, stride, padding, padding, dilation, dilation)
    result: Tensor = torch.ops.torchvision.deform_conv2d(x, weight, offset, mask, bias, *steps, 1, groups, True)
    return result


def _check(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, steps: tuple[int, int, int], backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: use one of {', '.join(BACKENDS)}")
    if backend == "compiled" and not has_compiled():
        raise ValueError("backend='compiled': torchvision's operators do not fit the installed torch; use 'plain'")
    stride, padding, dilation = steps
    kernel = weight.shape[-2:]
    sides = zip(x.shape[-2:], kernel, strict=True)
    size = [(side + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for side, k in sides]
    taps = kernel[0] * kernel[1]
    groups, rest = divmod(mask.shape[1], taps)
    if rest or not groups or x.shape[1] % groups:
        raise ValueError(f"{mask.shape[1]} mask channels: need {taps} for each group of the {x.shape[1]} channels")
    expected = {
        "weight": (weight, (weight.shape[0], x.shape[1], *kernel)),
        "mask": (mask, (len(x), groups * taps, *size)),
        "offset": (offset, (len(x), 2 * groups * taps, *size)),
    }
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must be {shape}, got {tuple(value.shape)}")
