"""Checkpoints that are whole or absent, and the two that a run keeps: last.ckpt and best.ckpt."""

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO

from vsrbench.compat import validation_follows
from vsrbench.data.loading import lost_worker
from vsrbench.errors import ConfigError, RunError, WeightsError
from vsrbench.methods.module import MethodModule
from vsrbench.runs import atomic_file, discard_unfinished, flush
from vsrbench.training import names
from vsrbench.training.callbacks import AfterStep, WeightEMA, find
from vsrbench.weights.files import read_checkpoint
from vsrbench.weights.trained import IDENTITY


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


class RunCheckpoint(AfterStep, Checkpoint):
    """Writes last.ckpt every ``every`` steps and when training ends, best.ckpt when validation improves.

    last.ckpt is what resuming needs; where a validation follows its step, it is written after that. best.ckpt holds the
    weights that validation saw (the averaged ones where there is an average) and nothing else. monitor: the logged
    metric that decides; mode: "max" or "min". identity: plain values that both files carry under ``vsrbench``.
    weights: which of the two the run hands out, "best" or "last"; later commands read it there.

    Not Lightning's ``ModelCheckpoint``: that names files by epoch, writes the full state for the best weights too, and
    leaves a checkpoint of a step before the validation of the same step.
    """

    def __init__(
        self, every: int, monitor: str, mode: str, identity: dict[str, Any] | None = None, weights: str = "best"
    ) -> None:
        if mode not in ("max", "min"):
            raise ConfigError(f"validation.mode={mode}: use max or min")
        self.every, self.monitor, self.mode = every, monitor, mode
        self.identity = {**(identity or {}), "weights": weights}
        self.best: dict[str, Any] | None = None
        self.metrics: dict[str, float] = {}  # of the last validation
        self.folder = Path("checkpoints")
        self._saved = -1
        self._earlier, self._start = 0.0, time.perf_counter()

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def best_file(self) -> Path:
        return self.folder / "best.ckpt"

    @property
    def weights_file(self) -> Path:
        """The file that the run hands out."""
        return self.best_file if self.identity["weights"] == "best" and self.best is not None else self.last

    @property
    def seconds(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self._earlier + time.perf_counter() - self._start

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.folder = Path(trainer.default_root_dir) / "checkpoints"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not earlier: other ranks may still be writing the folder's first files.
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            run = self.folder.parent
            for folder in (run, self.folder, run / "samples"):
                discard_unfinished(folder)
            for path in (run / "samples").glob(".step_*"):  # videos, whose writer needs their suffix
                path.unlink(missing_ok=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._start = time.perf_counter()

    def after_step(self, trainer: pl.Trainer, module: MethodModule, step: int) -> None:
        if self._due(trainer) and not validation_follows(trainer):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, MethodModule)
        logged = trainer.callback_metrics
        self.metrics = {key: logged[key].item() for key in names.VALIDATION if key in logged}
        self.offer(trainer, pl_module, {key: value.item() for key, value in logged.items()}, trainer.global_step)
        self._saved = -1  # whatever was saved of this step lacks its validation
        if self._due(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._saved != trainer.global_step:
            self._save(trainer)

    def _due(self, trainer: pl.Trainer) -> bool:
        """The last step's checkpoint waits for on_train_end."""
        step, module = trainer.global_step, trainer.lightning_module
        if isinstance(module, MethodModule) and module.skipped_in_a_row:
            return False  # the weights may be spoilt: what was good before these steps stays
        return bool(self.every) and step % self.every == 0 and not 0 < trainer.max_steps <= step

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        # Rows that the checkpoint counts as written must outlast a power failure as it does.
        flush(self.folder.parent / "metrics.csv")
        trainer.save_checkpoint(self.last, weights_only=False)
        self._saved = trainer.global_step

    def offer(self, trainer: pl.Trainer, module: MethodModule, logged: dict[str, float], step: int) -> None:
        """Keep the weights that validation saw as the best ones if the monitored metric says so (rank 0 writes)."""
        if self.monitor not in logged:
            known = ", ".join(key for key in logged if "/" in key)
            raise ConfigError(f"validation.metric={self.monitor} is not measured here: use one of {known}")
        value = logged[self.monitor]
        sign = 1 if self.mode == "max" else -1
        before = -math.inf if self.best is None else sign * self.best["value"]
        if not sign * value > before:  # also for NaN
            return
        self.best = {"metric": self.monitor, "value": value, "step": step}
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            ema = find(trainer, WeightEMA)
            averaged = ema.ema.shadow if ema is not None and ema.ema is not None else {}
            content = {"state_dict": {**module.trained_state(), **averaged}, "stage": module.stage, "global_step": step}
            content["frozen"] = module.frozen_hashes()
            content[IDENTITY] = self.identity | {"best": self.best}
            AtomicCheckpointIO().save_checkpoint(content, self.best_file)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[IDENTITY] = self.identity

    def state_dict(self) -> dict[str, Any]:
        # The metrics too: a run that is killed between its last checkpoint and its result measures nothing anew.
        return {"best": self.best, "seconds": self.seconds, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self._earlier = state_dict["best"], state_dict["seconds"]
        self.metrics = dict(state_dict["metrics"])


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
