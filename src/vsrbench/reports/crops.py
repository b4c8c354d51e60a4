"""Crops, slices over time, adjacent frames, errors and flow of a clip, alike for all methods; frames in a page.

Place and row are where the ground truth (without one: the first method) has the most detail. Arrays are uint8 RGB,
(H,W,3).
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vsrbench.errors import RunError
from vsrbench.pictures import busiest, busiest_row, zoom

CROP = 64  # pixels of a crop's side
SIDE = 224  # pixels that crops and slices are enlarged to, at least
ADJACENT = 5  # frames of a strip
LONGEST = 120  # frames of a slice over time


@dataclass(frozen=True)
class View:
    """What a clip looks like in one method. whole: the middle frame; error: |output - truth|, None without truth."""

    label: str
    whole: np.ndarray
    crop: np.ndarray
    profile: np.ndarray
    strip: np.ndarray
    error: np.ndarray | None


@dataclass(frozen=True)
class Crops:
    """The views of a clip. middle: number of the frame shown; white: levels of error that are drawn brightest."""

    clip: str
    frames: int
    middle: int
    marked: np.ndarray
    views: tuple[View, ...]
    white: float


def make_crops(clip: str, folders: Mapping[str, Path], truth: str | None) -> Crops:
    """Views of a clip for every label. truth: the label of the ground truth.

    Raises RunError where frames are absent, or of other number or size than the others'.
    """
    files = {label: frame_files(folder) for label, folder in folders.items()}
    guide = files[truth if truth is not None else next(iter(files))]
    common = {len(frames) for frames in files.values()}
    if len(common) > 1:
        raise RunError(f"{clip}: methods have {sorted(common)} frames: evaluate them on the same clips")
    middle = len(guide) // 2
    real = _read(guide[middle])
    side = min(CROP, *real.shape[:2])
    y, x = busiest(real, side)
    row = busiest_row(real, y, side)
    around = range(max(0, middle - ADJACENT // 2), min(len(guide), middle + ADJACENT // 2 + 1))
    views, errors = [], {}
    for label, frames in files.items():
        whole = _read(frames[middle], real.shape)
        if truth is not None and label != truth:
            errors[label] = np.abs(whole.astype(np.int16) - real).mean(axis=2)
        crops = [_read(frames[n], real.shape)[y : y + side, x : x + side] for n in around]
        profile = np.stack([_read(f, real.shape)[row, x : x + side] for f in frames[:LONGEST]])
        factor = -(-SIDE // side)
        slices = zoom(profile, max(1, -(-SIDE // (2 * len(profile)))), factor)
        crop = zoom(whole[y : y + side, x : x + side], factor)
        views.append(View(label, whole, crop, slices, _beside([zoom(c, 2) for c in crops]), None))
    white = max((float(np.quantile(e, 0.995)) for e in errors.values()), default=0.0) or 1.0
    views = [View(v.label, v.whole, v.crop, v.profile, v.strip, _heat(errors.get(v.label), white)) for v in views]
    return Crops(clip, len(guide), middle, framed(real, y, x, side, row), tuple(views), white)


def _read(file: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
    image = np.asarray(Image.open(file).convert("RGB"))
    if shape is not None and image.shape != shape:
        raise RunError(f"{file} is {image.shape[1]}x{image.shape[0]}, others {shape[1]}x{shape[0]}: evaluate again")
    return image


def _beside(pictures: Sequence[np.ndarray], gap: int = 4) -> np.ndarray:
    line = np.full((pictures[0].shape[0], gap, 3), 127, np.uint8)
    return np.concatenate([part for picture in pictures for part in (line, picture)][1:], axis=1)


def _heat(error: np.ndarray | None, white: float) -> np.ndarray | None:
    """A map of errors in colours whose lightness grows with the error."""
    if error is None:
        return None
    import matplotlib as mpl

    coloured = mpl.colormaps["inferno"](np.clip(error / white, 0, 1))
    return np.asarray(np.rint(coloured[..., :3] * 255), np.uint8)


def flow_picture(flow: np.ndarray, longest: float) -> np.ndarray:
    """A flow (2,h,w) as colours: hue is direction, saturation is length up to ``longest`` pixels; white is rest."""
    import matplotlib as mpl

    u, v = flow
    hue = (np.arctan2(v, u) / (2 * np.pi)) % 1.0
    strength = np.clip(np.hypot(u, v) / max(longest, 1e-6), 0, 1)
    colours = mpl.colors.hsv_to_rgb(np.stack([hue, strength, np.ones_like(hue)], axis=-1))
    return np.asarray(np.rint(colours * 255), np.uint8)


def frame_files(folder: Path) -> list[Path]:
    """The frames of a clip in the order of their numbers, padded or not. Raises RunError where there are none."""
    files = sorted(folder.glob("*.png"), key=lambda f: ([int(n) for n in re.findall(r"\d+", f.stem)], f.name))
    if not files:
        raise RunError(f"no frames in {folder}: evaluate again (force=true)")
    return files


def read_frames(folder: Path) -> np.ndarray:
    """All frames of a clip in order: (T,H,W,3) uint8. Raises RunError where there are none."""
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in frame_files(folder)])


def framed(image: np.ndarray, y: int, x: int, side: int, row: int) -> np.ndarray:
    """A copy with the crop's outline and the slice's row drawn in."""
    marked = image.copy()
    bottom, right = min(y + side, image.shape[0]) - 1, min(x + side, image.shape[1]) - 1
    for edge in (np.s_[y : bottom + 1, [x, right]], np.s_[[y, bottom], x : right + 1]):
        marked[edge] = (255, 214, 0)
    marked[row] = (255, 64, 64)
    return marked


def smaller(image: np.ndarray, widest: int) -> np.ndarray:
    """A picture that is ``widest`` pixels wide at most: blocks of pixels averaged, so that no detail is skipped."""
    return np.asarray(Image.fromarray(image).reduce(-(-image.shape[1] // widest)))


def data_uri(image: np.ndarray, kind: str = "png") -> str:
    """The picture inside the page itself. kind: "png", or "jpeg" where exact pixels do not matter."""
    return f"data:image/{kind};base64,{base64.b64encode(encoded(image, kind)).decode()}"


def encoded(image: np.ndarray, kind: str) -> bytes:
    """The picture as the bytes of a file; kind as in ``data_uri``."""
    data = io.BytesIO()
    settings: Any = {"png": {"optimize": True}, "jpeg": {"quality": 88}}[kind]
    Image.fromarray(image).save(data, format=kind, **settings)
    return data.getvalue()


def file_uri(path: Path, kind: str) -> str:
    """A file inside the page itself; kind: its MIME type. Raises RunError where it is absent."""
    if not path.is_file():
        raise RunError(f"no {path}: the page needs it, make it first")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
