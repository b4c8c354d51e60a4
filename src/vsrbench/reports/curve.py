"""A loss curve as drawing coordinates; the page's template turns them into inline SVG."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsrbench.errors import RunError
from vsrbench.training.names import LOSS

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34  # room for the labels


@dataclass(frozen=True)
class Curve:
    """points, smooth: SVG point lists, raw and as running mean. x_ticks, y_ticks: (position, text)."""

    points: str
    smooth: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def read_losses(path: Path) -> list[tuple[int, float]]:
    """(step, loss) of a metrics.csv. Raises RunError where it is absent or holds no loss."""
    if not path.is_file():
        raise RunError(f"no {path}: train first")
    with path.open(newline="") as file:
        losses = [(int(row["step"]), float(row[LOSS])) for row in csv.DictReader(file) if row.get(LOSS)]
    if not losses:
        raise RunError(f"{path} holds no {LOSS}: train with a smaller trainer.log_every")
    return losses


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to ``window`` values around each place, fewer at the ends."""
    half = window // 2
    parts = [values[max(0, n - half) : n + half + 1] for n in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers from low to high."""
    span = (high - low) or abs(high) or 1.0
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * 0.75)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def draw(losses: Sequence[tuple[int, float]]) -> Curve:
    """Scale (step, loss) pairs into the drawing; the loss axis starts at zero so that the fall is not exaggerated."""
    steps, values = [s for s, _ in losses], [v for _, v in losses]
    smooth = running_mean(values, max(3, len(values) // 6))
    low, high = min(0.0, *values), max(values) * 1.05 or 1.0
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def x(step: float) -> float:
        return round(LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def path(series: Sequence[float]) -> str:
        return " ".join(f"{x(s)},{y(v)}" for s, v in zip(steps, series, strict=True))

    return Curve(
        points=path(values),
        smooth=path(smooth),
        x_ticks=[(x(s), f"{s:g}") for s in ticks(first, last, 6) if s == int(s)],
        y_ticks=[(y(v), f"{v:.4g}") for v in ticks(low, high)],
    )
