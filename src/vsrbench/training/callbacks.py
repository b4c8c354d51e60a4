"""What happens after every optimiser step: averaging, logging, stopping when a signal or the time limit asks for it."""

import math
import signal
import threading
import time
from contextlib import ExitStack
from types import FrameType
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor

from vsrbench.compat import validation_follows
from vsrbench.methods.module import MethodModule
from vsrbench.nn.ema import EMA
from vsrbench.training import names

C = TypeVar("C", bound=pl.Callback)


def find(trainer: pl.Trainer, kind: type[C]) -> C | None:
    """The trainer's callback of a class; None where there is none."""
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]


class AfterStep(pl.Callback):
    """Calls ``after_step`` once per optimiser step; Lightning's own hook runs once per accumulated batch."""

    _seen = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.global_step != self._seen:
            self._seen = trainer.global_step
            assert isinstance(pl_module, MethodModule)
            self.after_step(trainer, pl_module, self._seen)

    def after_step(self, trainer: pl.Trainer, module: MethodModule, step: int) -> None:
        """``step`` optimiser steps have been made."""
        raise NotImplementedError


class WeightEMA(AfterStep):
    """EMA of the trained part, which validation sees; the checkpoint holds it under ``ema``.

    Not Lightning's ``WeightAveraging``: that copies the whole module, frozen prior included, and knows neither parts
    that serve training alone nor the warm-up of the decay (ours, see ``nn.ema``).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.ema: EMA | None = None
        self._stored: dict[str, Any] | None = None
        self._applied = ExitStack()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not earlier: only now the weights lie on their device.
        assert isinstance(pl_module, MethodModule)
        self.ema = EMA(self.decay, pl_module.averaged_state())
        if self._stored is not None:
            self.ema.load_state_dict(self._stored)
            self._stored = None

    def after_step(self, trainer: pl.Trainer, module: MethodModule, step: int) -> None:
        assert self.ema is not None
        self.ema.update(module.averaged_state())

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.ema is not None and isinstance(pl_module, MethodModule)
        self._applied.enter_context(self.ema.applied(pl_module.averaged_state()))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._applied.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._applied.close()

    def distance(self, module: MethodModule) -> float:
        """How far the weights are from their average, relative to its length."""
        assert self.ema is not None
        return self.ema.distance(module.averaged_state())

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert self.ema is not None
        checkpoint["ema"] = self.ema.state_dict()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._stored = checkpoint.get("ema")


class TrainingLog(AfterStep):
    """Logs loss terms, what else the method observed, learning rate and seconds every ``log_every_n_steps`` steps.

    A row holds the mean over all micro-batches and ranks of that one step, so that it depends neither on
    how the effective batch is split nor on where a run was interrupted; ``self.log`` of a training step would keep the
    last micro-batch alone. Of a step that the method skipped, values that are not finite are left out. Other callbacks
    find the row in ``trainer.callback_metrics``.
    """

    def __init__(self) -> None:
        self._terms: list[dict[str, Tensor]] = []
        self._observed: list[dict[str, Tensor]] = []
        self._batch_start = time.perf_counter()
        self._worked = self._waited = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._waited = _waited(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._batch_start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, MethodModule)
        self._worked += time.perf_counter() - self._batch_start
        self._terms.append(pl_module.terms)
        self._observed.append(pl_module.observed)
        super().on_train_batch_end(trainer, pl_module, *args)

    def after_step(self, trainer: pl.Trainer, module: MethodModule, step: int) -> None:
        terms, self._terms = self._terms, []
        observed, self._observed = self._observed, []
        waited, self._waited = _waited(trainer) - self._waited, _waited(trainer)
        seconds, self._worked = self._worked + waited, 0.0
        if not trainer.log_every_n_steps or step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        row = {names.loss(key): value for key, value in _means(trainer, terms).items()}
        row[names.LOSS] = sum(row.values())
        row |= {names.observed(key): value for key, value in _means(trainer, observed).items()}
        row = {key: value for key, value in row.items() if math.isfinite(value)}
        row[names.LEARNING_RATE] = trainer.optimizers[0].param_groups[0]["lr"]
        if ema := find(trainer, WeightEMA):
            row[names.EMA_DISTANCE] = ema.distance(module)
        row |= {names.STEP_SECONDS: seconds, names.DATA_SECONDS: waited}
        module.log_dict(row, logger=False, on_step=True, on_epoch=False)
        for logger in trainer.loggers:
            logger.log_metrics(row, step)


def _waited(trainer: pl.Trainer) -> float:
    """Seconds that training has waited for data so far."""
    return float(getattr(trainer.datamodule, "waited", 0.0))  # type: ignore[attr-defined]


def _means(trainer: pl.Trainer, batches: list[dict[str, Tensor]]) -> dict[str, float]:
    """Means over the micro-batches that have a value, then over ranks."""
    keys = sorted({key for batch in batches for key in batch})
    if not keys:
        return {}
    means = torch.stack([torch.stack([b[key] for b in batches if key in b]).float().mean() for key in keys])
    means = trainer.strategy.reduce(means, reduce_op="mean")
    return dict(zip(keys, means.tolist(), strict=True))


def stop_early(trainer: pl.Trainer) -> None:
    """End training after the running batch, without a validation that was not due: there may be no time left."""
    if not validation_follows(trainer):
        trainer.limit_val_batches = 0
    trainer.should_stop = True


class StopOnSignal(pl.Callback):
    """SIGTERM and Ctrl-C end training after the running batch, on all ranks together.

    The checkpoint callback then writes last.ckpt, and ``received`` tells the caller which exit code is due.
    A second signal acts as it would without this callback. Lightning's own handler for SIGTERM, which
    neither saves nor tells, is replaced while training runs.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.received_sigterm:  # by Lightning's handler, in the moment before this one is there
            raise SystemExit(128 + signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._previous = {n: signal.signal(n, self._note) for n in (signal.SIGTERM, signal.SIGINT)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            self.received = self.received or signal.SIGTERM
            stop_early(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class CallTimer(Timer):
    """``trainer.max_time`` counts the seconds of one call; Lightning's own timer counts those of all calls."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.should_stop:
            return
        super().on_train_batch_end(trainer, *args, **kwargs)
        if trainer.should_stop:
            trainer.should_stop = False
            stop_early(trainer)

    @property
    def expired(self) -> bool:
        remaining = self.time_remaining()
        return remaining is not None and remaining <= 0

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
