"""Video that is stored turned or mirrored, as telephones do: its pixels the way they are to be seen."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vsrbench.errors import DataError


def turn(frame: Any) -> Callable[[np.ndarray], np.ndarray]:
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
