import pytest

from vsrbench.benchmarks.report import tabulate
from vsrbench.methods.base import Work


def nothing() -> None: ...


WORK = {
    "flow": Work(nothing, 2.0),
    "up": Work(nothing, 10.0, "warping"),
    "down": Work(nothing, 5.0, "warping"),
    "clock": Work(nothing, 1.0, network=False),
}


def test_units_times_how_often_and_their_shares() -> None:
    rows = {row["part"]: row for row in tabulate(WORK, {"flow": 3.0, "up": 1.0, "down": 2.0, "clock": 0.0})}
    assert list(rows) == ["flow", "up", "down", "sum of warping", "clock", "sum"]
    assert rows["flow"]["frame"] == 6.0
    assert (rows["sum of warping"]["unit"], rows["sum of warping"]["frame"]) == (3.0, 20.0)
    assert rows["sum"]["frame"] == 26.0
    parts = [rows[name]["share"] for name in WORK]
    assert sum(parts) == pytest.approx(100)
    assert rows["flow"]["share"] == pytest.approx(600 / 26)


def test_what_was_not_found_stays_empty() -> None:
    rows = {row["part"]: row for row in tabulate(WORK, {"flow": 3.0, "up": None, "down": None, "clock": None})}
    assert rows["sum of warping"]["frame"] is None and rows["clock"]["share"] is None
    assert rows["sum"]["frame"] == 6.0
