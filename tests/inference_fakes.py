"""Methods whose output is known in advance, clips in memory, and small video files."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsrbench.data.colour import Colour, write_rgb
from vsrbench.types import Clip

SETTINGS = {"chunk": 4, "whole": 1, "tile": None, "overlap": 8, "batch": 4, "max_frames": None}
VIDEO = {"codec": "auto", "crf": 4, "preset": "veryfast", "pix_fmt": "auto", "fps": None, "audio": True}


class Fake(nn.Module):
    """Each frame becomes the mean of its neighbours within ``context`` frames and ``reach`` pixels, then nearest.

    Checks that the shapes are as it needs them and notes what it saw.
    """

    device = torch.device("cpu")

    def __init__(self, scale: int = 4, context: int = 0, reach: int = 0, multiple: int = 1, minimum: int = 1) -> None:
        super().__init__()
        self.scale, self.context, self.reach, self.multiple, self.minimum = scale, context, reach, multiple, minimum
        self.seen: list[Clip] = []

    @property
    def grid(self) -> int:
        return self.multiple

    def visible(self, clip: Clip) -> Clip:
        return replace(clip, hr=None)

    def upscale(self, clip: Clip, noise: Any, trace: Any = None, progress: Any = None) -> Tensor:
        self.seen.append(clip)
        assert all(n % self.multiple == 0 and n >= self.minimum for n in clip.lr.shape[-2:])
        if progress is not None:
            progress.start(clip.frames, "frames")
            progress.advance(clip.frames)
        spans = [(max(t - self.context, 0), t + self.context + 1) for t in range(clip.frames)]
        mixed = torch.stack([clip.lr[:, first:last].mean(1) for first, last in spans], dim=1)
        flat = mixed.flatten(0, 1)
        if self.reach:
            flat = F.pad(flat, [self.reach] * 4, mode="replicate")
            flat = F.avg_pool2d(flat, 2 * self.reach + 1, stride=1)
        return F.interpolate(flat, scale_factor=self.scale, mode="nearest").unflatten(0, clip.lr.shape[:2])


class Memory:
    """A clip in memory. ``known=False``: a stream whose end shows when it is reached."""

    def __init__(self, lr: Tensor, known: bool = True) -> None:
        self.lr, self.frames = lr, len(lr) if known else None
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> Clip:
        assert self.frames is None or stop <= self.frames
        self.reads.append((start, stop))
        part = self.lr[start:stop]
        return Clip(part[None], None, ["clip"], torch.arange(start, start + len(part))[None], 4)


def noise_clip(frames: int = 10, size: tuple[int, int] = (12, 16)) -> Tensor:
    return torch.rand(frames, 3, *size, generator=torch.Generator().manual_seed(0))


def picture(number: int, size: tuple[int, int]) -> np.ndarray:
    """A smooth colourful picture (h,w,3) uint8 whose brightness tells the frame's number: red falls to the right."""
    h, w = size
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    planes = [200 - 120 * x, 60 + 100 * y, np.full((h, w), 20 + 8 * number)]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def make_video(
    path: Path,
    frames: int = 10,
    size: tuple[int, int] = (32, 48),
    rate: Fraction = Fraction(30000, 1001),
    pts: list[int] | None = None,
    tick: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: int | None = None,
    audio: bool = False,
    colour: Colour | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video of ``picture`` frames. pts: time stamps in units of ``tick``; audio: an AAC tone beside it."""
    with av.open(str(path), "w", options=options or {}) as out:
        stream: Any = out.add_stream(codec, rate=rate, options={"qp": "4"} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = tick or 1 / rate
        if colour is not None:
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = vars(colour).values()
            context.color_range = 1
        if rotation is not None:
            stream.set_display_rotation(rotation)
        track = out.add_stream("aac", rate=16000, layout="mono") if audio else None
        for number in range(frames):
            frame = write_rgb(picture(number, size), pix_fmt, colour or Colour.usual(size[0]))
            frame.pts, frame.time_base = (pts or range(frames))[number], tick or 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if track is not None:
            tone(out, track, max(float(frames / rate), 0.1))
    return path


def tone(out: Any, track: Any, seconds: float) -> None:
    samples = np.sin(np.arange(int(16000 * seconds)) * 0.1).astype(np.float32)
    for start in range(0, len(samples) - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        out.mux(track.encode(frame))
    out.mux(track.encode(None))


class Counter:
    """A progress bar that counts."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, total: int, what: str) -> None:
        self.total, self.done = total, 0

    def advance(self, count: int = 1) -> None:
        self.done += count


def decoded(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def audio_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """(time, bits) of every packet of the first audio stream."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.best("audio"))
        return [(p.pts * p.time_base, bytes(p)) for p in packets if p.dts is not None]
