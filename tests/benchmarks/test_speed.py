import math

import pytest
import torch

from vsrbench.benchmarks import reference
from vsrbench.benchmarks.speed import measure, seconds
from vsrbench.config import compose
from vsrbench.errors import ConfigError
from vsrbench.methods.base import Method

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


@pytest.mark.parametrize("method", ["stablevsr", "dgaf", "sateco", "bicubic"])
def test_upscaling_beside_the_plain_loop(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ran first in a turn comes last in the next; the outputs are those of the same clip, noise and weights."""
    order: list[tuple[bool, int]] = []
    real = reference.upscale_padded

    def run(method: Method, *given: object) -> object:
        order.append((method.exact, method.batch))
        return real(method, *given)

    monkeypatch.setattr(reference, "upscale_padded", run)
    size = ["bench.height=16", "bench.width=24", "bench.repeats=2", "bench.frames=3", "inference.batch=2"]
    words = [f"method={method}", *(["size=tiny"] if method != "bicubic" else []), *size, "task=speed"]
    report = reference.measure(compose([*words, "against=reference", "inference.device=cpu"], verb="bench"))
    sides = [(True, 1), (True, 2), (False, 2)]
    assert order == [*sides, *sides, *sides[::-1], sides[0]]
    plain, batches, auto = report.rows
    assert plain["part"] == "reference" and "ratio" not in plain
    for row in (batches, auto):
        assert 0 < row["least"] <= row["ratio"] <= row["most"]
        assert row["psnr"] is None or row["psnr"] > 30
    assert batches["difference"] < 1e-5
    assert (plain["share"] > 0) == (method != "bicubic")
