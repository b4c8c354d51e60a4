"""Writing a video file as a stream: encoder, colour tags, time stamps, and the audio copied bit by bit."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from torch import Tensor

from vsrbench.data.colour import depth, to_pixels, write_rgb
from vsrbench.errors import ConfigError, RunError
from vsrbench.inference.audio import Audio
from vsrbench.inference.encoders import encoder, options, pixel_format
from vsrbench.inference.records import Look, Moment


class VideoWriter:
    """A video file that appears under its name when it is complete, or not at all.

    size: (H,W) of the frames. settings: the config node ``video`` (codec, crf, preset, pix_fmt). Frames must
    come in order; time stamps and colour are those of ``look``.
    Raises ConfigError for an encoder or container that cannot do what is asked, RunError where nothing can be
    written; both before the first frame.
    """

    def __init__(self, path: Path, size: tuple[int, int], look: Look, settings: Any, audio: Audio | None) -> None:
        self.path, self.look, self.audio = path, look, audio
        self.written = self._packets = 0
        self._last: int | None = None
        self._end = Fraction(0)
        self._temporary = reserve(path)
        try:
            self._container = av.open(str(self._temporary), "w")
            self._open(size, settings)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._container.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, frame: Tensor, moment: Moment) -> None:
        """Encode a frame (3,H,W) in [0,1]. Raises DataError for values that are not finite."""
        picture = write_rgb(to_pixels(frame, depth(self._stream.pix_fmt)), self._stream.pix_fmt, self.look.colour)
        # Time stamps that repeat or go back, as broken files have them, would lose the frame.
        stamp = round(moment.start / self.look.tick)
        self._last = stamp if self._last is None else max(stamp, self._last + 1)
        picture.pts, picture.time_base = self._last, self.look.tick
        picture.duration = round(moment.duration / self.look.tick)
        self._end = sum(moment, Fraction(0))
        with self._writing():
            self._mux(picture)
        self.written += 1

    def finish(self, cut: bool) -> None:
        """Complete the file and give it its name; ``cut`` ends the audio with the last frame."""
        with self._writing():
            self._mux(None)
            self._copy_audio(self._end if cut else None)
            self._container.close()
            os.chmod(self._temporary, 0o644)
            with open(self._temporary, "rb") as file:
                os.fsync(file.fileno())
        if self._packets != self.written:
            raise RunError(f"{self.path}: {self.written} frames became {self._packets}: choose another video.codec")
        with self._writing():
            os.replace(self._temporary, self.path)

    def _open(self, size: tuple[int, int], settings: Any) -> None:
        codec = encoder(settings["codec"], self.path)
        if codec.canonical_name not in self._container.supported_codecs:
            raise ConfigError(f"video.codec={codec.name} does not fit {self.path.suffix}: write OUT.mkv instead")
        chosen = options(codec.name, settings)
        self._stream: Any = self._container.add_stream(codec.name, rate=self.look.rate, options=chosen)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = pixel_format(settings["pix_fmt"], size, self.look.bits)
        context, colour = self._stream.codec_context, self.look.colour
        context.time_base, context.bit_rate = self.look.tick, 0
        context.sample_aspect_ratio = self.look.aspect
        context.colorspace, context.color_primaries, context.color_trc = vars(colour).values()
        context.color_range = 1
        self._track: Any = None
        if self.audio is not None and self.audio.stream is not None:
            self._track = self._audio_track(self.audio.stream)
        try:
            self._container.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            width = size[1]
            raise ConfigError(
                f"{codec.name} refuses {width}x{size[0]} {self._stream.pix_fmt} with {chosen} ({error}): "
                "change video.codec, video.pix_fmt, video.crf or video.preset"
            ) from error

    def _audio_track(self, stream: Any) -> Any:
        name = stream.codec_context.name
        if name not in self._container.supported_codecs:
            raise ConfigError(
                f"{self.path.suffix} cannot hold the input's audio ({name}): write OUT.mkv, or set video.audio=false"
            )
        return self._container.add_stream_from_template(stream)

    def _mux(self, picture: Any) -> None:
        for packet in self._stream.encode(picture):
            self._copy_audio(packet.dts * packet.time_base)
            self._container.mux(packet)
            self._packets += 1

    def _copy_audio(self, until: Fraction | None) -> None:
        if self._track is None or self.audio is None:
            return
        for packet in self.audio.until(until):
            packet.stream = self._track
            self._container.mux(packet)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.error.FFmpegError) as error:
            raise RunError(
                f"cannot write {self.path} ({error.strerror}): free space or choose another output"
            ) from error


def reserve(path: Path) -> Path:
    """An empty temporary file beside ``path``, with its suffix. Raises RunError where none can be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror}): choose another output") from error
    os.close(handle)
    return Path(name)
