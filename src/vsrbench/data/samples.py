"""Training samples: sample number k is made from k and the seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from vsrbench.data.catalog import whole
from vsrbench.data.degradations import Degradation
from vsrbench.data.paths import Paths, random_scene
from vsrbench.data.photos import Album, as_clip
from vsrbench.data.renderer import render
from vsrbench.data.sampling import Choices, augment, generator, unit_of
from vsrbench.data.sources import Source, Window
from vsrbench.errors import ConfigError, DataError
from vsrbench.types import Clip

PATHS = 20  # ours: a photograph holds many clips; with fewer paths an epoch of data=sample would be a few steps


@dataclass(frozen=True)
class Recipe:
    """What a training sample is (``train`` of the configuration).

    crop: LR pixels per side; centre_crop: from the middle of the frame instead of a random place.
    frames: per sample; batch: samples per device and step; flip, flip_vertical, transpose,
    time_reversal: decided with probability 1/2; stride: frame distances to choose from; samples_per_epoch:
    None for all. pool: so many different samples, over and over; None: every one is new.
    """

    crop: int
    frames: int
    batch: int
    flip: bool = True
    flip_vertical: bool = False
    transpose: bool = False
    time_reversal: bool = False
    stride: tuple[int, ...] = (1,)
    samples_per_epoch: int | None = None
    pool: int | None = None
    centre_crop: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Recipe":
        """Take this record's keys out of ``train``. Raises ConfigError for numbers that cannot be."""
        values = {key: settings[key] for key in cls.__dataclass_fields__ if key in settings}
        for key in ("crop", "frames", "batch"):
            if not isinstance(values.get(key), int) or values[key] < 1:
                raise ConfigError(f"train.{key}={values.get(key)}: give a whole number from 1")
        strides = [1] if values.get("stride") is None else values["stride"]
        if isinstance(strides, int | float | str) or not strides or any(type(s) is not int or s < 1 for s in strides):
            raise ConfigError(f"train.stride={strides}: give a list of whole numbers from 1")
        for key in ("samples_per_epoch", "pool"):
            whole(values.get(key), f"train.{key}")
        return cls(**{**values, "stride": tuple(strides)})


class TrainingSamples(Dataset[Clip]):
    """Sample k, whatever worker asks: a Clip with B = 1, named ``<clip>#<k>``."""

    def __init__(self, units: int, recipe: Recipe, seed: int) -> None:
        self.units, self.recipe, self.seed = units, recipe, seed
        self.per_epoch = recipe.samples_per_epoch or units

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, sample: int) -> Clip:
        sample = sample % self.recipe.pool if self.recipe.pool else sample
        epoch = sample // self.per_epoch
        unit = unit_of(sample, self.seed, self.units, self.per_epoch)
        clip = self.make(unit, (self.seed, epoch, sample))
        clip = augment(clip, Choices.draw(vars(self.recipe), self.seed, epoch, sample))
        return replace(clip, name=[f"{clip.name[0]}#{sample}"])

    def make(self, unit: int, key: tuple[int, int, int]) -> Clip:
        """The unit before it is mirrored; ``key`` = (seed, epoch, sample number)."""
        raise NotImplementedError


class ClipSamples(TrainingSamples):
    """Crops of stored clips.

    every_frame: a unit is a frame that the sample starts with (or, too near the end, a random start), so an
    epoch has as many samples as frames, as BasicSR counts on REDS; otherwise a unit is a clip.
    Raises DataError for clips without HR, and where no clip is long enough.
    """

    def __init__(self, sources: Sequence[Source], recipe: Recipe, seed: int, every_frame: bool) -> None:
        span = (recipe.frames - 1) * min(recipe.stride) + 1
        self.sources = [s for s in sources if s.frames >= span]
        if not self.sources:
            longest = max(s.frames for s in sources)
            raise DataError(f"a sample spans {span} frames, the longest clip has {longest}: lower train.frames")
        blind = [s.name for s in self.sources if not s.has_hr]
        if blind:
            raise DataError(f"training needs HR frames, clip {blind[0]} has none ({len(blind)} such clips)")
        lengths = [s.frames if every_frame else 1 for s in self.sources]
        self.ends = np.cumsum(lengths)
        self.every_frame = every_frame
        super().__init__(int(self.ends[-1]), recipe, seed)

    def make(self, unit: int, key: tuple[int, int, int]) -> Clip:
        number = int(np.searchsorted(self.ends, unit, side="right"))
        source = self.sources[number]
        start = unit - int(self.ends[number - 1]) if number and self.every_frame else unit
        positions = self._positions(source, start if self.every_frame else None, key)
        return source.load(positions, self._window(source, key), key)

    def _positions(self, source: Source, start: int | None, key: tuple[int, int, int]) -> list[int]:
        spans = {s: (self.recipe.frames - 1) * s + 1 for s in self.recipe.stride}
        fitting = [s for s, span in spans.items() if span <= source.frames]
        stride = fitting[int(generator(*key, "stride").integers(len(fitting)))]
        last = source.frames - spans[stride]
        if start is None or start > last:
            start = int(generator(*key, "start").integers(last + 1))
        return list(range(start, start + spans[stride], stride))

    def _window(self, source: Source, key: tuple[int, int, int]) -> Window:
        crop, (height, width) = self.recipe.crop, source.size
        if crop > min(height, width):
            raise DataError(f"train.crop={crop} is larger than the LR frames of clip {source.name}: {width}x{height}")
        if self.recipe.centre_crop:
            return Window((height - crop) // 2, (width - crop) // 2, crop, crop)
        y, x = generator(*key, "crop").integers(0, (height - crop + 1, width - crop + 1))
        return Window(int(y), int(x), crop, crop)


class PhotoSamples(TrainingSamples):
    """Camera paths over photographs, rendered at the size of the crop, with exact flow and occlusion.

    A photograph counts as ``PATHS`` units, one per path that an epoch draws over it.
    """

    def __init__(
        self, photos: Album, paths: Paths, recipe: Recipe, seed: int, scale: int, degradation: Degradation
    ) -> None:
        if recipe.centre_crop:
            raise ConfigError("train.centre_crop=true: clips over photographs are rendered at the size of the crop")
        super().__init__(PATHS * len(photos), recipe, seed)
        self.photos, self.paths = photos, paths
        self.scale, self.degradation = scale, degradation

    def make(self, unit: int, key: tuple[int, int, int]) -> Clip:
        number, strides = unit % len(self.photos), self.recipe.stride
        stride = strides[int(generator(*key, "stride").integers(len(strides)))]
        times = [stride * t for t in range(self.recipe.frames)]
        size = (self.recipe.crop * self.scale,) * 2
        scene = random_scene(self.photos, number, size, times, self.paths, generator(*key, "path"))
        rendering = render(scene, times, size, self.scale)
        return as_clip(rendering, self.photos.stem(number), times, self.degradation, self.scale, key)
