"""Which sample comes when, and what is decided about it: pure functions of the seed and the sample number.

Training samples are numbered 0, 1, 2, ... over the whole run and over all ranks. Nothing about sample k
depends on the worker, the rank or the batch that it is made in, so a run that is resumed at sample k goes on
as if it had never stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from vsrbench.diffusion.noise import stable_seed
from vsrbench.types import Clip


def generator(*key: object) -> np.random.Generator:
    """Random numbers that belong to ``key``, the same on every machine and in every process."""
    return np.random.Generator(np.random.PCG64(stable_seed(*key)))


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, lap: int, units: int) -> np.ndarray:
    return generator(seed, epoch, lap, "permutation").permutation(units)


def unit_of(sample: int, seed: int, units: int, per_epoch: int) -> int:
    """The unit (0..units-1) behind a sample number: every epoch walks through its own permutation.

    An epoch shorter than ``units`` takes the first part of its permutation, a longer one takes several laps.
    """
    epoch, place = divmod(sample, per_epoch)
    return int(_permutation(seed, epoch, place // units, units)[place % units])


class SampleNumbers(Sampler[int]):
    """Sample numbers of one rank up to the end of the epoch: of every world x batch the rank's ``batch`` in a row.

    A batch thus holds the same samples on any number of ranks, and what compares the samples of a batch (VideoGigaGAN's
    minibatch deviation) sees the same. A Lightning epoch is ``steps`` global steps of world x batch samples. The first
    iteration starts at ``first``, a multiple of world x batch, and ends with the epoch that ``first`` lies in; every
    further one is the next whole epoch.
    """

    def __init__(self, steps: int, batch: int, rank: int = 0, world: int = 1, first: int = 0) -> None:
        self.steps, self.batch, self.rank, self.world = steps, batch, rank, world
        self.next = first

    def __iter__(self) -> Iterator[int]:
        epoch = self.steps * self.batch * self.world
        first = self.next
        self.next = (first // epoch + 1) * epoch
        starts = range(first + self.rank * self.batch, self.next, self.world * self.batch)
        return chain.from_iterable(range(start, start + self.batch) for start in starts)

    def __len__(self) -> int:
        return self.steps * self.batch


@dataclass(frozen=True)
class Choices:
    """What is decided at random about one training sample."""

    flip: bool
    flip_vertical: bool
    reverse: bool
    transpose: bool = False

    @classmethod
    def draw(cls, recipe: dict, *key: object) -> "Choices":
        def coin(setting: str) -> bool:
            return bool(recipe[setting]) and generator(*key, setting).random() < 0.5

        return cls(coin("flip"), coin("flip_vertical"), coin("time_reversal"), coin("transpose"))


def augment(clip: Clip, choices: Choices) -> Clip:
    """Mirror, transpose and reverse a clip; exact flows and occlusion go with the frames."""
    if choices.flip:
        clip = _mirrored(clip, -1)
    if choices.flip_vertical:
        clip = _mirrored(clip, -2)
    if choices.transpose:
        clip = _transposed(clip)
    return _reversed(clip) if choices.reverse else clip


def _mirrored(clip: Clip, axis: int) -> Clip:
    def image(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.flip(axis)

    def flow(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        sign = torch.tensor([-1.0, 1.0] if axis == -1 else [1.0, -1.0]).view(2, 1, 1)
        return value.flip(axis) * sign

    return replace(
        clip,
        lr=clip.lr.flip(axis),
        hr=image(clip.hr),
        flow_forward=flow(clip.flow_forward),
        flow_backward=flow(clip.flow_backward),
        occlusion=image(clip.occlusion),
    )


def _transposed(clip: Clip) -> Clip:
    def image(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.mT

    def flow(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.mT.flip(2)  # what was x is y

    return replace(
        clip,
        lr=clip.lr.mT,
        hr=image(clip.hr),
        flow_forward=flow(clip.flow_forward),
        flow_backward=flow(clip.flow_backward),
        occlusion=image(clip.occlusion),
    )


def _reversed(clip: Clip) -> Clip:
    def back(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.flip(1)

    occlusion = back(clip.occlusion)
    return replace(
        clip,
        lr=clip.lr.flip(1),
        hr=back(clip.hr),
        index=clip.index.flip(1),
        flow_forward=back(clip.flow_backward),
        flow_backward=back(clip.flow_forward),
        occlusion=None if occlusion is None else occlusion.flip(2),
    )


def collate(clips: Sequence[Clip]) -> Clip:
    """Join clips of one size into a batch; flows are kept where every clip has them."""

    def joined(field: str) -> Tensor | None:
        values = [getattr(c, field) for c in clips]
        return None if any(v is None for v in values) else torch.cat(values)

    return Clip(
        lr=torch.cat([c.lr for c in clips]),
        hr=joined("hr"),
        name=[n for c in clips for n in c.name],
        index=torch.cat([c.index for c in clips]),
        scale=clips[0].scale,
        flow_forward=joined("flow_forward"),
        flow_backward=joined("flow_backward"),
        occlusion=joined("occlusion"),
    )
