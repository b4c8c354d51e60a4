from pathlib import Path

import pytest

from vsrbench.errors import RunError
from vsrbench.reports.charts import loss_curve, running_mean
from vsrbench.reports.demo import read_losses
from vsrbench.reports.drawing import svg


def test_the_curve_holds_every_loss_and_its_axis_starts_at_zero() -> None:
    steps = range(1, 41)
    axes = loss_curve(steps, [2.0 / step for step in steps]).figure.axes[0]
    raw, mean = axes.get_lines()
    assert list(raw.get_xdata()) == list(steps) and list(raw.get_ydata()) == [2.0 / step for step in steps]
    assert list(mean.get_ydata()) == running_mean([2.0 / step for step in steps], 6)
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 2.0


def test_one_step_equal_and_negative_losses_can_be_drawn() -> None:
    assert "<svg" in svg(loss_curve([3], [0.5]))
    assert "<svg" in svg(loss_curve([1, 2], [0.0, 0.0]))
    assert loss_curve([1, 2], [-3.0, 5.0]).figure.axes[0].get_ylim()[0] == -3.0


def test_a_running_mean_keeps_a_constant_and_the_length() -> None:
    assert running_mean([2.0] * 9, 5) == [2.0] * 9
    assert running_mean([0.0, 3.0, 0.0], 3) == [1.5, 1.0, 1.5]


def test_rows_without_a_loss_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,val/psnr_y\n10,0.5,\n20,0.4,\n20,,27.1\n")
    assert read_losses(path) == [(10, 0.5), (20, 0.4)]


def test_a_run_without_losses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="train first"):
        read_losses(tmp_path / "metrics.csv")
    (tmp_path / "metrics.csv").write_text("step,val/psnr_y\n20,27.1\n")
    with pytest.raises(RunError, match="holds no train/loss"):
        read_losses(tmp_path / "metrics.csv")
