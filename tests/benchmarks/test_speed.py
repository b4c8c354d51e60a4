import math

import pytest
import torch

from vsrbench.benchmarks.speed import measure, seconds
from vsrbench.config import compose
from vsrbench.errors import ConfigError

SMALL = ["method=dgaf", "size=tiny", "task=speed", "bench.height=16", "bench.width=24", "bench.repeats=3"]


class Counted:
    total = done = 0

    def start(self, total: int, what: str) -> None:
        self.total = total

    def advance(self, count: int = 1) -> None:
        self.done += count


def test_calls_of_known_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first, slow call is the warm-up's."""
    clock, lengths = [0.0], iter([5.0, 0.25, 0.5])

    def call() -> None:
        clock[0] += next(lengths)

    monkeypatch.setattr("vsrbench.benchmarks.speed.time.perf_counter", lambda: clock[0])
    assert seconds(call, torch.device("cpu"), repeats=2, warmup=1) == [0.25, 0.5]


def test_every_part_takes_time_and_the_shares_add_up() -> None:
    told = Counted()
    report = measure(compose(SMALL, verb="bench"), told)
    parts = [row for row in report.rows if not row["part"].startswith("sum")]
    for row in parts:
        assert math.isfinite(row["unit"]) and 0 < row["fastest"] <= row["unit"] <= row["slowest"]
    assert sum(row["share"] for row in parts) == pytest.approx(100)
    assert report.rows[-1]["frame"] == pytest.approx(sum(row["unit"] * row["times"] for row in parts))
    assert told.done == told.total == len(parts) * 4
    assert report.facts["precision"] == "fp32" and report.facts["device"]


def test_random_weights_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VSRBENCH_RAFT", raising=False)
    report = measure(compose([*SMALL, "flow=raft", "bench.repeats=1", "bench.warmup=0"], verb="bench"))
    assert report.title.endswith("random weights: prior, flow, trained part")
    assert "FM" in {row["part"] for row in report.rows}


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"bench\.repeats=0: give"):
        measure(compose([*SMALL, "bench.repeats=0"], verb="bench"))
