"""A bar with the time that is left on a terminal; in a file ten lines, and one every ``QUIET`` seconds."""

import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vsrbench.methods.module import MethodModule
from vsrbench.progress import QUIET
from vsrbench.training import names
from vsrbench.training.callbacks import AfterStep


class StepProgress(AfterStep, ProgressBar):
    """Shows steps, time left and the loss that was logged last (rank 0).

    Also a ``Progress`` for validation, which gets a second line while it lasts. Lightning's own bars count batches,
    of which an endless epoch has no number, and write every refresh into a log file.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console()
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._side: TaskID | None = None
        self._first, self._clock, self._said = 0, 0.0, 0.0

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        self.console.print(*args, **kwargs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._first, self._clock = trainer.global_step, time.perf_counter()
        if self._enabled and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("left {task.fields[loss]}"), console=self.console)
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self._task = self._bar.add_task("training", total=total, completed=self._first, loss="")
            self._bar.start()
        if isinstance(pl_module, MethodModule):
            pl_module.progress = self

    def after_step(self, trainer: pl.Trainer, module: MethodModule, step: int) -> None:
        logged = trainer.callback_metrics.get(names.LOSS)
        loss = "" if logged is None else f"loss {float(logged):.4g}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=loss)
        elif self._enabled and trainer.max_steps > 0 and (crossed_tenth(step, trainer.max_steps) or self._late()):
            self._said = time.perf_counter()
            if module is not None and module.terms:
                loss = f"loss {sum(float(value) for value in module.terms.values()):.4g}"
            rate = (step - self._first) / max(self._said - self._clock, 1e-9)
            remaining = timedelta(seconds=round((trainer.max_steps - step) / rate))
            self.console.print(f"step {step}/{trainer.max_steps}  {loss}  {rate:.3g} steps/s  {remaining} left")

    def _late(self) -> bool:
        """Whether the last line of a log is ``QUIET`` seconds old."""
        return time.perf_counter() - max(self._said, self._clock) >= QUIET

    def start(self, total: int, what: str) -> None:
        """Validation begins a clip of ``total`` pieces of work."""
        if self._bar is not None:
            if self._side is not None:
                self._bar.remove_task(self._side)
            self._side = self._bar.add_task(what, total=total, loss="")

    def advance(self, count: int = 1) -> None:
        if self._bar is not None and self._side is not None:
            self._bar.advance(self._side, count)
            if self._bar.tasks[-1].finished:
                self._bar.remove_task(self._side)
                self._side = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def crossed_tenth(step: int, total: int) -> bool:
    """True where ``step`` is the first one in another tenth of ``total``."""
    return step * 10 // total != (step - 1) * 10 // total
