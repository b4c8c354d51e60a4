"""Scores of ours for faults that the literature's metrics miss: colour that wanders, and seams between chunks."""

import torch
from torch import Tensor

from vsrbench.errors import DataError
from vsrbench.metrics.frame import PEAK


def cast(out: Tensor, lr: Tensor) -> Tensor:
    """Colour cast of each frame: mean colour of the output minus that of the input, in 8-bit levels.

    out: (N,3,H,W), lr: (N,3,h,w), the LR frames that it was made from; both in [0,1]. Returns float64 (N,3).

    ours: the input is the reference, so that the score exists without ground truth. Downscaling keeps the mean colour
    but for the border's weight: ground truth has a cast of some hundredths of a level.
    """
    return PEAK * (out.double().mean((-2, -1)) - lr.double().mean((-2, -1)))


def colour_shift(casts: Tensor) -> Tensor:
    """Length of each frame's colour cast, (N,) in 8-bit levels; 0 where the mean colour is kept, lower is better."""
    return torch.linalg.vector_norm(casts, dim=-1)


def colour_drift(casts: Tensor) -> float:
    """How far the colour cast moves along a clip, in 8-bit levels; 0 is best.

    casts: (T,3) of consecutive frames, ``cast``. The length of the change of the least-squares line from the first
    frame to the last: a constant cast gives 0, one that grows evenly from 0 to d gives |d|, flicker hardly counts.
    Raises DataError for fewer than two frames.

    ours: a line, because drift is what accumulates; flicker is what the warping errors see.
    """
    if len(casts) < 2:
        raise DataError("colour_drift needs two frames or more")
    time = torch.arange(len(casts), dtype=casts.dtype, device=casts.device)
    time = time - time.mean()
    slope = (time.unsqueeze(1) * casts).sum(0) / time.square().sum()
    return float(torch.linalg.vector_norm(slope) * (len(casts) - 1))


def error_change(out: Tensor, truth: Tensor) -> Tensor:
    """Change of the error image between neighbours: root mean square of (out - truth)_t+1 - (out - truth)_t.

    out, truth: (T,3,H,W) in [0,1]. Returns float64 (T-1,) in 8-bit levels; 0 where the error stands still, lower is
    better. ours: no flow is needed, since what moves with the scene is in both.
    """
    error = PEAK * (out.double() - truth.double())
    return (error[1:] - error[:-1]).square().mean((1, 2, 3)).sqrt()


def chunk_seam(changes: Tensor, chunk: int | None = None) -> float:
    """By how many 8-bit levels the error changes more at seams between chunks than elsewhere; 0 is best.

    changes: (T-1,), ``error_change`` of a whole clip. chunk: frames per chunk, so that a seam lies behind every
    ``chunk``-th frame; None: the single worst place counts, whatever put it there. Returns the mean at the seams minus
    the median elsewhere, not below 0. Clips without a seam, or without another pair, have 0.
    Raises DataError for a chunk below 1 and a clip of a single frame.

    ours: a difference and not a ratio, because a method without any error elsewhere would make a ratio infinite. A cut
    of the scene counts as a place like any other: with chunk=None it is what the score finds.
    """
    if len(changes) == 0 or (chunk is not None and chunk < 1):
        raise DataError("chunk_seam needs two frames or more and chunks of 1 frame or more")
    pairs = torch.arange(len(changes), device=changes.device)
    at_seam = pairs == changes.argmax() if chunk is None else (pairs + 1) % chunk == 0
    if at_seam.all() or not at_seam.any():
        return 0.0
    return max(0.0, float(changes[at_seam].mean() - changes[~at_seam].median()))
