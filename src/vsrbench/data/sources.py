"""A Source is one clip that is read lazily, a range of frames at a time."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vsrbench.data.degradations import Degradation
from vsrbench.data.readers import FrameFiles, image_size
from vsrbench.errors import ConfigError, DataError
from vsrbench.types import Clip

if TYPE_CHECKING:
    from torch import Tensor


class Window(NamedTuple):
    """A crop in LR pixels."""

    y: int
    x: int
    height: int
    width: int

    def of(self, image: np.ndarray, factor: int = 1) -> np.ndarray:
        """The crop of an image (H,W,3) whose pixels are ``factor`` times smaller than LR pixels."""
        y, x, h, w = (factor * v for v in self)
        return image[y : y + h, x : x + w]


@dataclass(frozen=True)
class Pairing:
    """How HR and LR belong together.

    crop_to_multiple: HR whose sides are no multiples of ``scale`` loses its last rows and columns; otherwise
    they are a DataError.
    """

    scale: int
    degradation: Degradation
    crop_to_multiple: bool = False


class Source(ABC):
    """A clip.

    name: identifies the clip; frame_names: one stem per frame, as on disk; scored: positions of the frames
    that the data set's convention evaluates, None: all.
    """

    name: str
    frame_names: list[str]
    scale: int
    scored: list[int] | None = None

    @property
    def frames(self) -> int:
        return len(self.frame_names)

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """LR (h,w). Raises DataError where HR and LR do not fit each other."""

    @property
    @abstractmethod
    def has_hr(self) -> bool: ...

    @abstractmethod
    def load(self, positions: Sequence[int], window: Window | None = None, key: tuple[object, ...] = ()) -> Clip:
        """The frames at ``positions`` (0-based, any order), B = 1; ``index`` holds the positions.

        key: of a training sample, for degradations that are drawn (``Degradation.by_clip``): the crop is degraded by
        itself. Without one the whole clip is, under its own name.
        """

    def read(self, start: int, stop: int) -> Clip:
        """Frames start..stop-1. Raises DataError beyond the clip's end and for frames that cannot be read."""
        if not 0 <= start < stop <= self.frames:
            raise DataError(f"clip {self.name} has {self.frames} frames: cannot read {start}..{stop - 1}")
        return self.load(range(start, stop))

    def files(self) -> list[str]:
        """The files that the clip is read from, those of frames that it does not have left out."""
        return []

    def stored(self, position: int) -> Iterable[np.ndarray]:
        """What a frame is made of, as it is stored: HR, LR, or both."""
        clip = self.load([position])
        return [frames.numpy() for frames in (clip.hr, clip.lr) if frames is not None]

    def first(self, frames: int | None) -> "Source":
        """The same clip cut behind its first ``frames`` frames."""
        if frames is None or frames >= self.frames:
            return self
        short = copy.copy(self)
        short.frame_names = self.frame_names[:frames]
        short.__dict__.pop("clip_lr", None)  # of all frames
        if self.scored is not None:
            short.scored = [p for p in self.scored if p < frames]
        return short


class PairedSource(Source):
    """A clip of stored frames: HR with LR, HR alone (LR is made from it) or LR alone."""

    def __init__(self, name: str, frame_names: list[str], pairing: Pairing, scored: list[int] | None = None) -> None:
        self.name, self.frame_names, self.scored = name, frame_names, scored
        self.pairing, self.scale = pairing, pairing.scale

    @abstractmethod
    def _hr(self, position: int) -> np.ndarray | None:
        """8-bit HR frame (H,W,3), None where there is none."""

    @abstractmethod
    def _lr(self, position: int) -> np.ndarray | None:
        """8-bit LR frame (h,w,3), None where it has to be made."""

    @abstractmethod
    def _label(self, position: int) -> str:
        """How messages call a frame."""

    def stored(self, position: int) -> Iterable[np.ndarray]:
        return [pixels for pixels in (self._hr(position), self._lr(position)) if pixels is not None]

    def load(self, positions: Sequence[int], window: Window | None = None, key: tuple[object, ...] = ()) -> Clip:
        import torch

        pairs = [self.pixels(p, window, drawn=not key) for p in positions]
        if key and self.pairing.degradation.by_clip and self._lr(positions[0]) is None:
            frames = [hr for _, hr in pairs if hr is not None]
            pairs = list(zip(self._drawn(frames, *key), frames, strict=True))
        return Clip(
            lr=as_frames([lr for lr, _ in pairs], self._label(positions[0])),
            hr=as_frames([hr for _, hr in pairs if hr is not None], self._label(positions[0])) if self.has_hr else None,
            name=[self.name],
            index=torch.tensor([list(positions)]),
            scale=self.scale,
        )

    def pixels(
        self, position: int, window: Window | None = None, drawn: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """LR (h,w,3) and HR (H,W,3) of one frame, 8 bits; HR is None where there is none.

        drawn: false leaves LR empty where it is drawn for whole clips.
        """
        hr, lr = self._hr(position), self._lr(position)
        size = self._fitted(_shape(hr), _shape(lr), position)
        window = window or Window(0, 0, *size)
        if lr is not None:
            return window.of(lr), None if hr is None else window.of(hr, self.scale)
        assert hr is not None
        if not self.pairing.degradation.by_clip:
            return self._degraded(hr, window, size), window.of(hr, self.scale)
        return window.of(self.clip_lr[position]) if drawn else hr[:0], window.of(hr, self.scale)

    @cached_property
    def clip_lr(self) -> np.ndarray:
        """LR (T,h,w,3), uint8, of all frames, where the degradation is drawn for the whole clip."""
        whole = Window(0, 0, *self.size)
        return self._drawn([self.pixels(p, whole, drawn=False)[1] for p in range(self.frames)], self.name)

    def _drawn(self, hr: "Sequence[np.ndarray | None]", *key: object) -> np.ndarray:
        import torch

        frames = torch.from_numpy(np.stack([frame for frame in hr if frame is not None])).permute(0, 3, 1, 2)
        return self.pairing.degradation.clip(frames, self.scale, *key).permute(0, 2, 3, 1).numpy()

    def _degraded(self, hr: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
        """LR of a window, equal to the same window of the whole degraded frame."""
        margin = self.pairing.degradation.margin
        top, left = max(window.y - margin, 0), max(window.x - margin, 0)
        bottom = min(window.y + window.height + margin, size[0])
        right = min(window.x + window.width + margin, size[1])
        import torch

        region = Window(top, left, bottom - top, right - left).of(hr, self.scale)
        lr = self.pairing.degradation(torch.from_numpy(region).permute(2, 0, 1), self.scale)
        inner = Window(window.y - top, window.x - left, window.height, window.width)
        return inner.of(lr.permute(1, 2, 0).numpy())

    def _fitted(self, hr: tuple[int, ...] | None, lr: tuple[int, ...] | None, position: int) -> tuple[int, int]:
        """LR (h,w) that the shapes of an HR and an LR frame agree on. Raises DataError where they do not."""
        if hr is None:
            assert lr is not None
            return lr[0], lr[1]
        height, width = hr[0] // self.scale, hr[1] // self.scale
        crop = self.pairing.crop_to_multiple
        if not crop and (height * self.scale, width * self.scale) != tuple(hr[:2]):
            raise DataError(
                f"{self._label(position)} is {hr[1]}x{hr[0]}, no multiple of scale={self.scale}: "
                "set data.crop_to_multiple=true to drop its last rows and columns"
            )
        if lr is not None and crop:
            height, width = min(height, lr[0]), min(width, lr[1])
        elif lr is not None and tuple(lr[:2]) != (height, width):
            raise DataError(
                f"HR and LR of {self._label(position)} do not fit scale={self.scale}: HR {hr[1]}x{hr[0]}, LR "
                f"{lr[1]}x{lr[0]} instead of {width}x{height}; set scale=..., or data.lr=made to make LR from HR"
            )
        return height, width


class CentreSource(Source):
    """The centre square of a clip: a method is given its LR pixels alone, and is compared with its HR pixels.

    side: HR pixels. Made LR frames are those of the whole frame, cut. Raises ConfigError for a side that is no multiple
    of the scale and for rendered clips, DataError (in ``size``) for a clip that is smaller.
    """

    def __init__(self, source: Source, side: int) -> None:
        if type(side) is not int or side < 1 or side % source.scale:
            raise ConfigError(f"a split's window={side}: give HR pixels, a multiple of scale={source.scale}, or null")
        if not isinstance(source, PairedSource):
            raise ConfigError(f"a split's window={side}: {source.name} is rendered; set data.frame_size instead")
        self.source, self.side = source, side // source.scale
        self.name, self.frame_names, self.scored = source.name, source.frame_names, source.scored
        self.scale = source.scale
        self.hr_files, self.lr_files = (getattr(source, name, None) for name in ("hr_files", "lr_files"))

    @cached_property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        height, width = self.source.size
        if self.side > min(height, width):
            raise DataError(
                f"a split's window={self.side * self.scale} is larger than {self.name}: "
                f"{width * self.scale}x{height * self.scale}"
            )
        return self.side, self.side

    @property
    def has_hr(self) -> bool:
        return self.source.has_hr

    def files(self) -> list[str]:
        return self.source.files()

    def stored(self, position: int) -> Iterable[np.ndarray]:
        return self.source.stored(position)

    def load(self, positions: Sequence[int], window: Window | None = None, key: tuple[object, ...] = ()) -> Clip:
        inner = window or Window(0, 0, *self.size)
        top, left = ((whole - self.side) // 2 for whole in self.source.size)
        return self.source.load(positions, inner._replace(y=top + inner.y, x=left + inner.x), key)


class FolderSource(PairedSource):
    """A clip of image files."""

    def __init__(
        self,
        name: str,
        pairing: Pairing,
        hr: FrameFiles | None,
        lr: FrameFiles | None,
        scored: list[int] | None = None,
    ) -> None:
        frames = hr or lr
        assert frames is not None
        super().__init__(name, frames.stems, pairing, scored)
        self.hr_files, self.lr_files = hr, lr
        if hr is not None and lr is not None:
            _check_same_frames(name, hr, lr)

    @property
    def has_hr(self) -> bool:
        return self.hr_files is not None

    def files(self) -> list[str]:
        folders = [frames for frames in (self.hr_files, self.lr_files) if frames is not None]
        return [frames.path(n) for frames in folders for n in range(self.frames)]

    @cached_property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        hr = None if self.hr_files is None else image_size(self.hr_files.path(0))
        lr = None if self.lr_files is None else image_size(self.lr_files.path(0))
        return self._fitted(hr, lr, 0)

    def _hr(self, position: int) -> np.ndarray | None:
        return None if self.hr_files is None else self.hr_files.read(position)

    def _lr(self, position: int) -> np.ndarray | None:
        return None if self.lr_files is None else self.lr_files.read(position)

    def _label(self, position: int) -> str:
        files = self.hr_files or self.lr_files
        assert files is not None
        return files.path(position)


def _check_same_frames(name: str, hr: FrameFiles, lr: FrameFiles) -> None:
    """Frames are paired by name: raise DataError where one side has a frame that the other lacks."""
    for side, other in ((lr, hr), (hr, lr)):
        absent = sorted(set(other.stems) - set(side.stems))
        if absent:
            raise DataError(
                f"clip {name}: {side.folder} has no frame {absent[0]}, which {other.folder} has "
                f"({len(absent)} such frames); restore it, or set data.lr=made to make LR from HR"
            )


def _shape(image: np.ndarray | None) -> tuple[int, ...] | None:
    return None if image is None else image.shape


def as_frames(images: Sequence[np.ndarray], label: str) -> "Tensor":
    """8-bit images (h,w,3) to float32 (1,T,3,h,w) in [0,1]. Raises DataError where their sizes differ."""
    import torch

    sizes = {i.shape for i in images}
    if len(sizes) > 1:
        raise DataError(f"the frames from {label} on have different sizes: {sorted(s[:2] for s in sizes)}")
    return to_unit(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))


def to_unit(frames: "Tensor") -> "Tensor":
    """8-bit frames (T,3,h,w) to float32 (1,T,3,h,w) in [0,1]."""
    return frames[None].contiguous().float().div_(255)
