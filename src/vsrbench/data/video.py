"""A video file as a clip: decoded front to back as it is read, never held as a whole."""

from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np

from vsrbench.data.colour import HD, UNTAGGED, Colour, read_rgb
from vsrbench.data.readers import to_8_bit
from vsrbench.data.sources import PairedSource, Pairing
from vsrbench.errors import DataError

KEPT = 8  # decoded frames at hand: overlapping reads, as of a frame and the next, decode nothing twice


class VideoReader:
    """Frames of FFmpeg's choice among a file's video streams, 8-bit RGB (H,W,3), 10-bit video reduced to 8.

    Reading forward is one decoding pass; a frame further back than ``KEPT`` starts it again.
    Raises DataError for a file that is absent, holds no video, or ends early, and for rotated video.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"no video file {path}: set data.root to a file")
        self.path = path
        self._frames: Any = None
        self._next = 0
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process opens the file for itself."""
        return {**self.__dict__, "_frames": None, "_next": 0, "_kept": OrderedDict()}

    @cached_property
    def count(self) -> int:
        """Number of frames, from the packets, without decoding."""
        container, stream = self._open()
        with container:
            return sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)

    @cached_property
    def size(self) -> tuple[int, int]:
        container, stream = self._open()
        with container:
            return stream.height, stream.width

    @cached_property
    def assumed(self) -> str | None:
        """The colour matrix that is assumed where the file names none: "BT.709" or "BT.601"; None where it does."""
        frame = next(self._decode(), None)
        if frame is None or frame.format.is_rgb or int(frame.colorspace) not in UNTAGGED:
            return None
        return "BT.709" if frame.height >= HD else "BT.601"

    def __getitem__(self, position: int) -> np.ndarray:
        if position in self._kept:
            return self._kept[position]
        if self._frames is None or position < self._next:
            self._frames, self._next = self._decode(), 0
        while self._next <= position:
            frame = next(self._frames, None)
            if frame is None:
                raise DataError(
                    f"{self.path} ends at frame {self._next} of {self.count}: the file is damaged, fetch it again"
                )
            if self._next > position - KEPT:
                self._keep(self._next, _rgb(frame))
            self._next += 1
        return self._kept[position]

    def _keep(self, position: int, values: np.ndarray) -> None:
        self._kept[position] = values
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _open(self) -> tuple[Any, Any]:
        try:
            container = av.open(str(self.path))
        except av.error.FFmpegError as error:
            raise DataError(
                f"cannot open {self.path} as a video ({error.strerror}): fetch it again or convert it"
            ) from error
        stream: Any = container.streams.best("video")
        if stream is None:
            container.close()
            raise DataError(f"{self.path} has no video stream")
        stream.thread_type = "AUTO"
        return container, stream

    def _decode(self) -> Any:
        container, stream = self._open()
        with container:
            try:
                for frame in container.decode(stream):
                    if frame.rotation:
                        raise DataError(
                            f"{self.path} is stored rotated by {frame.rotation} degrees: convert it with "
                            f"`ffmpeg -i {self.path.name} OUT.mp4`, which turns the pixels"
                        )
                    yield frame
            except av.error.FFmpegError as error:
                raise DataError(
                    f"cannot decode {self.path} ({error.strerror}): the file is damaged, fetch it again"
                ) from error


def _rgb(frame: Any) -> np.ndarray:
    """8-bit RGB; deeper video is rounded."""
    values = read_rgb(frame, Colour.of(frame))
    return values if values.dtype == np.uint8 else to_8_bit(values)


class VideoSource(PairedSource):
    """A video as LR (``role="lr"``), or as HR from which LR is made. Frame names are eight digits."""

    def __init__(self, path: Path, pairing: Pairing, role: str) -> None:
        self.reader, self.role = VideoReader(path), role
        names = [f"{n:08d}" for n in range(self.reader.count)]
        if not names:
            raise DataError(f"{path} has no video frames")
        super().__init__(path.stem, names, pairing)

    @property
    def has_hr(self) -> bool:
        return self.role == "hr"

    def files(self) -> list[str]:
        return [str(self.reader.path)]

    @property
    def size(self) -> tuple[int, int]:
        size = self.reader.size
        return self._fitted(size, None, 0) if self.has_hr else size

    def _hr(self, position: int) -> np.ndarray | None:
        return self.reader[position] if self.has_hr else None

    def _lr(self, position: int) -> np.ndarray | None:
        return None if self.has_hr else self.reader[position]

    def _label(self, position: int) -> str:
        return f"{self.reader.path} frame {position}"
