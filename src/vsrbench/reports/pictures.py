"""Frames as pictures for a page: read, marked, put inside the page. Arrays are uint8 RGB, (H,W,3)."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vsrbench.errors import RunError


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
