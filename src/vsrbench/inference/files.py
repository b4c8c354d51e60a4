"""From a path to a path: which reader, which writer, and the loop between them."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.data.colour import Colour
from vsrbench.data.sources import FolderSource
from vsrbench.errors import ConfigError
from vsrbench.inference.chunks import upscale_source
from vsrbench.inference.frames import FrameFolder, open_folder
from vsrbench.inference.reader import VideoStream
from vsrbench.inference.records import Look, Moment
from vsrbench.inference.writer import Audio, VideoWriter
from vsrbench.types import Progress

if TYPE_CHECKING:
    from vsrbench.diffusion.noise import NoiseSource
    from vsrbench.methods.base import Method


def open_input(path: Path, scale: int) -> FolderSource | VideoStream:
    """A folder of frames or a video file, as a source of LR frames. Raises DataError for anything else."""
    return open_folder(path, scale) if path.is_dir() else VideoStream(path, scale)


def left_out(source: FolderSource | VideoStream) -> str | None:
    """A line about the streams of a video file that its output will lack, None where it lacks none."""
    if not isinstance(source, VideoStream) or not source.left_out:
        return None
    return f"notice: left out of {source.path.name}: {len(source.left_out)} streams ({', '.join(source.left_out)})"


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
        look = self._look(settings["fps"])
        height, width = self.source.size
        size = (height * self.method.scale, width * self.method.scale)
        stream = self.source if isinstance(self.source, VideoStream) else None
        audio = Audio(stream.path) if stream is not None and settings["audio"] else None
        with VideoWriter(path, size, look, settings, audio) as writer:
            self._start()
            for number, frame in self._frames(()):
                writer.write(frame, self._moment(number, look.rate))
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

    def _moment(self, number: int, rate: Fraction) -> Moment:
        if isinstance(self.source, VideoStream):
            return self.source.moment(number)
        return Moment(number / rate, 1 / rate)

    def _look(self, fps: Any) -> Look:
        if isinstance(self.source, VideoStream):
            if fps is not None:
                raise ConfigError(f"video.fps={fps} is for folders of frames: a video keeps its own rate")
            return self.source.look
        if fps is None:
            raise ConfigError("a folder of frames has no frame rate: add video.fps=25 (or 30000/1001, ...)")
        try:
            rate = Fraction(str(fps))
        except (ValueError, ZeroDivisionError) as error:
            raise ConfigError(f"video.fps={fps} is no frame rate: use a number or a fraction") from error
        if rate <= 0:
            raise ConfigError(f"video.fps={fps} is no frame rate: use a number above 0")
        height = self.source.size[0] * self.method.scale
        return Look(rate, 1 / rate, Fraction(1), Colour.usual(height), bits=8)
