"""Noise as a function of what it is for, never of how the work is grouped."""

import hashlib
import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


def stable_seed(*key: object) -> int:
    """A 63-bit number from any printable key, the same on every machine and in every process."""
    text = "\x1f".join(str(k) for k in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class NoiseSource(Protocol):
    """What sampling and training ask for random numbers."""

    def normal(self, shape: tuple[int, ...], purpose: str, clip: str = "", frame: int = 0, step: int = 0) -> Tensor: ...

    def uniform(
        self, shape: tuple[int, ...], purpose: str, clip: str = "", frame: int = 0, step: int = 0
    ) -> Tensor: ...


@dataclass(frozen=True)
class Noise:
    """Standard normal and uniform numbers derived from (seed, purpose, clip, frame, step).

    The same clip gets the same noise for any batch size, frame grouping, chunk, rank or device count.
    Training samples carry their number in the clip's name (``000#1234``), so their draws never repeat.
    """

    seed: int

    def generator(self, purpose: str, clip: str = "", frame: int = 0, step: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(stable_seed(self.seed, purpose, clip, frame, step))

    def normal(self, shape: tuple[int, ...], purpose: str, clip: str = "", frame: int = 0, step: int = 0) -> Tensor:
        """Standard normal float32 on the CPU."""
        return torch.randn(shape, generator=self.generator(purpose, clip, frame, step))

    def uniform(self, shape: tuple[int, ...], purpose: str, clip: str = "", frame: int = 0, step: int = 0) -> Tensor:
        """Uniform float32 in [0,1) on the CPU."""
        return torch.rand(shape, generator=self.generator(purpose, clip, frame, step))


@dataclass(frozen=True)
class CroppedNoise:
    """What a part of a frame sees of the whole frame's noise, so that tiles that overlap agree where they do.

    noise: of the whole frame. frame: its LR sides (H,W). corner: of the part, (top,left) in LR pixels. part: the LR
    sides (h,w) that the method is given. A draw of (C,a,b) lies on a grid that is 2^k times as fine as LR, or coarser;
    a part that is padded, or reaches beyond the frame, gets draws of its own out there. Other shapes are not cropped.
    """

    noise: NoiseSource
    frame: tuple[int, int]
    corner: tuple[int, int]
    part: tuple[int, int]

    def normal(self, shape: tuple[int, ...], purpose: str, clip: str = "", frame: int = 0, step: int = 0) -> Tensor:
        """Standard normal float32 on the CPU."""
        if len(shape) != 3:
            return self.noise.normal(shape, purpose, clip, frame, step)
        finer = [2.0 ** math.floor(math.log2(a / side)) for a, side in zip(shape[1:], self.part, strict=True)]
        height, width = (math.ceil(side * k) for side, k in zip(self.frame, finer, strict=True))
        whole = self.noise.normal((shape[0], height, width), purpose, clip, frame, step)
        top, left = (int(place * k) for place, k in zip(self.corner, finer, strict=True))
        inside = whole[:, top : top + shape[1], left : left + shape[2]]
        if inside.shape == shape:
            return inside.clone()  # a view would keep the whole field in memory
        padded = self.noise.normal(shape, f"{purpose} beyond the frame", clip, frame, step)
        padded[:, : inside.shape[1], : inside.shape[2]] = inside
        return padded

    def uniform(self, shape: tuple[int, ...], purpose: str, clip: str = "", frame: int = 0, step: int = 0) -> Tensor:
        """Uniform float32 in [0,1) on the CPU; nothing is cropped."""
        return self.noise.uniform(shape, purpose, clip, frame, step)


@dataclass(frozen=True)
class RecordedNoise:
    """Replays stored draws: ``draws[(purpose, clip, frame, step)]``. Raises KeyError naming an absent draw."""

    draws: dict[tuple[str, str, int, int], Tensor] = field(default_factory=dict)

    def normal(self, shape: tuple[int, ...], purpose: str, clip: str = "", frame: int = 0, step: int = 0) -> Tensor:
        draw = self.draws[(purpose, clip, frame, step)]
        return draw.reshape(shape)

    uniform = normal
