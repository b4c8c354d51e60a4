import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from vsrbench.training import names
from vsrbench.training.progress import StepProgress, crossed_tenth


class Trainer:
    """What the bar asks of a trainer."""

    def __init__(self, max_steps: int) -> None:
        self.max_steps, self.global_step = max_steps, 0
        self.callback_metrics = {names.LOSS: 0.25}


def shown(steps: int, terminal: bool) -> str:
    text = io.StringIO()
    trainer = Trainer(steps)
    bar = StepProgress(Console(file=text, force_terminal=terminal, width=100))
    bar.on_train_start(trainer, None)
    for step in range(1, steps + 1):
        bar.after_step(trainer, None, step)
    bar.start(2, "validation")
    bar.advance(2)
    bar.on_train_end(trainer, None)
    return text.getvalue()


def test_file_gets_about_ten_lines() -> None:
    lines = shown(1000, terminal=False).splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("step 1000/1000  loss 0.25")


def test_file_gets_a_line_of_slow_steps_with_the_rate_and_the_loss_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now, text, trainer = [0.0], io.StringIO(), Trainer(1000)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    module: Any = SimpleNamespace(terms={"a": torch.tensor(0.5), "b": torch.tensor(0.25)})
    bar = StepProgress(Console(file=text, width=100))
    bar.on_train_start(trainer, None)
    for step in range(1, 7):
        now[0] += 12
        bar.after_step(trainer, module, step)
    assert text.getvalue().splitlines() == [
        "step 3/1000  loss 0.75  0.0833 steps/s  3:19:24 left",
        "step 6/1000  loss 0.75  0.0833 steps/s  3:18:48 left",
    ]


def test_terminal_gets_a_bar_with_the_loss() -> None:
    text = shown(20, terminal=True)
    assert "20/20" in text
    assert "loss 0.25" in text


@pytest.mark.parametrize("total", [1, 3, 10, 1234])
def test_last_step_is_always_told(total: int) -> None:
    assert crossed_tenth(total, total)
    assert sum(crossed_tenth(n, total) for n in range(1, total + 1)) == min(total, 10)
