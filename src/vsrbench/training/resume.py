"""What exact resuming needs beyond Lightning, all of it.

Lightning resumes at the end of an epoch and calls anything else "unreliable": it knows neither where the data were nor
that a run stopped within an accumulation window, and its step for logging counts batches where a method calls its
(two) optimisers itself. Here a run is one endless epoch of numbered samples, so that a place in it is a number: the
optimiser step. A checkpoint then says all with that number and the global random states.
"""

import random
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from vsrbench.compat import set_logged_step
from vsrbench.data.loading import Batches
from vsrbench.errors import DataError
from vsrbench.types import Clip


class Stream:
    """Training batches without an end, so that no accumulation window is cut by the end of an epoch.

    data: a data module whose ``train_dataloader`` starts at sample number ``first_sample`` and goes
    on with the next epoch each time it is iterated again. only: use the first so many batches over and
    over; 0: all. waited: seconds spent on waiting for batches. Iterated again (``trainer.limit_train_batches`` makes
    epochs), it goes on. Raises DataError where there is not a single batch.
    """

    def __init__(self, data: Any, only: int = 0) -> None:
        self.data, self.only = data, only
        self.loader: Any = None
        self.waited = 0.0
        self._batches = self._endless()

    def __iter__(self) -> Iterator[Clip]:
        return self

    def __next__(self) -> Clip:
        start = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - start
        return batch

    def _endless(self) -> Iterator[Clip]:
        # Here, not in __init__: the rank is known once training has started.
        self.loader = self.data.train_dataloader()
        first = list(islice(self.loader, self.only)) if self.only else []
        while True:
            batch = None
            for batch in first or self.loader:
                yield batch
            if batch is None:
                raise DataError("the training set is too small for a single batch: lower train.batch")

    def stop(self) -> None:
        """End the loader's workers."""
        if isinstance(self.loader, Batches):
            self.loader.stop()


class ResumableData(pl.LightningDataModule):
    """The data module of a run with its endless stream of training batches, from sample ``first_sample`` on."""

    def __init__(self, data: Any, first_sample: int = 0, overfit_batches: int = 0) -> None:
        super().__init__()
        self.data, self.stream = data, Stream(data, overfit_batches)
        data.first_sample = first_sample

    @property
    def waited(self) -> float:
        """Seconds that training has waited for batches."""
        return self.stream.waited

    def setup(self, stage: str) -> None:
        self.data.trainer = self.trainer  # which knows the rank

    def train_dataloader(self) -> Stream:
        return self.stream

    def val_dataloader(self) -> Any:
        return self.data.val_dataloader()


class ExactResume(pl.Callback):
    """Puts Lightning's counters at the start of the next whole step, and random states where they were.

    accumulate: batches per optimiser step of this call; the trainer factory sets it.
    A run may have stopped within an accumulation window, or may go on with another ``train.batch``; both
    ways the gradients of the unfinished window are gone, and the window begins again. Training draws its
    random numbers from sample numbers (see ``Noise``); the global states are restored all the same, for
    libraries that use them. They are those of rank 0.
    """

    def __init__(self) -> None:
        self.accumulate = 1
        self._stored: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["random"] = random_states()
        settle(checkpoint["loops"]["fit_loop"], int(checkpoint["global_step"]), self.accumulate)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        rewind(checkpoint["loops"]["fit_loop"], int(checkpoint["global_step"]) * self.accumulate)
        self._stored = checkpoint["random"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A checkpoint is written after all that its step brings, validation included: nothing is to be made up for.
        trainer.fit_loop.epoch_loop.restarting = False
        if self._stored is not None and trainer.is_global_zero:
            restore_random_states(self._stored)
        self._stored = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        set_logged_step(trainer, trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        # An endless epoch has no last batch, after which Lightning would validate; it does where it is told to stop.
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True


def settle(fit_loop: dict[str, Any], steps: int, accumulate: int) -> None:
    """Make Lightning's counters those of an uninterrupted run: some of them count since the last start."""
    rewind(fit_loop, steps * accumulate)
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = steps
    optimisers = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    optimisers["step"]["current"] = dict(optimisers["step"]["total"])
    for counts in optimisers["zero_grad"].values():
        counts.update(dict.fromkeys(counts, optimisers["step"]["total"]["completed"]))
    schedules = fit_loop["epoch_loop.scheduler_progress"]
    schedules["current"] = dict(schedules["total"])
    validated = fit_loop["epoch_loop.val_loop.batch_progress"]
    validated["total"] = dict(validated["current"])


def rewind(fit_loop: dict[str, Any], batches: int) -> None:
    """Make Lightning's loop state say: within the first epoch, ``batches`` batches done, none half done."""
    done = dict.fromkeys(("ready", "started", "processed", "completed"), batches)
    fit_loop["epoch_loop.batch_progress"] |= {"current": dict(done), "total": dict(done), "is_last_batch": False}
    within = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    fit_loop["epoch_progress"] |= {"current": dict(within), "total": dict(within)}


def random_states() -> dict[str, Any]:
    """Global random states of Python, NumPy and torch as plain containers and tensors."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo ``random_states``; a machine with another number of GPUs keeps its own GPU states."""
    random.setstate(states["python"])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
