"""Photographs on disk, and clips that are rendered from them when they are read."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from vsrbench.data.degradations import Degradation
from vsrbench.data.readers import SUFFIXES, read_image
from vsrbench.data.renderer import Motion, Rendering, Scene, Thing, render
from vsrbench.data.sources import Source, Window, to_unit
from vsrbench.errors import ConfigError, DataError
from vsrbench.types import Clip

CACHE_BYTES = 256 * 2**20  # decoded photographs that one process keeps


@dataclass
class Album:
    """Photographs that are decoded when they are first needed; as many stay in memory as fit the budget."""

    files: list[str]
    _kept: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> np.ndarray:
        """Photograph (H,W,3) uint8."""
        if number in self._kept:
            return self._kept[number]
        photo = read_image(self.files[number])
        if self._bytes + photo.nbytes <= CACHE_BYTES:
            self._kept[number] = photo
            self._bytes += photo.nbytes
        return photo

    def stem(self, number: int) -> str:
        return Path(self.files[number]).stem


def album(folder: str | Path) -> Album:
    """The photographs of a folder, without its subfolders. Raises DataError where there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: set data.root to a folder of photographs")
    files = sorted(str(p) for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise DataError(f"no photographs in {folder}: expected {', '.join(SUFFIXES)}")
    return Album(files)


def as_clip(
    rendering: Rendering,
    name: str,
    index: Sequence[int],
    degradation: Degradation,
    scale: int,
    key: tuple[object, ...] = (),
) -> Clip:
    """A rendering with its LR frames as a Clip with B = 1. key: see ``Source.load``."""
    lr = degradation.clip(rendering.hr, scale, *(key or (name,)))
    return Clip(
        lr=to_unit(lr),
        hr=to_unit(rendering.hr),
        name=[name],
        index=torch.tensor([list(index)]),
        scale=scale,
        flow_forward=rendering.flow_forward[None],
        flow_backward=rendering.flow_backward[None],
        occlusion=rendering.occlusion[None],
    )


class Scenery(Protocol):
    """A Scene whose photographs are still files."""

    def open(self) -> Scene: ...


@dataclass(frozen=True)
class SceneFile:
    """A Scenery with a given path."""

    photo: str
    camera: Motion
    thing: Thing | None = None
    thing_photo: str | None = None

    def open(self) -> Scene:
        piece = None if self.thing_photo is None else _photo(self.thing_photo)
        return Scene(_photo(self.photo), self.camera, self.thing, piece)


@lru_cache(maxsize=4)
def _photo(path: str) -> np.ndarray:
    return read_image(path)


@dataclass(eq=False)
class RenderedSource(Source):
    """A clip that is rendered when it is read. Its frame numbers are times on the camera's path.

    shape: HR (H,W), multiples of ``scale``. Raises DataError where the path leaves the photograph.
    """

    name: str
    frame_names: list[str]
    shape: tuple[int, int]
    scale: int
    degradation: Degradation
    scene: Scenery

    def __post_init__(self) -> None:
        if any(n % self.scale for n in self.shape):
            raise ConfigError(f"data.frame_size={list(self.shape)} must be multiples of scale={self.scale}")

    @property
    def size(self) -> tuple[int, int]:
        return self.shape[0] // self.scale, self.shape[1] // self.scale

    @property
    def has_hr(self) -> bool:
        return True

    def files(self) -> list[str]:
        photos = (getattr(self.scene, "photo", None), getattr(self.scene, "thing_photo", None))
        return [photo for photo in photos if photo]

    @cached_property
    def clip_lr(self) -> torch.Tensor:
        """LR (1,T,3,h,w) of all frames, where the degradation is drawn for the whole clip."""
        rendering = render(self.scene.open(), range(self.frames), self.shape, self.scale)
        return as_clip(rendering, self.name, range(self.frames), self.degradation, self.scale).lr

    def load(self, positions: Sequence[int], window: Window | None = None, key: tuple[object, ...] = ()) -> Clip:
        if window is not None:
            raise ValueError("a rendered clip has no crops: render smaller frames")
        rendering = render(self.scene.open(), positions, self.shape, self.scale)
        clip = as_clip(rendering, self.name, positions, self.degradation, self.scale, key)
        if key or not self.degradation.by_clip:
            return clip
        return replace(clip, lr=self.clip_lr[:, list(positions)])
