"""Any frame size for any network: pad LR to what the network needs, crop the output to exactly scale times."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vsrbench.types import Clip, Progress

if TYPE_CHECKING:
    from vsrbench.diffusion.noise import NoiseSource
    from vsrbench.methods.base import Method


@torch.inference_mode()
def upscale_padded(method: "Method", clip: Clip, noise: "NoiseSource", progress: Progress | None = None) -> Tensor:
    """``method.upscale`` for LR of any size, on the method's device: (B,T,3,s*h,s*w) float32 in [0,1], on the CPU.

    ``hr`` is left out of what the method sees, unless ``method.sees_truth``.
    """
    height, width = clip.lr.shape[-2:]
    padded = pad(clip, method.multiple, method.minimum).to(method.device)
    if method.sees_truth:
        padded = replace(padded, hr=clip.hr)
    frames = method.upscale(padded, noise, progress=progress)
    return frames[..., : height * method.scale, : width * method.scale].float().cpu()


def pad(clip: Clip, multiple: int, minimum: int) -> Clip:
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
    b, t = values.shape[:2]
    if t == 0:
        return values.new_zeros(*values.shape[:3], values.shape[3] + bottom, values.shape[4] + right)
    extended = F.pad(values.flatten(0, 1).float(), (0, right, 0, bottom), mode="replicate")
    return extended.unflatten(0, (b, t)).to(values.dtype)
