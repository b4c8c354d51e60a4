"""``python -m vsrbench.rehearse [PATTERN]``: every file below ``experiments/`` once, tiny, on the sample data.

PATTERN chooses among them (``mini/*``). Each file runs the command that it is for (its key ``command``) in this
process, with the tiny networks, for two steps or on one short clip, and writes nothing that stays.
"""

import argparse
import io
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsrbench import eval as evaluate
from vsrbench import train
from vsrbench.config import compose, home
from vsrbench.errors import ConfigError, VsrbenchError

if TYPE_CHECKING:
    from omegaconf import DictConfig

SMALL = ["size=tiny", "data=sample", "trainer=cpu", "logger=csv", "inference.device=cpu"]
SHORT = {
    "train": [
        "trainer.max_steps=2", "trainer.log_every=1", "train.crop=16", "train.batch=1", "train.effective_batch=2",
        "validation.every=0", "validation.clips=1", "validation.frames=2", "checkpoint.every=0", "data.workers=0",
    ],
    "eval": ["data.splits.test.clips=1", "data.splits.test.frames=2"],
}  # fmt: skip
RUN = {"train": train.run, "eval": evaluate.run}


@dataclass(frozen=True)
class Outcome:
    """error: None where the file ran to its end."""

    name: str
    command: str | None
    seconds: float
    error: str | None


def main(arguments: list[str] | None = None) -> None:
    """Print a table of files; exit code 1 where one failed, 2 where the pattern matches none."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="vsrbench.rehearse", description="run every experiment file once, tiny")
    parser.add_argument("pattern", nargs="?", default="**/*", help="files below experiments/, for instance mini/*")
    names = found(parser.parse_args(arguments).pattern)
    if not names:
        parser.error("no file below experiments/ matches the pattern")
    console = Console(file=sys.stdout)
    table = Table("experiment", "command", "", "seconds", "why")
    outcomes = []
    for number, name in enumerate(names, 1):
        console.print(f"{number}/{len(names)} {name}", highlight=False)
        outcomes.append(rehearse(name))
        done = outcomes[-1]
        table.add_row(name, done.command, "failed" if done.error else "ok", f"{done.seconds:.1f}", done.error)
    console.print(table)
    if any(outcome.error for outcome in outcomes):
        raise SystemExit(1)


def found(pattern: str = "**/*") -> list[str]:
    """Experiments as ``experiments=`` takes them, in order."""
    root = home() / "conf" / "experiments"
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob(f"{pattern}.yaml"))


def rehearse(name: str) -> Outcome:
    """Run one file's command, tiny and short. Output is shown only where something fails."""
    command, error, output = None, None, io.StringIO()
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="rehearse-") as runs, redirect_stdout(output):
            command = command_of(compose([f"experiments={name}", *SMALL]))
            RUN[command](compose([f"experiments={name}", *SMALL, *SHORT[command], f"runs={runs}"], verb=command))
    except (Exception, SystemExit) as failure:  # whatever one file does, the others get their turn
        error = " ".join(str(failure).split()) or type(failure).__name__
        print(output.getvalue(), file=sys.stderr)
        if not isinstance(failure, VsrbenchError):
            traceback.print_exception(failure)
    return Outcome(name, command, time.perf_counter() - started, error)


def command_of(cfg: "DictConfig") -> str:
    """Raises ConfigError where a file does not say which command it is for."""
    if cfg.command not in SHORT:
        raise ConfigError(f"the file needs a key command: {' or '.join(SHORT)}, not {cfg.command}")
    return str(cfg.command)


if __name__ == "__main__":
    main()
