"""Checkpoints that are whole or absent, and the two that a run keeps: last.ckpt and best.ckpt."""

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from vsrbench.data.loading import lost_worker
from vsrbench.errors import ConfigError, RunError, WeightsError
from vsrbench.methods.base import Method
from vsrbench.runs import atomic_file, discard_unfinished, flush
from vsrbench.training.callbacks import AfterStep
from vsrbench.weights.files import read_checkpoint

IDENTITY = "vsrbench"  # key under which a checkpoint says what it belongs to


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target, then fsync and rename, without a copy in memory.

    Lightning's own writer goes through the system's temporary folder: across file systems its last step is
    a copy, and a job killed there leaves a truncated checkpoint under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises RunError when the disk is full or the folder not writable; the old file stays."""
        try:
            with atomic_file(Path(path)) as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # how torch reports a write that failed half way
            if lost_worker(error):
                raise
            raise RunError(f"cannot write {path}: is the disk full? ({error})") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Only tensors and plain containers are read, whatever ``weights_only`` says."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class Checkpoints(AfterStep):
    """Writes last.ckpt every ``every`` steps and when training ends, best.ckpt when validation improves.

    last.ckpt is what resuming needs. best.ckpt holds the weights that validation saw (the averaged ones
    where there is an average) and nothing else. identity: plain values that both carry under ``vsrbench``.
    """

    def __init__(self, folder: Path, every: int, metric: str, mode: str, identity: dict[str, Any]) -> None:
        if mode not in ("max", "min"):
            raise ConfigError(f"validation.mode={mode}: use max or min")
        self.last, self.best_file = folder / "last.ckpt", folder / "best.ckpt"
        self.every, self.metric, self.mode, self.identity = every, metric, mode, identity
        self.best: dict[str, Any] | None = None
        self._saved = -1
        self._earlier, self._start = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self._earlier + time.perf_counter() - self._start

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not earlier: other ranks may still be writing the folder's first files.
        if trainer.is_global_zero:
            run = self.last.parents[1]
            for folder in (run, self.last.parent, run / "samples"):
                discard_unfinished(folder)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._start = time.perf_counter()

    def after_step(self, trainer: pl.Trainer, method: Method, step: int) -> None:
        # The last step's checkpoint waits for the last validation, in on_train_end.
        if self.every and step % self.every == 0 and step < trainer.max_steps:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._saved != trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        # Rows that the checkpoint counts as written must outlast a power failure as it does.
        flush(self.last.parents[1] / "metrics.csv")
        trainer.save_checkpoint(self.last, weights_only=False)
        self._saved = trainer.global_step

    def offer(self, method: Method, metrics: dict[str, float], step: int) -> None:
        """Keep the method's present weights as the best ones if the named metric says so (rank 0)."""
        if self.metric not in metrics:
            raise ConfigError(f"validation.metric={self.metric} is not measured here: use one of {', '.join(metrics)}")
        value = metrics[self.metric]
        sign = 1 if self.mode == "max" else -1
        before = -math.inf if self.best is None else sign * self.best["value"]
        if sign * value > before:  # false for NaN
            self.best = {"metric": self.metric, "value": value, "step": step}
            content = {"state_dict": method.trained_state(), "stage": method.stage, "global_step": step}
            content["frozen"] = method.frozen_hashes()
            content[IDENTITY] = self.identity | {"best": self.best}
            AtomicCheckpointIO().save_checkpoint(content, self.best_file)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[IDENTITY] = self.identity

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self._earlier = state_dict["best"], state_dict["seconds"]


def resume_point(folder: Path) -> dict[str, Any] | None:
    """What a run's last.ckpt says about itself: ``step`` and its identity; None where there is none yet.

    Raises RunError where the file is there but cannot be read.
    """
    last = folder / "last.ckpt"
    if not last.is_file():
        return None
    try:
        content = read_checkpoint(last, mmap=True)
        return {"step": int(content["global_step"]), **content[IDENTITY]}
    except (WeightsError, KeyError) as error:
        raise RunError(
            f"{last} is truncated or no checkpoint of a training run: delete it to train anew, or start a new run "
            f"from other weights (name=... ckpt_path={folder / 'best.ckpt'})"
        ) from error
