"""Windows of a clip: cutting and joining, padding that nobody attends to, cyclic shifts.

Maps are (B,D,H,W,C) with D frames, windows (B·n,N,C) with N = wd·wh·ww positions, row-major in both. Source of the
shift: Liu et al., "Swin Transformer" (2021), Sec. 3.2, extended to time by VRT (Liang et al. 2022).
"""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def pad_to_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """x (B,D,H,W,C) with zeros behind its last frame, row and column, so that windows divide it."""
    frames, height, width = (-size % step for size, step in zip(x.shape[1:4], window, strict=True))
    if not (frames or height or width):
        return x
    return F.pad(x, (0, 0, 0, width, 0, height, 0, frames))


def partition(x: Tensor, window: Sequence[int]) -> Tensor:
    """(B,D,H,W,C), which the window divides, to (B·n,N,C)."""
    d, h, w = window
    return rearrange(x, "b (nd d) (nh h) (nw w) c -> (b nd nh nw) (d h w) c", d=d, h=h, w=w)


def join(windows: Tensor, window: Sequence[int], size: Sequence[int]) -> Tensor:
    """What ``partition`` cut from a map of size (D,H,W), put together again: (B,D,H,W,C)."""
    nd, nh, nw = (length // step for length, step in zip(size, window, strict=True))
    d, h, w = window
    pattern = "(b nd nh nw) (d h w) c -> b (nd d) (nh h) (nw w) c"
    return rearrange(windows, pattern, nd=nd, nh=nh, nw=nw, d=d, h=h, w=w)


def real_positions(size: Sequence[int], window: Sequence[int], device: torch.device | None = None) -> Tensor | None:
    """bool (n,N): False where a window of the padded map (D,H,W) holds padding; None where nothing is padded."""
    if not any(length % step for length, step in zip(size, window, strict=True)):
        return None
    ones = torch.ones(1, *size, 1, device=device)
    return partition(pad_to_windows(ones, window), window)[..., 0] > 0


def may_attend(
    size: Sequence[int],
    window: Sequence[int],
    shift: Sequence[int],
    device: torch.device | None = None,
    mask_padding: bool = True,
) -> Tensor | None:
    """bool (n,N,N): which position (row) of a window may attend to which (column); None where all may.

    size: of the map (D,H,W) before padding; shift: how far the padded map was rolled to the front. Positions that were
    no neighbours before the roll do not see each other. mask_padding: nor does a position of the map see padding;
    padding itself is free to look (what it finds is cut away, and a row without any key has no softmax).
    """
    real = torch.ones(1, *size, 1, device=device)
    padded = pad_to_windows(real, window)
    has_padding = mask_padding and padded.shape != real.shape
    if not any(shift) and not has_padding:
        return None
    region = partition(_regions(padded.shape[1:4], window, shift, padded.device), window)[..., 0]
    allowed = region[:, None, :] == region[:, :, None]
    if has_padding:
        rolled = torch.roll(padded, [-s for s in shift], (1, 2, 3))
        inside = partition(rolled, window)[..., 0] > 0
        allowed &= inside[:, None, :] | ~inside[:, :, None]
    return allowed


def _regions(size: Sequence[int], window: Sequence[int], shift: Sequence[int], device: torch.device) -> Tensor:
    """Numbers (1,D,H,W,1) of what belonged together before a padded map was rolled."""
    number = torch.zeros(1, 1, 1, 1, device=device, dtype=torch.long)
    for axis, (length, step, offset) in enumerate(zip(size, window, shift, strict=True)):
        place = torch.arange(length, device=device)
        part = (
            (place >= length - step).long() + (place >= length - offset).long() if offset else torch.zeros_like(place)
        )
        shape = [1] * 4
        shape[1 + axis] = length
        number = 3 * number + part.reshape(shape)
    return number.unsqueeze(-1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(n,N,C) to (n,heads,N,C/heads)."""
    return rearrange(x, "n p (heads d) -> n heads p d", heads=heads)


def join_heads(x: Tensor) -> Tensor:
    """(n,heads,N,d) to (n,N,heads·d)."""
    return rearrange(x, "n heads p d -> n p (heads d)")


def in_pieces(
    change: Callable[..., Tensor], tensors: Sequence[Tensor], size: int, dim: int = 0, overwrite: bool = False
) -> Tensor:
    """``change(*tensors)``, ``size`` along ``dim`` at a time: for what treats every piece by itself.

    The pieces of the result are as long as those of the tensors. Without gradients they are written into one tensor as
    they come; overwrite: into the first of ``tensors``, whose shape and type the result then has.
    """
    pieces = zip(*(tensor.split(size, dim) for tensor in tensors), strict=True)
    if torch.is_grad_enabled():
        parts = [change(*piece) for piece in pieces]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    total, start = tensors[0].shape[dim], 0
    result = tensors[0] if overwrite else None
    for piece in pieces:
        part = change(*piece)
        if result is None:
            if part.shape[dim] == total:
                return part
            result = part.new_empty(*part.shape[:dim], total, *part.shape[dim + 1 :])
        result.narrow(dim, start, part.shape[dim]).copy_(part)
        start += part.shape[dim]
    assert result is not None
    return result
