"""Frames as pictures for a page: crops, enlargements, slices over time. Arrays are uint8 RGB, (H,W,3)."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vsrbench.errors import RunError

LUMA = np.array([0.299, 0.587, 0.114])  # BT.601 weights


def read_frames(folder: Path) -> np.ndarray:
    """All frames of a clip in the order of their names: (T,H,W,3) uint8. Raises RunError where there are none."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise RunError(f"no frames in {folder}: evaluate again (force=true)")
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def gradients(frames: np.ndarray) -> np.ndarray:
    """Squared luma gradient of every pixel but those of the last row and column: (...,H-1,W-1) from (...,H,W,3)."""
    luma = frames @ LUMA
    down = np.diff(luma, axis=-2)[..., :, :-1]
    right = np.diff(luma, axis=-1)[..., :-1, :]
    return down**2 + right**2


def busiest(frame: np.ndarray, side: int) -> tuple[int, int]:
    """Top left (y,x) of the square of ``side`` pixels with the most detail, whole where the frame is smaller."""
    height, width = (min(side, n) - 1 for n in frame.shape[:2])
    sums = np.pad(gradients(frame).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = np.unravel_index(boxes.argmax(), boxes.shape)
    return int(y), int(x)


def busiest_row(frame: np.ndarray, top: int, side: int) -> int:
    """The row among ``top .. top+side-1`` with the most horizontal detail: where flicker shows best."""
    rows = np.diff(frame[top : top + side] @ LUMA, axis=1) ** 2
    return top + int(rows.sum(axis=1).argmax())


def zoom(image: np.ndarray, down: int, right: int | None = None) -> np.ndarray:
    """Nearest neighbour enlargement by whole factors: no pixel is invented."""
    return image.repeat(down, axis=0).repeat(right or down, axis=1)


def framed(image: np.ndarray, y: int, x: int, side: int, row: int) -> np.ndarray:
    """A copy with the crop's outline and the slice's row drawn in."""
    marked = image.copy()
    bottom, right = min(y + side, image.shape[0]) - 1, min(x + side, image.shape[1]) - 1
    for edge in (np.s_[y : bottom + 1, [x, right]], np.s_[[y, bottom], x : right + 1]):
        marked[edge] = (255, 214, 0)
    marked[row] = (255, 64, 64)
    return marked


def data_uri(image: np.ndarray, kind: str = "png") -> str:
    """The picture inside the page itself. kind: "png", or "jpeg" where exact pixels do not matter."""
    data = io.BytesIO()
    settings: Any = {"png": {"optimize": True}, "jpeg": {"quality": 88}}[kind]
    Image.fromarray(image).save(data, format=kind, **settings)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def file_uri(path: Path, kind: str) -> str:
    """A file inside the page itself; kind: its MIME type. Raises RunError where it is absent."""
    if not path.is_file():
        raise RunError(f"no {path}: the page needs it, make it first")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
