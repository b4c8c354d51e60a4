"""Frames that can be judged and look wrong all the same: faults that lower a number without making it implausible.

Each is a warning that stands in the result. Only the first frames of a clip are looked at.
"""

import torch
from torch import Tensor

from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip

LOOKED_AT = 4  # frames of a clip
SLIGHT = 1.0  # grey levels: frames that are nearer to bicubic interpolation are that, rounded otherwise
MARGIN = 0.98  # an error counts as smaller below this share: on still scenes neighbours differ by noise alone
STEPS = {"down": (1, 0), "up": (-1, 0), "right": (0, 1), "left": (0, -1)}


def look(out: Tensor, clip: Clip, truth: Tensor | None, bicubic: bool) -> list[str]:
    """What is suspicious about consecutive frames of one clip, as lines without the clip's name.

    out: uint8 (N,3,H,W). clip: the same frames of the data. truth: uint8 (N,3,H,W) or None. bicubic: whether the
    frames are expected to be bicubic interpolation of LR. A fault is reported only where every frame shows it.
    """
    out = out[:LOOKED_AT].float()
    found = []
    if not bicubic and _is_bicubic(out[0], clip):
        found.append("the frames are bicubic interpolation of LR: is this the method's output?")
    if truth is None:
        return found
    truth = truth[: len(out)].float()
    error = _error(out, truth)
    if (_error(out.flip(1), truth) < MARGIN * error).all():
        found.append("red and blue look swapped: write RGB, not BGR")
    for offset, word in ((1, "late"), (-1, "early")):
        if len(out) > 2 and _is_offset(out, truth, error, offset):
            found.append(f"each frame is nearer to its neighbour in the ground truth: they look one frame {word}")
    for word, (down, right) in STEPS.items():
        if (_shifted_error(out, truth, down, right) < MARGIN * _shifted_error(out, truth, 0, 0)).all():
            found.append(f"the frames look shifted {word} by a pixel: align pixel centres, pad at the far side")
    return found


def _error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean((1, 2, 3))


def _is_bicubic(out: Tensor, clip: Clip) -> bool:
    enlarged = imresize(clip.lr[0, 0], clip.scale).clamp(0, 1) * 255
    return bool((out - enlarged).abs().mean() < SLIGHT)


def _is_offset(out: Tensor, truth: Tensor, error: Tensor, offset: int) -> bool:
    """True where frame t of the output is nearer to frame t - offset (late: 1) of the ground truth, for every t."""
    ours, theirs = (out[1:], truth[:-1]) if offset > 0 else (out[:-1], truth[1:])
    own = error[1:] if offset > 0 else error[:-1]
    return bool((_error(ours, theirs) < MARGIN * own).all())


def _shifted_error(out: Tensor, truth: Tensor, down: int, right: int) -> Tensor:
    """Error against the ground truth moved by so many pixels, over the pixels that every move leaves."""
    moved = torch.roll(truth, (down, right), (2, 3))
    return _error(out[..., 1:-1, 1:-1], moved[..., 1:-1, 1:-1])
