"""Early stopping on the validation loss (Sec. 4.1.1: patience of two epochs)."""

import math
from typing import Any

import pytorch_lightning as pl

from vsrbench.errors import TrainingError
from vsrbench.methods.module import centre
from vsrbench.types import Clip


class EarlyStopping(pl.Callback):
    """Every ``every`` optimiser steps: the loss on the validation clips; ends training where it has not fallen below
    the best for ``patience`` times in a row.

    ours: ``every`` is the epoch, since samples come in one endless stream; of each clip the centre ``crop`` LR pixels
    of the first ``windows`` windows (8 frames as in training) count. The clips are those that validation measures
    (``validation.clips``). Its state travels in checkpoints.
    """

    def __init__(self, patience: int = 2, every: int = 262, crop: int = 80, windows: int = 4) -> None:
        self.patience, self.every, self.crop, self.windows = patience, every, crop, windows
        self.best, self.waited, self.measured = math.inf, 0, -1
        self._clips: list[Clip] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # a run may have been killed between a step's checkpoint and its measurement, or before its end was told
        self.on_train_batch_end(trainer, pl_module)
        self._end(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        step = trainer.global_step
        if step % self.every or step == self.measured or not step:
            return
        self.measured = step
        self._clips = self._clips or self._read(trainer, pl_module.method.window)
        value = sum(pl_module.validation_loss(clip.to(pl_module.device)) for clip in self._clips) / len(self._clips)
        for logger in trainer.loggers:
            logger.log_metrics({"val/loss": value}, step)
        self.update(value)
        self._end(trainer, pl_module)

    def _end(self, trainer: pl.Trainer, module: Any) -> None:
        if self.waited >= self.patience:
            module.ended = f"early stopping (the validation loss was {self.best:.6g} {self.waited} measurements before)"
            trainer.should_stop = True

    def update(self, value: float) -> None:
        """Count how often in a row the loss was not below its best."""
        self.waited = 0 if value < self.best else self.waited + 1
        self.best = min(self.best, value)

    def _read(self, trainer: pl.Trainer, window: int) -> list[Clip]:
        loader = trainer.val_dataloaders
        sources = [] if loader is None else loader.dataset.sources  # type: ignore[union-attr]
        clips = [
            source.read(start, min(start + window, source.frames))
            for source in sources
            for start in range(0, max(source.frames - window, 0) + 1, window)[: self.windows]
        ]
        if not clips or any(clip.hr is None for clip in clips):
            raise TrainingError(
                "early stopping needs validation clips with ground truth: choose a data set that has them "
                "(data.splits.val, validation.clips), or module.early_stopping=null"
            )
        return [centre(clip, self.crop) for clip in clips]

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "measured": self.measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.waited = float(state_dict["best"]), int(state_dict["waited"])
        self.measured = int(state_dict["measured"])
