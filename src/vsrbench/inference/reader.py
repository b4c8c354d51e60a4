"""A video file as a stream of frames: decoded once, front to back, upright, with its time stamps."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from einops import rearrange

from vsrbench.data.colour import Colour, depth, read_rgb
from vsrbench.errors import DataError
from vsrbench.types import Clip

OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "creation_time")


@dataclass(frozen=True)
class VideoFormat:
    """What an output takes over: frames per second, unit of time stamps, pixel aspect, colour, bits per value."""

    rate: Fraction
    tick: Fraction
    aspect: Fraction
    colour: Colour
    bits: int


class FrameTime(NamedTuple):
    """When a frame is shown and for how long, in seconds."""

    start: Fraction
    duration: Fraction


def open_stream(path: Path) -> tuple[Any, Any]:
    """A file's container and its best video stream. Raises DataError where there is none."""
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"cannot open {path} as a video ({error.strerror}): fetch it again or convert it") from error
    stream: Any = container.streams.best("video")
    if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
        container.close()
        raise DataError(f"{path} has no video stream: give a video file or a folder of frames")
    stream.thread_type = "AUTO"
    return container, stream


MILLISECOND = Fraction(1, 1000)
CUT_SHORT = Fraction(1, 10)  # seconds (and two frames) that may be missing from the length a file states


class VideoStream:
    """Frames of FFmpeg's choice among a file's video streams, upright, in any bit depth.

    name: the file's stem; size: (h,w) after rotation; format: see ``VideoFormat``; estimate: number of frames as far as
    the file says; count: frames decoded so far; ended: there are no more. Memory holds what one read gives.
    Raises DataError for what is no video, holds no frame, or breaks off, naming the frame.
    """

    frames = None  # known at the end only: what headers say is often wrong or absent

    def __init__(self, path: Path, scale: int, deinterlace: bool = False) -> None:
        self.path, self.name, self.scale, self.deinterlace = path, path.stem, scale, deinterlace
        self.count, self.ended = 0, False
        self._container, self._stream = open_stream(path)
        self._rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._end = Fraction(0)
        self._kept: deque[tuple[np.ndarray, FrameTime]] = deque()
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise DataError(f"{path} holds no video frame: fetch it again or convert it")
        self.interlaced, self.side_data = first.interlaced_frame, {data.type.name for data in first.side_data}
        self._rotate = rotation(first)
        self._colour = Colour.of(first)
        self._origin = self._seconds(first)
        self._keep(first)
        self.size: tuple[int, int] = self._kept[0][0].shape[:2]
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        swapped = (first.height, first.width) != self.size
        self.format = VideoFormat(
            rate=self._rate,
            tick=self._tick(),
            aspect=1 / aspect if swapped else aspect,
            colour=self._colour,
            bits=depth(first.format.name),
        )

    @property
    def estimate(self) -> int:
        if self._stream.frames:
            return self._stream.frames
        return round((self._container.duration or 0) / Fraction(av.time_base) * self._rate)

    @property
    def tags(self) -> dict[str, str]:
        """Title, artist and the like; what a container says of itself and of its writer is left out."""
        return {k: v for k, v in self._container.metadata.items() if k.lower() not in OF_THE_FILE}

    @property
    def chapters(self) -> list[Any]:
        return list(self._container.chapters())

    @property
    def left_out(self) -> list[str]:
        """Kinds of the streams that are not taken over: all but one video and one audio stream."""
        kinds = [stream.type for stream in self._container.streams]
        for kind in ("video", "audio"):
            if kind in kinds:
                kinds.remove(kind)
        return kinds

    def read(self, start: int, stop: int) -> Clip:
        """Frames start..stop-1, fewer at the end; earlier ones are forgotten, so ``start`` must not go back."""
        if self.count - len(self._kept) > start:
            raise ValueError(f"frame {start} was read before and is forgotten")
        while self.count < stop and (frame := next(self._decoded, None)) is not None:
            self._keep(frame)
            self._forget(start)
        self._forget(start)
        pixels = [values for values, _ in self._kept][: stop - start]
        peak = 255 if self.format.bits <= 8 else 65535
        lr = torch.zeros(0, 3, *self.size)
        if pixels:
            lr = rearrange(torch.from_numpy(np.stack(pixels)), "t h w c -> t c h w").contiguous().float() / peak
        index = torch.arange(start, start + len(pixels))[None]
        return Clip(lr[None], None, [self.name], index, self.scale)

    def _forget(self, start: int) -> None:
        while self._kept and self.count - len(self._kept) < start:
            self._kept.popleft()

    def frame_time(self, number: int) -> FrameTime:
        """When a frame of the last read is shown; the first one of the file at its own time, mostly 0."""
        return self._kept[number - (self.count - len(self._kept))][1]

    def _decode(self) -> Iterator[Any]:
        try:
            frames = (frame for packet in self._container.demux(self._stream) for frame in packet.decode())
            yield from deinterlaced(frames, self._stream) if self.deinterlace else frames
        except av.error.FFmpegError as error:
            raise self._broken(str(error.strerror)) from error
        # With several threads FFmpeg's decoder may drop the error at a file's end: compare the lengths.
        stated = self._stated_length()
        if stated and stated - self._end > CUT_SHORT + 2 / self._rate:
            raise self._broken(f"its header promises {float(stated):.1f} seconds")
        self.ended = True

    def _broken(self, reason: str) -> DataError:
        remedy = "fetch it again"
        if self.count:
            remedy += f", or take what is there with inference.max_frames={self.count}"
        return DataError(f"{self.path} breaks off at frame {self.count} ({reason}): {remedy}")

    def _stated_length(self) -> Fraction | None:
        """Seconds of the video track as the header has it; Matroska writes them as a tag."""
        if self._stream.duration is not None:
            return self._stream.duration * self._stream.time_base
        parts = self._stream.metadata.get("DURATION", "").split(":")
        if len(parts) != 3:
            return None
        hours, minutes, seconds = (Fraction(p.strip("\0 ")) for p in parts)
        return 3600 * hours + 60 * minutes + seconds

    def _keep(self, frame: Any) -> None:
        pixels = self._rotate(read_rgb(frame, self._colour))
        if self.count and pixels.shape[:2] != self.size:
            raise DataError(
                f"{self.path} changes its size at frame {self.count} to {pixels.shape[1]}x{pixels.shape[0]}: "
                "cut it there, or convert it to one size"
            )
        length = Fraction(frame.duration or 0) * (frame.time_base or 0)
        frame_time = FrameTime(self._seconds(frame), length or 1 / self._rate)
        self._kept.append((pixels, frame_time))
        self._end = sum(frame_time, Fraction(0))
        self.count += 1

    def _seconds(self, frame: Any) -> Fraction:
        """When a frame is shown."""
        # AVI and raw streams store no time stamps: what FFmpeg reports for them is the order of decoding.
        if frame.pts is None or self._container.format.name == "avi":
            return self.count / self._rate
        time = frame.pts * frame.time_base
        if self._stream.time_base == MILLISECOND and self.count:
            # ours: Matroska rounds to milliseconds; a frame that lies on the stated rate's grid is put back there
            exact = self._origin + round((time - self._origin) * self._rate) / self._rate
            return exact if abs(exact - time) <= MILLISECOND else time
        return time

    def _tick(self) -> Fraction:
        """A unit in which the time stamps are whole numbers."""
        tick = self._stream.time_base
        if tick != MILLISECOND and self._container.format.name != "avi":
            return tick
        common = math.lcm(self._rate.numerator, 1000)
        return Fraction(1, common) if common <= 1_000_000 else Fraction(1, 90_000)


def rotation(frame: Any) -> Callable[[np.ndarray], np.ndarray]:
    """How (h,w,3) pixels become upright: what the display matrix of the file says, turned and mirrored.

    # ours: applied instead of kept as a tag, since folders of frames and many players know no such tag.
    Raises DataError for angles that are no multiple of 90 degrees.
    """
    data = next((bytes(d) for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return np.ascontiguousarray
    # Row vectors of 16.16 numbers: x' = a x + c y, y' = b x + d y.
    (a, b), (c, d) = np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2].tolist()
    if (a or d) and (b or c):
        raise DataError(f"the video is turned by {frame.rotation} degrees: convert it to an upright one")

    def upright(pixels: np.ndarray) -> np.ndarray:
        transposed = not (a or d)
        pixels = pixels.transpose(1, 0, 2) if transposed else pixels
        flip_x, flip_y = (c < 0, b < 0) if transposed else (a < 0, d < 0)
        return np.ascontiguousarray(pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1])

    return upright


def deinterlaced(frames: Iterator[Any], stream: Any) -> Iterator[Any]:
    """FFmpeg's bwdif: a whole frame for each frame, from its own lines and the neighbours' of both fields."""
    graph = av.filter.Graph()
    graph.link_nodes(graph.add_buffer(template=stream), graph.add("bwdif", "mode=send_frame"), graph.add("buffersink"))
    graph.configure()
    for frame in frames:
        graph.vpush(frame)
        yield from _ready(graph)
    graph.vpush(None)
    yield from _ready(graph)


def _ready(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
