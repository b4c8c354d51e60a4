import json

import pytest

from vsrbench.benchmarks import metrics
from vsrbench.config import compose
from vsrbench.errors import ConfigError, DataError

QUICK = ["task=metrics", "data=sample", "data.frame_size=[64,96]", "bench.repeats=1", "bench.warmup=0"]


def config(*overrides: str):
    return compose([*QUICK, *overrides], verb="bench")


def test_both_ways_give_the_same_values_and_a_table(tmp_path, capsys) -> None:
    """Also the proof that sharing flows, luma and features changes nothing: the loop shares none."""
    names = (
        "psnr_rgb,ssim_y,sharpness,colour_shift,consistency,ewarp,rwe,we,we_lai,tof_tecogan,tof_stablevsr,"
        "tlpips_tecogan,tlpips_stablevsr,error_change"
    )
    output = f"output={tmp_path / 'numbers.json'}"
    metrics.run(config(f"protocol.metrics=[{names},lpips_alex]", "bench.frames=10", output))
    assert "tlpips_stablevsr" in capsys.readouterr().out
    report = json.loads((tmp_path / "numbers.json").read_text())
    assert [row["part"] for row in report["rows"]] == [*names.split(","), "lpips_alex", metrics.TOGETHER]
    assert all(row["difference"] < 1e-4 and row["gain"] > 0 for row in report["rows"])
    assert any("random weights" in note and "lpips_alex" in note for note in report["notes"])


def test_ways_that_disagree_are_an_error(monkeypatch) -> None:
    monkeypatch.setattr(metrics.Loop, "frame", lambda self, name, i: 1.0)
    with pytest.raises(DataError, match="ssim_y: batched scoring and the plain loop differ"):
        metrics.measure(config("protocol.metrics=[ssim_y]", "bench.frames=2"))


def test_what_cannot_be_measured(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("VSRBENCH_METRIC_WEIGHTS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no metric to measure: .*musiq_koniq_ckpt"):
        metrics.measure(config("protocol.metrics=[musiq]"))
    with pytest.raises(ConfigError, match=r"bench\.repeats=0"):
        metrics.measure(config("bench.repeats=0"))
    with pytest.raises(DataError, match="two frames or more"):
        metrics.measure(config("bench.frames=1"))
