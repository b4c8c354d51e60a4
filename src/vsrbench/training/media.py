"""What a validation shows of a clip: a strip, a slice over time, a short video. Files first, loggers send those."""

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vsrbench.data.colour import Colour
from vsrbench.inference.reader import FrameTime, VideoFormat
from vsrbench.inference.writer import VideoWriter
from vsrbench.metrics.frame import quantise
from vsrbench.nn.imresize import imresize
from vsrbench.pictures import busiest_row, over_time, stacked, zoom
from vsrbench.runs import write_atomic
from vsrbench.training import names
from vsrbench.types import Clip

CAPTION = "bicubic, output, ground truth"
# ours: slow enough that an eye sees flicker, at least 2 s long, and large enough that 4:2:0 chroma does no harm
RATE, SHORTEST, SMALLEST = 8, 16, 192
SLICE_HEIGHT = 64  # pixels of a slice over time that a short clip is enlarged to
ENCODER = {"codec": "libx264", "crf": 14, "preset": "medium", "pix_fmt": "yuv420p"}  # what browsers play


@dataclass(frozen=True)
class Shown:
    """Pictures of one clip. pictures: uint8 (H,W,3) by name; film: uint8 (T,H,W,3); files: all of them by name."""

    clip: str
    pictures: dict[str, np.ndarray]
    film: np.ndarray
    files: dict[str, Path]


def show(clip: Clip, output: Tensor, folder: Path, step: int) -> Shown:
    """Write ``<folder>/step_<step>_<clip>.png``, ``..._slice.png`` and ``....mp4``; ``output``: (1,T,3,H,W) in [0,1].

    Raises RunError where they cannot be written, DataError for values that are not finite.
    """
    rows = compared(clip, output)
    pictures = {names.STRIP: strip(rows), names.SLICE: time_slice(rows)}
    film = np.concatenate(rows, axis=2)
    name = clip.name[0]
    stem = f"step_{step:06d}_{name.replace('/', '_')}"
    endings = {names.STRIP: ".png", names.SLICE: "_slice.png", names.VIDEO: ".mp4"}
    files = {key: folder / f"{stem}{ending}" for key, ending in endings.items()}
    for key, picture in pictures.items():
        write_png(files[key], picture)
    write_video(files[names.VIDEO], film)
    return Shown(name, pictures, film, files)


def compared(clip: Clip, output: Tensor) -> list[np.ndarray]:
    """Bicubic, output, ground truth of a clip: uint8 (T,H,W,3) each."""
    assert clip.hr is not None
    bicubic = torch.stack([imresize(frame, clip.scale) for frame in clip.lr[0]]).clamp(0, 1)
    return [quantise(frames).permute(0, 2, 3, 1).numpy() for frames in (bicubic, output[0], clip.hr[0])]


def strip(rows: list[np.ndarray]) -> np.ndarray:
    """The middle frame of each, side by side: (H,3W,3)."""
    return np.concatenate([frames[len(frames) // 2] for frames in rows], axis=1)


def time_slice(rows: list[np.ndarray]) -> np.ndarray:
    """One row of pixels of each over time, below each other: the row of the truth's middle frame with most detail."""
    truth = rows[-1]
    row = busiest_row(truth[len(truth) // 2], 0, truth.shape[1])
    height = max(2, -(-SLICE_HEIGHT // len(truth)))
    return stacked([over_time(frames, row, height) for frames in rows])


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a uint8 picture (H,W,3). Raises RunError where the folder cannot be written."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format="png")
    write_atomic(path, data.getvalue())


def write_video(path: Path, film: np.ndarray) -> None:
    """An mp4 of uint8 frames (T,H,W,3), repeated until it lasts long enough to be looked at.

    Small frames are enlarged by whole factors; an odd height or width loses its last line.
    """
    factor = -(-SMALLEST // film.shape[1])
    frames = [zoom(frame, factor) for frame in film]
    height, width = (n // 2 * 2 for n in frames[0].shape[:2])
    frames = frames * -(-SHORTEST // len(frames))
    colour = Colour.usual(height)
    video_format = VideoFormat(Fraction(RATE), Fraction(1, RATE), Fraction(1), colour, 8)
    with VideoWriter(path, (height, width), video_format, ENCODER, None) as writer:
        for n, frame in enumerate(frames):
            pixels = torch.from_numpy(frame[:height, :width].copy()).permute(2, 0, 1) / 255
            writer.write(pixels, FrameTime(Fraction(n, RATE), Fraction(1, RATE)))
        writer.finish(cut=False)


def gif(film: np.ndarray) -> bytes:
    """The same frames as an animated GIF, for TensorBoard, which plays no video."""
    data = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in film)
    settings: dict[str, Any] = {"duration": 1000 // RATE, "loop": 0}
    first.save(data, format="gif", save_all=True, append_images=others, **settings)
    return data.getvalue()
