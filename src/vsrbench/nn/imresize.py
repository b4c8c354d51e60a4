"""MATLAB's ``imresize(image, scale, 'bicubic')``: the resizer that low-resolution video is defined by.

Half-pixel centres, cubic kernel with a = -0.5, the kernel widened by 1/scale where the image shrinks
(antialiasing), borders mirrored with the border sample repeated, weights normalised per output sample.
Everything but ``enlarge`` runs in float64: the result is compared to the bit after rounding to 8 bits.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 3  # pixels that the kernel reaches beyond an enlarged frame, and one more


def imresize(frames: Tensor, scale: float, antialias: bool = True) -> Tensor:
    """Resize the last two axes of ``frames`` (...,H,W) to (ceil(H*scale), ceil(W*scale)).

    Linear: works for any value range, does not clip, keeps the dtype. Rows are resized before columns, as
    MATLAB does when both axes have one scale.
    """
    values = frames.double()
    values = resize_axis(values, -2, scale, antialias)
    return resize_axis(values, -1, scale, antialias).to(frames.dtype).contiguous()


def enlarge(frames: Tensor, scale: int) -> Tensor:
    """``imresize`` of (N,C,H,W) by a whole number in float32, within 1e-6 of it for values in [0,1]: for pictures.

    torch's antialiasing resizer has the same kernel; at the borders, where it leaves samples out, it is given
    MATLAB's mirrored ones. Data and protocols need ``imresize``: a value at a tie may be rounded the other way here.
    """
    for axis in (-2, -1):
        length = frames.shape[axis]
        before, after = torch.arange(-MARGIN, 0), torch.arange(length, length + MARGIN)
        ends = [frames.index_select(axis, _mirrored(p, length).to(frames.device)) for p in (before, after)]
        frames = torch.cat([ends[0], frames, ends[1]], axis)
    kind = torch.float32 if scale & (scale - 1) == 0 else torch.float64  # thirds of a pixel are no fractions in binary
    enlarged = F.interpolate(frames.to(kind), scale_factor=float(scale), mode="bicubic", antialias=True)
    inner = slice(scale * MARGIN, -scale * MARGIN)
    return enlarged[..., inner, inner].float()


def resize_axis(values: Tensor, axis: int, scale: float, antialias: bool = True) -> Tensor:
    """Resize one axis of a float64 tensor; see ``imresize``."""
    positions, weights = _taps(values.shape[axis], scale, antialias)
    return weigh(values, axis, positions, weights)


def weigh(values: Tensor, axis: int, positions: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of samples along one axis of a float64 tensor.

    positions: (taps,n_out) integers; weights: (taps,n_out), or (taps,1) where all outputs share them.
    """
    positions, weights = positions.to(values.device), weights.to(values.device)
    values = values.movedim(axis, 0).contiguous()  # rows of memory are gathered several times as fast as columns
    shape = [-1] + [1] * (values.ndim - 1)
    result = None
    for position, weight in zip(positions, weights, strict=True):
        # Tap by tap, not as a matrix product: memory stays that of the result, and the order of the sums
        # does not depend on the size.
        term = values.index_select(0, position).mul_(weight.view(shape))
        result = term if result is None else result.add_(term)
    assert result is not None
    return result.movedim(0, axis)


def _taps(length: int, scale: float, antialias: bool) -> tuple[Tensor, Tensor]:
    """Source positions (taps,n_out) and normalised weights (taps,n_out) of every output sample."""
    stretch = scale if antialias and scale < 1 else 1.0
    width = 4.0 / stretch
    output = torch.arange(1, math.ceil(length * scale) + 1, dtype=torch.float64)
    centre = output / scale + 0.5 * (1 - 1 / scale)
    first = torch.floor(centre - width / 2)
    position = first + torch.arange(math.ceil(width) + 2, dtype=torch.float64)[:, None]
    weight = stretch * cubic(stretch * (centre - position))
    weight = weight / weight.sum(0)
    nonzero = weight.abs().amax(1) > 0
    return _mirrored(position[nonzero].long() - 1, length), weight[nonzero]


def _mirrored(position: Tensor, length: int) -> Tensor:
    """0-based positions reflected at the borders with the border sample repeated: -1 is 0, -2 is 1."""
    position = position.remainder(2 * length)
    return torch.where(position < length, position, 2 * length - 1 - position)


def cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5."""
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))
