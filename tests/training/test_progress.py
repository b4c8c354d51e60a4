import io

import pytest
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


def test_terminal_gets_a_bar_with_the_loss() -> None:
    text = shown(20, terminal=True)
    assert "20/20" in text
    assert "loss 0.25" in text


@pytest.mark.parametrize("total", [1, 3, 10, 1234])
def test_last_step_is_always_told(total: int) -> None:
    assert crossed_tenth(total, total)
    assert sum(crossed_tenth(n, total) for n in range(1, total + 1)) == min(total, 10)
