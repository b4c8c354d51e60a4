"""What a finished training hands out: its card, its cost, the best weights."""

from typing import Any

import pytorch_lightning as pl

from vsrbench.evaluation.outputs import peak_memory
from vsrbench.methods.base import Method
from vsrbench.runs import Run
from vsrbench.training import names
from vsrbench.training.card import card, cost
from vsrbench.training.checkpoints import Checkpoints
from vsrbench.training.loggers import finish, log_checkpoint, log_summary
from vsrbench.training.summary import device_name, parameters
from vsrbench.training.validation import Validation

CARD = "README.md"


class Publish(pl.Callback):
    """At the end of training, after the last validation and checkpoint: README.md in the run folder, then the loggers.

    settings: the resolved configuration.
    """

    def __init__(self, settings: dict[str, Any], run: Run, validation: Validation, checkpoints: Checkpoints) -> None:
        self.settings, self.run = settings, run
        self.validation, self.checkpoints = validation, checkpoints

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        # A run that a signal or the time limit stopped is not finished; there may be no time left either.
        if not trainer.is_global_zero or (trainer.global_step < trainer.max_steps and not pl_module.ended):
            return
        count, best = parameters(pl_module), self.checkpoints.best
        spent = cost(count["trained"], count["frozen"], self.checkpoints.seconds / 3600, peak_memory())
        facts = {
            "stage, steps": f"{pl_module.stage}, {trainer.global_step:,}",
            "effective batch": self.checkpoints.identity["effective_batch"],
            "device": f"{trainer.num_devices * trainer.num_nodes} x {device_name(trainer)}",
        }
        text = card(self.settings, self.run.folder.name, facts, spent, self.validation.metrics, best)
        self.run.write_text(CARD, text)
        summary = dict(spent)
        if best is not None:
            summary |= {names.best(best["metric"]): best["value"], names.BEST_STEP: best["step"]}
        log_summary(trainer.loggers, summary, trainer.global_step)
        if self.checkpoints.best_file.is_file():
            identity = {**self.checkpoints.identity, **summary}
            metadata = {**identity, "step": trainer.global_step if best is None else best["step"]}
            folder = self.run.folder
            log_checkpoint(
                trainer.loggers, self.checkpoints.best_file, folder / CARD, [folder / "config.yaml"], metadata
            )
        finish(trainer.loggers)
