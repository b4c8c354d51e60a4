"""LR frames of any size for networks that need some sizes: padded at the bottom and on the right, then cropped."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vsrbench.diffusion.noise import CroppedNoise, NoiseSource
from vsrbench.methods.base import Method
from vsrbench.types import Clip, Progress


@torch.inference_mode()
def upscale_padded(
    method: Method,
    clip: Clip,
    noise: NoiseSource,
    progress: Progress | None = None,
    frame: tuple[int, int] | None = None,
    corner: tuple[int, int] = (0, 0),
) -> Tensor:
    """``method.upscale`` for LR of any size, on the method's device: (B,T,3,s*h,s*w) float32 in [0,1], on the CPU.

    ``hr`` is left out, unless the method may look at it (``Method.visible``). frame, corner: of a tile, the LR sides
    of the whole frame and where the tile begins.
    """
    height, width = clip.lr.shape[-2:]
    padded, noise = pad(clip, method, noise, frame, corner)
    if (truth := method.visible(clip).hr) is not None:
        padded = replace(padded, hr=truth)
    frames = method.upscale(padded, noise, progress=progress)
    return frames[..., : height * method.scale, : width * method.scale].float().cpu()


def pad(
    clip: Clip,
    method: Method,
    noise: NoiseSource,
    frame: tuple[int, int] | None = None,
    corner: tuple[int, int] = (0, 0),
) -> tuple[Clip, NoiseSource]:
    """The clip as the method needs it, on its device, and the noise that belongs to it.

    Inside the frame the noise is that of the frame without padding. frame, corner: as for ``upscale_padded``.
    """
    padded = enlarge(clip, method.multiple, method.minimum).to(method.device)
    height, width, rows, columns = *clip.lr.shape[-2:], *padded.lr.shape[-2:]
    return padded, CroppedNoise(noise, frame or (height, width), corner, (rows, columns))


def enlarge(clip: Clip, multiple: int, minimum: int) -> Clip:
    """The clip without ``hr``, its LR sides at least ``minimum`` and divisible by ``multiple``.

    # ours: the last row and column are repeated, at the bottom and on the right only, so that frames keep
    # their origin and frames smaller than the padding work as well (reflection needs more pixels than it adds).
    """
    bottom, right = (padded_size(n, multiple, minimum) - n for n in clip.lr.shape[-2:])
    clip = replace(clip, hr=None)
    if bottom == 0 and right == 0:
        return clip
    names = ("lr", "flow_forward", "flow_backward", "occlusion")
    sides = {name: getattr(clip, name) for name in names if getattr(clip, name) is not None}
    changed: dict[str, Any] = {name: _extend(value, bottom, right) for name, value in sides.items()}
    return replace(clip, **changed)


def padded_size(size: int, multiple: int, minimum: int) -> int:
    """The smallest multiple of ``multiple`` that is neither below ``size`` nor below ``minimum``."""
    return -(-max(size, minimum) // multiple) * multiple


def _extend(values: Tensor, bottom: int, right: int) -> Tensor:
    """Repeat the last row and column of (B,T,C,h,w) in its own type."""
    batch, frames = values.shape[:2]
    if frames == 0:
        return values.new_zeros(*values.shape[:3], values.shape[3] + bottom, values.shape[4] + right)
    extended = F.pad(rearrange(values, "b t c h w -> (b t) c h w").float(), (0, right, 0, bottom), mode="replicate")
    return rearrange(extended, "(b t) c h w -> b t c h w", b=batch).to(values.dtype)
