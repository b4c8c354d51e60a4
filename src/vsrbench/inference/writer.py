"""Writing a video file as a stream: encoder, colour tags, time stamps, and the audio copied bit by bit."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from torch import Tensor

from vsrbench.data.colour import depth, to_pixels, write_rgb
from vsrbench.errors import ConfigError, RunError
from vsrbench.inference.reader import FrameTime, VideoFormat

# The settings that each encoder understands; others take their own defaults.
QUALITY = {
    "libx264": ("crf", "preset"),
    "libx265": ("crf", "preset"),
    "libsvtav1": ("crf",),
    "libvpx-vp9": ("crf",),
}
LOWEST_QUALITY = {"libx264": 51, "libx265": 51, "libsvtav1": 63, "libvpx-vp9": 63}


def encoder(name: str, path: Path) -> Any:
    """The encoder called ``name``; ``auto``: H.264, in WebM VP9. Raises ConfigError for an unknown one."""
    if name == "auto":
        name = "libvpx-vp9" if path.suffix.lower() == ".webm" else "libx264"
    try:
        codec = av.codec.Codec(name, "w")
    except ValueError:
        codec = None
    if codec is None or codec.type != "video":
        raise ConfigError(f"video.codec={name} is no video encoder: use one of {', '.join(QUALITY)}")
    return codec


def pixel_format(name: str, size: tuple[int, int], bits: int) -> str:
    """``name``, or for ``auto`` 4:2:0 in the input's depth; odd sizes need 4:4:4 to keep every pixel.

    Raises ConfigError for an unknown name.
    """
    if name != "auto":
        try:
            return av.VideoFormat(name).name
        except ValueError as error:
            raise ConfigError(f"video.pix_fmt={name} is unknown: use yuv420p, yuv444p, yuv420p10le or auto") from error
    layout = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    return layout + ("10le" if bits > 8 else "")


def options(name: str, settings: Any) -> dict[str, str]:
    """What the encoder called ``name`` takes from the config node ``video``. Raises ConfigError for another quality."""
    most = LOWEST_QUALITY.get(name)
    if most is not None and settings["crf"] > most:
        raise ConfigError(f"video.crf={settings['crf']}: {name} takes 0 (best) to {most}")
    values = {key: str(settings[key]) for key in QUALITY.get(name, ())}
    if name == "libvpx-vp9":
        values |= {"row-mt": "1", "cpu-used": "4"}  # ours: its own default takes ten times as long
    return values


class Audio:
    """The packets of FFmpeg's choice among a file's audio streams, in order."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path))
        self.stream: Any = self._container.streams.best("audio")
        self._packets = self._demux() if self.stream is not None else iter(())
        self._next: Any = next(self._packets, None)

    def until(self, time: Fraction | None) -> Iterator[Any]:
        """Packets that begin before ``time`` (seconds), None: all that are left."""
        while self._next is not None and (time is None or self._next.pts * self._next.time_base < time):
            packet, self._next = self._next, next(self._packets, None)
            yield packet

    def _demux(self) -> Iterator[Any]:
        for packet in self._container.demux(self.stream):
            if packet.dts is not None:  # the last one is empty and only flushes decoders
                yield packet


class VideoWriter:
    """A video file that appears under its name when it is complete, or not at all.

    size: (H,W) of the frames. settings: the config node ``video`` (codec, crf, preset, pix_fmt). Frames must
    come in order; time stamps and colour are those of ``video_format``, tags and chapters the input's.
    Raises ConfigError for an encoder or container that cannot do what is asked, RunError where nothing can be
    written; both before the first frame.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        video_format: VideoFormat,
        settings: Any,
        audio: Audio | None,
        tags: Mapping[str, str] | None = None,
        chapters: Sequence[Any] = (),
    ) -> None:
        self.path, self.format, self.audio = path, video_format, audio
        self.written = self._packets = 0
        self._last: int | None = None
        self._end = Fraction(0)
        self._temporary = reserve(path)
        try:
            self._container = av.open(str(self._temporary), "w")
            self._container.metadata.update(tags or {})
            if chapters:
                self._container.set_chapters(list(chapters))
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

    def write(self, frame: Tensor, frame_time: FrameTime) -> None:
        """Encode a frame (3,H,W) in [0,1]. Raises DataError for values that are not finite."""
        picture = write_rgb(to_pixels(frame, depth(self._stream.pix_fmt)), self._stream.pix_fmt, self.format.colour)
        # Time stamps that repeat or go back, as broken files have them, would lose the frame.
        stamp = round(frame_time.start / self.format.tick)
        self._last = stamp if self._last is None else max(stamp, self._last + 1)
        picture.pts, picture.time_base = self._last, self.format.tick
        picture.duration = round(frame_time.duration / self.format.tick)
        self._end = sum(frame_time, Fraction(0))
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
        encoder_options = options(codec.name, settings)
        self._stream: Any = self._container.add_stream(codec.name, rate=self.format.rate, options=encoder_options)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = pixel_format(settings["pix_fmt"], size, self.format.bits)
        context, colour = self._stream.codec_context, self.format.colour
        context.time_base, context.bit_rate = self.format.tick, 0
        context.sample_aspect_ratio = self.format.aspect
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
                f"{codec.name} refuses {width}x{size[0]} {self._stream.pix_fmt} with {encoder_options} ({error}): "
                "change video.codec, video.pix_fmt, video.crf or video.preset"
            ) from error

    def _audio_track(self, stream: Any) -> Any:
        name = stream.codec_context.name
        if name not in self._container.supported_codecs:
            raise ConfigError(
                f"{self.path.suffix} cannot hold the input's audio ({name}): write OUT.mkv, or set video.audio=false"
            )
        track = self._container.add_stream_from_template(stream)
        track.metadata.update({k: v for k, v in stream.metadata.items() if k in ("language", "title")})
        return track

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
