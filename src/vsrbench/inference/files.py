"""From a path to a path: folders of frames and video files in, the same out, and the loop between them."""

import io
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from vsrbench.data.colour import Colour, to_pixels
from vsrbench.data.degradations import Bicubic
from vsrbench.data.readers import image_size, list_frames
from vsrbench.data.sources import FolderSource, Pairing
from vsrbench.errors import ConfigError, DataError, RunError
from vsrbench.inference.chunks import upscale_source
from vsrbench.inference.reader import FrameTime, VideoFormat, VideoStream
from vsrbench.inference.writer import Audio, VideoWriter
from vsrbench.runs import write_atomic
from vsrbench.stored import read_json
from vsrbench.types import Progress

if TYPE_CHECKING:
    from vsrbench.diffusion.noise import NoiseSource
    from vsrbench.methods.base import Method

HDR = {"MASTERING_DISPLAY_METADATA": "the mastering display", "CONTENT_LIGHT_LEVEL": "the light levels"}
MARKER = ".upscale.json"  # what the frames of an output folder were made with


def open_folder(folder: Path, scale: int) -> FolderSource:
    """The frames of a folder as LR, in the order of their numbers; 16-bit PNG is rounded to 8 bits.

    Raises DataError for an empty folder, a hole in the numbering, and frames of different sizes.
    """
    files = list_frames(folder, deep=True)
    first = image_size(files.path(0))
    for position in range(1, len(files.files)):
        height, width = image_size(files.path(position))
        if (height, width) != first:
            raise DataError(
                f"{files.path(position)} has {width}x{height} pixels, {files.files[0]} has {first[1]}x{first[0]}: "
                "frames of one clip must have one size; move it to another folder"
            )
    return FolderSource(folder.resolve().name, Pairing(scale, Bicubic()), None, files)


class FrameFolder:
    """8-bit RGB PNG files, each whole or absent; those an earlier call made with the same settings are kept.

    stems: names of the frames without suffix, None: eight digits. settings: everything the pixels depend on;
    it is stored in the folder, so that frames of two methods never mix. force: make all frames again.
    Raises RunError for a folder with other settings or of other origin, and where nothing can be written.
    """

    def __init__(self, folder: Path, stems: list[str] | None, settings: dict[str, Any], force: bool) -> None:
        self.folder, self.stems, self.force = folder, stems, force
        self.written: set[str] = set()
        marker = folder / MARKER
        before = read_json(marker, "remove it, and add force=true") if marker.exists() else None
        if not force and before is None and folder.is_dir() and any(folder.iterdir()):
            raise RunError(f"{folder} holds files of other origin: choose another output or add force=true")
        if not force and before not in (None, settings):
            differing = sorted(k for k in before.keys() | settings.keys() if before.get(k) != settings.get(k))
            raise RunError(
                f"{folder} holds frames made with other settings ({', '.join(differing)}): "
                "choose another output or add force=true"
            )
        write_atomic(marker, json.dumps(settings, indent=1).encode())

    def path(self, number: int) -> Path:
        stem = f"{number:08d}" if self.stems is None else self.stems[number]
        return self.folder / f"{stem}.png"

    def __contains__(self, number: object) -> bool:
        """True for a frame that an earlier call finished; ``force`` knows none."""
        return isinstance(number, int) and not self.force and self.path(number).is_file()

    def write(self, number: int, frame: Tensor) -> None:
        """Write a frame (3,H,W) in [0,1]. Raises DataError for values that are not finite."""
        buffer = io.BytesIO()
        Image.fromarray(to_pixels(frame)).save(buffer, format="PNG", compress_level=4)
        write_atomic(self.path(number), buffer.getvalue())

    def finish(self, count: int) -> None:
        """Check that the folder holds exactly the frames 0..count-1. Raises RunError naming one that differs."""
        wanted = {self.path(n).name for n in range(count)}
        present = {p.name for p in self.folder.glob("*.png") if not p.name.startswith(".")}
        if present != wanted:
            name = min(present ^ wanted)
            what = "is no frame of this input: remove it" if name in present else "is missing: run the command again"
            raise RunError(f"{self.folder}/{name} {what} (all {count} frames were written)")


def open_input(path: Path, scale: int, deinterlace: bool = False) -> FolderSource | VideoStream:
    """A folder of frames or a video file, as a source of LR frames. Raises DataError for anything else."""
    return open_folder(path, scale) if path.is_dir() else VideoStream(path, scale, deinterlace)


def notices(source: FolderSource | VideoStream) -> Iterator[str]:
    """Lines about what of a video file its output will lack, and about fields that would be mixed."""
    if not isinstance(source, VideoStream):
        return
    if source.left_out:
        yield f"notice: left out of {source.path.name}: {len(source.left_out)} streams ({', '.join(source.left_out)})"
    lost = [name for kind, name in HDR.items() if kind in source.side_data]
    if lost:
        yield f"notice: left out of {source.path.name}: {' and '.join(lost)} of HDR10; tag the output with them again"
    if source.interlaced and not source.deinterlace:
        yield (
            f"warning: {source.path.name} is interlaced, and the two fields of a frame are upscaled as one picture: "
            "add video.deinterlace=true"
        )


def count_of(source: FolderSource | VideoStream, max_frames: int | None) -> int:
    """How many frames will be made, for a video file as far as it says."""
    count = source.estimate if isinstance(source, VideoStream) else source.frames
    return count if max_frames is None else min(count, max_frames)


class Job:
    """One upscaling: the frames of ``source`` through ``method``, to be written by one of the two calls below.

    settings: the config node ``inference``. total counts frames, piece the method's own work on a chunk.
    """

    def __init__(
        self,
        method: "Method",
        source: FolderSource | VideoStream,
        noise: "NoiseSource",
        settings: Any,
        total: Progress,
        piece: Progress | None = None,
    ) -> None:
        self.method, self.source, self.noise, self.settings = method, source, noise, settings
        self.total, self.piece = total, piece

    def to_folder(self, folder: Path, made_with: dict[str, Any], force: bool) -> int:
        """Write ``folder/<stem>.png``, 8-bit RGB; returns the number of frames. See ``FrameFolder``."""
        stems = self.source.frame_names if isinstance(self.source, FolderSource) else None
        sink = FrameFolder(folder, stems, made_with, force)
        self._start()
        shown = 0
        for number, frame in self._frames(sink):
            sink.write(number, frame)
            self.total.advance(number + 1 - shown)
            shown = number + 1
        count = self._count()
        sink.finish(count)
        return count

    def to_video(self, path: Path, settings: Any) -> int:
        """Write a video file; returns the number of frames. settings: the config node ``video``.

        Time stamps, frame rate, colour and audio are those of an input video; frames of a folder are shown at
        ``settings.fps``. Raises ConfigError where that is missing.
        """
        video_format = self._format(settings["fps"])
        height, width = self.source.size
        size = (height * self.method.scale, width * self.method.scale)
        stream = self.source if isinstance(self.source, VideoStream) else None
        audio = Audio(stream.path) if stream is not None and settings["audio"] else None
        chapters = () if stream is None or self.settings["max_frames"] else stream.chapters
        tags = {} if stream is None else stream.tags
        with VideoWriter(path, size, video_format, settings, audio, tags, chapters) as writer:
            self._start()
            for number, frame in self._frames(()):
                writer.write(frame, self._frame_time(number, video_format.rate))
                self.total.advance()
            writer.finish(cut=stream is not None and not stream.ended)
        assert writer.written == self._count(), "every frame becomes a frame"
        return writer.written

    def _start(self) -> None:
        self.total.start(count_of(self.source, self.settings["max_frames"]), "upscaling")

    def _frames(self, done: Any) -> Any:
        return upscale_source(self.method, self.source, self.noise, self.settings, self.piece, done)

    def _count(self) -> int:
        """Frames of the input, as many as were asked for; known once it has been read."""
        count = self.source.count if isinstance(self.source, VideoStream) else self.source.frames
        return min(count, self.settings["max_frames"] or count)

    def _frame_time(self, number: int, rate: Fraction) -> FrameTime:
        if isinstance(self.source, VideoStream):
            return self.source.frame_time(number)
        return FrameTime(number / rate, 1 / rate)

    def _format(self, fps: Any) -> VideoFormat:
        if isinstance(self.source, VideoStream):
            if fps is not None:
                raise ConfigError(f"video.fps={fps} is for folders of frames: a video keeps its own rate")
            return self.source.format
        if fps is None:
            raise ConfigError("a folder of frames has no frame rate: add video.fps=25 (or 30000/1001, ...)")
        try:
            rate = Fraction(str(fps))
        except (ValueError, ZeroDivisionError) as error:
            raise ConfigError(f"video.fps={fps} is no frame rate: use a number or a fraction") from error
        if rate <= 0:
            raise ConfigError(f"video.fps={fps} is no frame rate: use a number above 0")
        height = self.source.size[0] * self.method.scale
        return VideoFormat(rate, 1 / rate, Fraction(1), Colour.usual(height), bits=8)
