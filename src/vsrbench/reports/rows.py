"""Finished evaluations as rows that can be compared: read from the run folder, checked to be on equal terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsrbench.errors import RunError
from vsrbench.evaluation.results import load
from vsrbench.evaluation.values import NOT_APPLICABLE, Value


@dataclass(frozen=True)
class Measure:
    """How a value is shown and compared. better: 1 higher is better, -1 lower is better, 0 neither."""

    name: str
    title: str
    unit: str
    digits: int
    better: int


PSNR_Y = Measure("psnr_y", "PSNR-Y", "dB", 2, 1)
SSIM_Y = Measure("ssim_y", "SSIM-Y", "", 4, 1)
CONSISTENCY = Measure("consistency", "Consistency", "", 3, -1)
SHARPNESS = Measure("sharpness", "Sharpness", "", 2, 0)
SECONDS = Measure("seconds", "Seconds per frame", "", 2, -1)

QUALITY = (PSNR_Y, SSIM_Y, CONSISTENCY)


@dataclass(frozen=True)
class Row:
    """One method's evaluation.

    means, clips: values by measure name, over the set and per clip. folder: holds ``frames/<clip>/*.png``.
    """

    label: str
    folder: Path
    result: dict[str, Any]
    means: dict[str, Value]
    clips: dict[str, dict[str, Value]]

    def frames(self, clip: str) -> Path:
        return self.folder / "frames" / clip


def read_row(label: str, folder: Path) -> Row:
    """A run folder of ``eval``. Raises RunError where it is not finished or its result cannot be trusted."""
    path = folder / "result.json"
    if not path.is_file():
        raise RunError(f"no {path}: the evaluation of {label!r} is not finished, run it first")
    result = load(path)
    none: dict[str, Any] = {
        "mean": NOT_APPLICABLE,
        "clips": {c: {"mean": NOT_APPLICABLE} for c in result["data"]["clips"]},
    }
    metrics = {m.name: result["metrics"].get(m.name, none) for m in (*QUALITY, SHARPNESS)}
    means = {name: metric["mean"] for name, metric in metrics.items()}
    means[SECONDS.name] = result["cost"]["seconds_per_frame"]
    clips = {c: {name: metric["clips"][c]["mean"] for name, metric in metrics.items()} for c in result["data"]["clips"]}
    return Row(label, folder, result, means, clips)


def check_equal_terms(rows: Sequence[Row]) -> None:
    """Raise RunError where rows were judged under different protocols or on different frames."""
    first = rows[0]
    for row in rows[1:]:
        for what in (("protocol", "hash"), ("data", "set"), ("data", "split"), ("data", "clips")):
            here, there = (r.result[what[0]][what[1]] for r in (row, first))
            if here != there:
                raise RunError(
                    f"{row.folder} and {first.folder} cannot stand in one table: {'.'.join(what)} is {here!r} and "
                    f"{there!r}; evaluate both under the same protocol and data"
                )


def shown(value: Value, measure: Measure) -> str:
    """A value as text, with the measure's digits."""
    if isinstance(value, dict):
        return "unavailable"
    return "–" if isinstance(value, str) else f"{value:.{measure.digits}f}"


def best(values: Sequence[Value], measure: Measure) -> set[int]:
    """Positions of the best values; those that look the same as shown are best together."""
    numbers = {n: round(v, measure.digits) for n, v in enumerate(values) if isinstance(v, (int, float))}
    if not measure.better or len(numbers) < 2:
        return set()
    top = max(numbers.values(), key=lambda v: measure.better * v)
    return {n for n, value in numbers.items() if value == top}
