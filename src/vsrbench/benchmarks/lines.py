"""Units of work as lines of a table: per unit, per frame, shares, sums of modules and of the whole."""

from collections.abc import Iterable
from typing import Any

from vsrbench.methods.base import Work

Row = dict[str, Any]


def tabulate(work: dict[str, Work], units: dict[str, float | None]) -> list[Row]:
    """Rows with the keys part, unit, times, frame, share: a unit's cost, how often per frame, the product, percent.

    units: {line: cost}, None where there is none; such a line adds nothing to the sums. After the parts of a module
    comes a line that adds them up; its unit is one of each.
    """
    frame = {name: None if unit is None else unit * work[name].per_frame for name, unit in units.items()}
    whole = _sum(frame.values())
    rows: list[Row] = []
    for name, item in work.items():
        rows.append(_row(name, units[name], item.per_frame, frame[name], whole))
        parts = [n for n in work if work[n].nested_in == item.nested_in]
        if item.nested_in and parts[-1] == name:
            sums = _sum(units[n] for n in parts), _sum(frame[n] for n in parts)
            rows.append(_row(f"sum of {item.nested_in}", sums[0], None, sums[1], whole))
    rows.append(_row("sum", None, None, whole, whole))
    return rows


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _row(part: str, unit: float | None, times: float | None, frame: float | None, whole: float | None) -> Row:
    share = None if frame is None or not whole else 100 * frame / whole
    return {"part": part, "unit": unit, "times": times, "frame": frame, "share": share}
