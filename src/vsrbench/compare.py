"""``python -m vsrbench.compare``: every method on the same data, under the same protocol, by one command.

Without further settings a sweep over ``experiments=compare/*``: the shipped miniatures on ``data=sample``. With
``budget.steps=N`` each method is first trained for N steps on that data, from the start of its training. The page of
quality, consistency and cost is written at the end.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench import eval as evaluate
from vsrbench import train
from vsrbench.config import launch, one_line
from vsrbench.errors import ConfigError, RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig

ROWS = "experiments=compare/*"


def run(cfg: "DictConfig") -> Path | None:
    """Train within the budget, where there is one, and evaluate; returns the run folder of the evaluation.

    Raises RunError where training ended before its budget did, and what ``training``, ``train`` and ``eval`` raise.
    """
    evaluation = cfg.copy()
    evaluation.verb = "eval"
    if cfg.budget.steps and cfg.budget.trained and cfg.module is not None:
        folder = train.run(training(cfg))
        if folder is None or not (folder / "result.json").is_file():
            raise RunError(f"{folder}: training ended before its {cfg.budget.steps} steps; the same command goes on")
        evaluation.ckpt_path = str(folder)
    from vsrbench.training.result import first_process

    return evaluate.run(evaluation) if first_process() else None


def training(cfg: "DictConfig") -> "DictConfig":
    """The training that spends the budget; stages that build on each other share it in equal parts (ours).

    Each budget has its run folders in ``<runs>/budget_<steps>``. Raises ConfigError for a budget with less than a step
    per stage.
    """
    from vsrbench.training.stages import ALL, stages_of

    budgeted, steps, stages = cfg.copy(), int(cfg.budget.steps), stages_of(cfg)
    budgeted.verb = "train"
    budgeted.runs = str(
        Path(cfg.runs) / f"budget_{steps}"
    )  # a stage refuses to go on where the one before it has changed
    if any(stage.needs for stage in stages.values()):
        budgeted.stage, steps = ALL, steps // len(stages)
    if steps < 1:
        raise ConfigError(f"budget.steps={cfg.budget.steps} is less than one for each stage: {', '.join(stages)}")
    budgeted.trainer.max_steps = steps
    return budgeted


def arguments(words: list[str]) -> list[str]:
    """What is typed, and the sweep over all rows unless rows are named."""
    has_rows = any(a.startswith(("experiments=", "experiment=", "-h", "--help", "--cfg")) for a in words)
    return words if has_rows else ["-m", ROWS, *words]


def page(words: list[str]) -> None:
    """Write the page of a sweep whose jobs have all ended and print its place; failed jobs are named on it.

    given: all arguments of the sweep. Nothing where there is none (a single row, ``--help``) or jobs are still queued.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from vsrbench.report import sweep_page
    from vsrbench.reports.arguments import Arguments

    folders = [word for word in words if word.startswith(("runs=", "sweep="))]
    values = {o.key_or_group: str(o.value()) for o in OverridesParser.create().parse_overrides(folders)}
    folder = Path(values.get("runs", "runs")).expanduser() / "sweeps" / values.get("sweep", "")
    if "sweep" in values and {"-m", "--multirun"} & set(words) and (folder / "manifest.json").is_file():
        with one_line():
            if path := sweep_page(Arguments("sweep", (), {"sweep": str(folder)})):
                print(path)


def main() -> None:
    """Run the sweep, then write its page; the exit code is 1 where a job failed, page or no page."""
    sys.argv[1:] = arguments(sys.argv[1:])
    try:
        launch(run, "compare")
    except SystemExit as ended:
        if ended.code == 1:
            page(sys.argv[1:])
        raise
    page(sys.argv[1:])


if __name__ == "__main__":
    main()
