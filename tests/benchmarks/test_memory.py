import os

import pytest
import torch
from torch import nn

import bench_fakes
from vsrbench.benchmarks import memory
from vsrbench.config import build, compose
from vsrbench.errors import ConfigError

pytestmark = pytest.mark.skipif(not os.access(memory.RESET, os.W_OK), reason="this system does not tell peaks")
MEGA = 10**6


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in memory.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_a_peak_of_known_size_that_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peaks", bench_fakes.two_peaks)
    large, small = memory.in_fresh_process(compose(["method=bicubic"], verb="bench"))
    assert large == pytest.approx(80 * MEGA, rel=0.05)
    assert small == pytest.approx(20 * MEGA, rel=0.05)


def test_weights_count_once() -> None:
    method = build(compose(["method=bicubic"], verb="bench").method)
    method.layer = nn.Linear(10, 10, bias=False)
    method.again = method.layer
    method.register_buffer("table", torch.zeros(5, dtype=torch.float64))
    assert memory.weight_bytes(method) == 100 * 4 + 5 * 8


def test_upscaling_needs_its_output_at_least() -> None:
    overrides = ["method=bicubic", "task=memory", "bench.height=64", "bench.width=96", "bench.frames=4"]
    report = memory.measure(compose(overrides, verb="bench"))
    rows = {row["part"]: row for row in report.rows}
    assert rows["weights"]["peak"] == 0
    assert rows["upscaling"]["extra"] >= 0.9 * 4 * 3 * 256 * 384 * 4 / memory.GIGA
    assert report.facts["frames of the clip"] == 4


def test_a_killed_process_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peaks", bench_fakes.killed)
    with pytest.raises(ConfigError, match=r"killed.*smaller bench\.height"):
        memory.measure(compose(["method=bicubic", "task=memory"], verb="bench"))


def test_a_device_that_does_not_tell() -> None:
    with pytest.raises(ConfigError, match="task=memory on meta"):
        memory.Meter(torch.device("meta"))
