"""Sentences that compare rows. Every word of comparison is decided by the numbers; nothing is assumed."""

from collections.abc import Sequence

from vsrbench.reports.rows import QUALITY, Measure, Row, shown

OUTCOMES = {1: "better", 0: "the same", -1: "worse"}


def outcome(a: object, b: object, measure: Measure) -> int | None:
    """1 where ``a`` is better than ``b``, -1 where it is worse, None where one of them is no number.

    ours: 0 where both look the same at the digits that are shown; a reader cannot check finer differences.
    """
    if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        return None
    difference = measure.better * (round(a, measure.digits) - round(b, measure.digits))
    return (difference > 0) - (difference < 0)


def verdict(row: Row, others: Sequence[Row]) -> str:
    """In how many measures of quality a row is better than each of the others, as one sentence."""
    parts = []
    for other in others:
        found = [outcome(row.means[m.name], other.means[m.name], m) for m in QUALITY]
        known = [f for f in found if f is not None]
        same = f" (the same in {known.count(0)})" if 0 in known else ""
        parts.append(f"better than {other.label} in {known.count(1)} of {len(known)} measures{same}")
    return f"{row.label} is {', and '.join(parts)}."


def comparison(row: Row, other: Row) -> str:
    """One row against another, measure by measure: better or worse, by how much, in how many clips."""
    parts = [_part(row, other, m) for m in QUALITY]
    return f"{row.label} against {other.label}: {'; '.join(parts)}."


def _part(row: Row, other: Row, measure: Measure) -> str:
    a, b = row.means[measure.name], other.means[measure.name]
    found = outcome(a, b, measure)
    if found is None or not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        return f"{measure.title} cannot be compared"
    amount = "" if found == 0 else f" by {_unit(shown(abs(a - b), measure), measure)}"
    per_clip = [outcome(row.clips[c][measure.name], other.clips[c][measure.name], measure) for c in row.clips]
    return f"{measure.title} {OUTCOMES[found]}{amount} (better in {per_clip.count(1)} of {len(per_clip)} clips)"


def _unit(text: str, measure: Measure) -> str:
    return f"{text} {measure.unit}".rstrip()


def trend(losses: Sequence[float]) -> str:
    """How the loss moved: the mean of the first and of the last sixth of the steps."""
    share = max(1, len(losses) // 6)
    first, last = sum(losses[:share]) / share, sum(losses[-share:]) / share
    change = "fell" if last < first else "rose" if last > first else "stayed"
    return f"The mean loss {change} from {first:.4g} (first {share} rows) to {last:.4g} (last {share})."
