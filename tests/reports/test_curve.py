from pathlib import Path

import pytest

from vsrbench.errors import RunError
from vsrbench.reports.curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw, read_losses, running_mean, ticks


def points(text: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in text.split()]  # type: ignore[misc]


def test_the_curve_stays_within_its_frame_and_keeps_order() -> None:
    losses = [(step, 2.0 / step) for step in range(1, 41)]
    drawn = points(draw(losses).points)
    assert len(drawn) == 40
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in drawn)
    assert drawn == sorted(drawn)  # a falling loss goes down, where y is larger
    assert drawn[-1][0] == WIDTH - RIGHT


def test_one_step_and_equal_losses_can_be_drawn() -> None:
    assert points(draw([(3, 0.5)]).points)
    assert points(draw([(1, 0.0), (2, 0.0)]).points)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.037), (0, 812), (-3, 5), (7, 7)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert len(found) <= 11
    assert all(low - 1e-9 <= t <= high + 1e-9 for t in found)


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
