"""What Lightning forgets when a run goes on: where it was in the data, and the state of random numbers."""

import random
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from vsrbench.data.loading import Batches
from vsrbench.errors import DataError
from vsrbench.types import Clip


class Stream:
    """Training batches without an end, so that no accumulation window is cut by the end of an epoch.

    data: a LightningDataModule whose ``train_dataloader`` starts at sample number ``first_sample`` and goes
    on with the next epoch each time it is iterated again. only: use the first so many batches over and
    over; 0: all. Raises DataError where there is not a single batch.
    """

    def __init__(self, data: Any, only: int = 0) -> None:
        self.data, self.only = data, only
        self.loader: Any = None

    def __iter__(self) -> Iterator[Clip]:
        # Here, not in __init__: the rank is known once training has started.
        self.loader = self.data.train_dataloader()
        if self.only:
            yield from cycle(list(islice(self.loader, self.only)))
        while True:
            batch = None
            for batch in self.loader:
                yield batch
            if batch is None:
                raise DataError("the training set is too small for a single batch: lower train.batch")

    def stop(self) -> None:
        """End the loader's workers."""
        if isinstance(self.loader, Batches):
            self.loader.stop()


class Resume(pl.Callback):
    """Puts Lightning's counters at the start of the next whole step, and random states where they were.

    A run may have stopped within an accumulation window, or may go on with another ``train.batch``; both
    ways the gradients of the unfinished window are gone, and the window begins again. Training draws its
    random numbers from sample numbers (see ``Noise``); the global states are restored all the same, for
    libraries that use them. They are those of rank 0.
    """

    def __init__(self, accumulate: int = 1) -> None:
        self.accumulate = accumulate
        self._stored: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["random"] = random_states()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        rewind(checkpoint["loops"]["fit_loop"], int(checkpoint["global_step"]) * self.accumulate)
        self._stored = checkpoint["random"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._stored is not None and trainer.is_global_zero:
            restore_random_states(self._stored)
        self._stored = None


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
