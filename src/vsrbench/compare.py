"""``python -m vsrbench.compare``: every method on the same data, under the same protocol, by one command.

Without further settings a sweep over ``experiments=compare/*``: the shipped miniatures on ``data=sample``. With
``budget.steps=N`` each method is first trained for N steps on that data, from the start of its training.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench import eval as evaluate
from vsrbench import train
from vsrbench.config import launch
from vsrbench.errors import RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig

ROWS = "experiments=compare/*"


def run(cfg: "DictConfig") -> Path | None:
    """Train within the budget, where there is one, and judge; returns the run folder of the evaluation.

    Raises RunError where training ended before its budget did, and what ``train`` and ``eval`` raise.
    """
    judged = cfg.copy()
    judged.verb = "eval"
    if cfg.budget.steps and cfg.budget.trained and cfg.supports.get("stages"):
        training = cfg.copy()
        training.verb, training.trainer.max_steps = "train", cfg.budget.steps
        folder = train.run(training)
        if folder is None or not (folder / "result.json").is_file():
            raise RunError(f"{folder}: training ended before its {cfg.budget.steps} steps; the same command goes on")
        judged.ckpt_path = str(folder)
    from vsrbench.training.outcome import first_process

    return evaluate.run(judged) if first_process() else None


def arguments(given: list[str]) -> list[str]:
    """What is typed, and the sweep over all rows unless rows are named."""
    named = any(a.startswith(("experiments=", "experiment=", "-h", "--help", "--cfg")) for a in given)
    return given if named else ["-m", ROWS, *given]


if __name__ == "__main__":
    sys.argv[1:] = arguments(sys.argv[1:])
    launch(run, "compare")
