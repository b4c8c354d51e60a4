"""Numbers on their way to a table: means of like records, percentages, JSON without NaN or infinities."""

import math
from collections.abc import Iterable
from typing import Any

Nested = dict[str, Any]  # names to numbers, or to further such records


def mean(records: Iterable[Nested]) -> Nested:
    """The record of the means of records that have the same names, at any depth."""
    rows = list(records)
    return {
        key: mean(row[key] for row in rows) if isinstance(value, dict) else sum(row[key] for row in rows) / len(rows)
        for key, value in rows[0].items()
    }


def gain(a: float, b: float) -> float | str:
    """By how many percent a lies above b; a text where b is zero or one of them is no finite number."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return "undefined: one of the two is infinite"
    return "undefined: the reference is zero" if b == 0 else 100 * (a / b - 1)


def loss(a: float, b: float) -> float | str:
    """By how many percent a lies below b; a text as for ``gain``."""
    found = gain(a, b)
    return found if isinstance(found, str) else -found


def plain(value: Any) -> Any:
    """The same for JSON: an infinite number becomes a text. Raises ValueError for NaN, which nothing here may give."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            raise ValueError("an analysis gave a value that is no number")
        return "infinite: the two are equal"
    return value
