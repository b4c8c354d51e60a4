"""Pictures of frames: where there is detail, whole-number enlargement, slices over time. Arrays are uint8 RGB.

Needs no torch: pages about runs and the training's own pictures share it.
"""

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # BT.601 weights


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


def over_time(frames: np.ndarray, row: int, down: int, right: int = 1) -> np.ndarray:
    """One row of pixels over time, the x-t slice: (T*down, W*right, 3) from frames (T,H,W,3), first frame on top."""
    return zoom(frames[:, row], down, right)


def stacked(pictures: list[np.ndarray], gap: int = 2) -> np.ndarray:
    """Pictures of one width below each other, with white lines of ``gap`` pixels between them."""
    line = np.full((gap, *pictures[0].shape[1:]), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (line, picture)][1:])
