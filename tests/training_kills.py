"""Training in a child process that gets a signal at a chosen moment, counted in calls that the project's code makes.

Counted so, a moment is the same on any machine, and may lie within any function. Children are forked from a server that
has imported everything and started no thread.
"""

import json
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

SOURCE = str(Path(__file__).resolve().parents[1] / "src" / "vsrbench")
WRITERS = ("runs.py", "checkpoint.py", "loggers.py", "result.py")  # where files are written
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["vsrbench.training.trainer", "kornia.metrics"])


@dataclass(frozen=True)
class Moment:
    """The ``count``-th call, of all or of those in the modules that write files alone."""

    count: int
    writing: bool = False
    signal: int = signal.SIGKILL


def train_until(moment: Moment | None, arguments: list[str], folder: Path) -> int:
    """Train in a child process; its exit code, negative for a signal that ended it. Output goes to ``folder/log``."""
    child = CONTEXT.Process(target=_life, args=(moment, arguments, folder))
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def calls(folder: Path) -> dict[str, int]:
    """How many calls the last child that came to its end made: ``all`` and ``writing``."""
    return json.loads((folder / "calls.json").read_text())


def _life(moment: Moment | None, arguments: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from vsrbench import config, train

    cfg = config.compose(arguments)
    counts = {"all": 0, "writing": 0}

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event not in ("call", "c_call") or not file.startswith(SOURCE):
            return
        writing = os.path.basename(file) in WRITERS
        counts["all"] += 1
        counts["writing"] += writing
        counted = moment is not None and (writing or not moment.writing)
        if counted and counts["writing" if moment.writing else "all"] == moment.count:
            os.kill(os.getpid(), moment.signal)

    sys.setprofile(watch)
    train.run(cfg)
    sys.setprofile(None)
    (folder / "calls.json").write_text(json.dumps(counts))
