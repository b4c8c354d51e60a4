"""Frames of any size for any network, in the memory of one tile: LR padded, cut into tiles that overlap, blended."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vsrbench.errors import ConfigError
from vsrbench.methods.padding import upscale_padded
from vsrbench.types import Clip, Progress

if TYPE_CHECKING:
    from vsrbench.diffusion.noise import NoiseSource
    from vsrbench.methods.base import Method


def upscale_tiled(
    method: "Method",
    clip: Clip,
    noise: "NoiseSource",
    tile: int | None,
    overlap: int,
    progress: Progress | None = None,
) -> Tensor:
    """Upscale tile by tile and blend: (B,T,3,s*h,s*w) float32 in [0,1], on the CPU.

    tile: side in LR pixels, None or at least the frame's sides: no tiling. overlap: LR pixels that
    neighbouring tiles share at least; the outer quarter of it counts nothing, so a method whose output
    depends on no more than ``overlap // 4`` LR pixels around gives exactly its untiled frames.
    Raises ConfigError for an overlap that does not fit the tile.
    """
    check_tiles(tile, overlap)
    height, width = clip.lr.shape[-2:]
    if tile is None or (tile >= height and tile >= width):
        return upscale_padded(method, clip, noise, progress)
    scale = method.scale
    rows, columns = (placed(side, tile, overlap, method.grid) for side in (height, width))
    row_weights, column_weights = weights(rows, height, overlap, scale), weights(columns, width, overlap, scale)
    frames = torch.zeros(*clip.lr.shape[:3], height * scale, width * scale)
    for (top, bottom), vertical in zip(rows, row_weights, strict=True):
        for (left, right), horizontal in zip(columns, column_weights, strict=True):
            piece = upscale_padded(
                method, cut(clip, top, bottom, left, right), noise, progress, (height, width), (top, left)
            )
            place = frames[..., top * scale : bottom * scale, left * scale : right * scale]
            place += piece * (vertical[:, None] * horizontal)
    return frames.clamp_(0, 1)


def check_tiles(tile: int | None, overlap: int) -> None:
    """Raise ConfigError where tiles could not cover a frame."""
    if overlap < 0:
        raise ConfigError(f"inference.overlap={overlap}: use 0 or more LR pixels")
    if tile is not None and tile <= overlap:
        raise ConfigError(f"inference.tile={tile} must be larger than inference.overlap={overlap}")


def placed(size: int, tile: int, overlap: int, grid: int = 1) -> list[tuple[int, int]]:
    """Start and stop of the fewest tiles that cover ``size`` pixels, spread evenly, starting at multiples of ``grid``.

    Equal ones, but for the last, which is shorter by less than ``grid``. Raises ConfigError for tiles too small for
    the overlap and the grid.
    """
    if size <= tile:
        return [(0, size)]
    stride, last = tile - overlap - (grid - 1), -(-(size - tile) // grid) * grid
    if stride < 1:
        raise ConfigError(
            f"inference.tile={tile} must be larger than inference.overlap={overlap} by {grid} or more: tiles of this "
            f"method start at multiples of {grid} LR pixels"
        )
    steps = -(-last // stride)
    starts = sorted({round(i * last / steps / grid) * grid for i in range(steps + 1)})
    return [(start, min(start + tile, size)) for start in starts]


def weights(spans: list[tuple[int, int]], size: int, overlap: int, scale: int) -> list[Tensor]:
    """One ramp per tile, (stop - start) * scale values each; at every HR pixel they sum to one.

    # ours: zero over the outer quarter of the overlap, where a tile lacks its surroundings, then linear.
    """
    margin = overlap // 4
    width = max(overlap - 2 * margin, 1 / scale)
    ramps, total = [], torch.zeros(size * scale, dtype=torch.float64)
    for start, stop in spans:
        centre = (torch.arange(start * scale, stop * scale, dtype=torch.float64) + 0.5) / scale
        ramp = torch.ones_like(centre)
        if start > 0:
            ramp = torch.minimum(ramp, (centre - start - margin) / width)
        if stop < size:
            ramp = torch.minimum(ramp, (stop - margin - centre) / width)
        ramps.append(ramp.clamp_(0, 1))
        total[start * scale : stop * scale] += ramps[-1]
    parts = zip(ramps, spans, strict=True)
    return [(ramp / total[start * scale : stop * scale]).float() for ramp, (start, stop) in parts]


def cut(clip: Clip, top: int, bottom: int, left: int, right: int) -> Clip:
    """A tile of a clip, without ``hr``."""
    names = ("lr", "flow_forward", "flow_backward", "occlusion")
    tensors = {name: getattr(clip, name) for name in names if getattr(clip, name) is not None}
    parts: dict[str, Any] = {name: value[..., top:bottom, left:right] for name, value in tensors.items()}
    return replace(clip, **parts, hr=None)
