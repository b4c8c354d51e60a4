"""``python -m vsrbench.bench task=params method=dgaf``: what a method costs, beside what its paper prints.

task=params: parameters by part. task=flops: operations per frame by part, nothing is run. task=speed: seconds by
part; against=reference: of a whole clip, beside the loop of released codes. task=memory: peaks by part. task=loader:
samples per second of a data set. task=metrics: frames per second of scoring. ``output=FILE`` keeps the numbers as
JSON. docs/cost.md shows tables.
"""

import importlib
from typing import TYPE_CHECKING

from vsrbench.config import launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

TASKS = ("params", "flops", "speed", "memory", "loader", "metrics")


def run(cfg: "DictConfig") -> None:
    """Do the task of the configuration. Raises ConfigError for an unknown one and for what cannot be measured."""
    if cfg.task not in TASKS:
        raise ConfigError(f"task={cfg.task}: use {', '.join(TASKS[:-1])} or {TASKS[-1]}")
    importlib.import_module(f"vsrbench.benchmarks.{cfg.task}").run(cfg)


if __name__ == "__main__":
    launch(run, "bench")
