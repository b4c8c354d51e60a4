"""Everything private of Lightning and of torch's DDP that training touches, in one place.

Checked with the versions in ``CHECKED``; ``tests/training/test_lightning.py`` names them and fails where
one of these interfaces is gone.
"""

from collections.abc import Iterable

import pytorch_lightning as pl
from torch import nn
from torch.nn.parallel import DistributedDataParallel

CHECKED = {"pytorch-lightning": "2.6", "torch": "2.13"}


def validation_follows(trainer: pl.Trainer) -> bool:
    """True where Lightning validates after the batch in hand, so that a checkpoint of its step can wait for that."""
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and loop.epoch_loop._should_check_val_fx(fetcher)


def set_logged_step(trainer: pl.Trainer, step: int) -> None:
    """The step under which Lightning and its callbacks log; it counts batches with manual optimisation otherwise."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def leave_to_ranks(model: nn.Module, names: Iterable[str]) -> None:
    """DDP neither broadcasts nor reduces these parameters."""
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(names))
