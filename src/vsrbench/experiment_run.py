"""One experiment file, tiny and short: what it runs with, what replaces what is not there, what came of it."""

import io
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench import experiments
from vsrbench.command_line import home
from vsrbench.config import compose
from vsrbench.errors import ConfigError, VsrbenchError
from vsrbench.published import QuotedOnlyError
from vsrbench.training.stages import ALL, stages_of, with_stage

if TYPE_CHECKING:
    from omegaconf import DictConfig

SMALL = [
    "size=tiny", "data=sample", "data.splits.test.partition=test", "inference.device=cpu", "ckpt_path=null",
]  # fmt: skip
SHORT = {
    "train": [
        "trainer=cpu", "logger=csv", "trainer.max_steps=2", "trainer.log_every_n_steps=1", "train.crop=16",
        "train.batch=1", "train.effective_batch=2", "validation.every=0", "validation.clips=1", "validation.frames=2",
        "checkpoint.every=0", "data.workers=0",
    ],
    "eval": [
        "logger=csv", "data.splits.test.clips=1", "data.splits.test.frames=2", "protocol=vsrbench",
        "protocol.block=null",
    ],
    "analyse": ["data.splits.test.clips=1", "data.splits.test.frames=2", "analysis.frames=2"],
    "bench": ["bench.height=16", "bench.width=16", "bench.frames=2", "bench.repeats=1", "bench.warmup=0"],
}  # fmt: skip

Verbs = Mapping[str, Callable[["DictConfig"], Any]]


@dataclass(frozen=True)
class Outcome:
    """state: "ok", "failed" or "skipped". why: the error, the reason, or what was replaced; may be empty."""

    name: str
    command: str | None
    state: str
    seconds: float
    why: str


def commands(pattern: str = "**/*") -> list[str]:
    """What follows ``experiments=`` of each file, ``TABLE row=ROW`` where it has rows: each row that sets something,
    one of those that only quote another printed line."""
    root = home() / "conf" / "experiments"
    names: list[str] = []
    for name in experiments.names(root, pattern):
        rows = experiments.rows(root, name)
        same = [row for row, value in rows.items() if isinstance(value, str) and value != row]
        names += [f"{name} row={row}" for row in rows if row not in same[1:]] or [name]
    return names


def run_small(name: str, verbs: Verbs) -> Outcome:
    """Run one file's command in a temporary folder. Output is shown only where something fails.

    verbs: what runs each command; ``eval`` returns its run folder.
    """
    overrides = f"experiments={name}".split()
    command, state, why, output = None, "ok", "", io.StringIO()
    started = time.perf_counter()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="smoke-test-") as runs,
            redirect_stdout(output),
            redirect_stderr(output),
        ):
            cfg = compose([*overrides, *SMALL], verb="smoke_test")
            command = command_of(cfg)
            why = run(cfg, command, [*overrides, *SMALL, *SHORT[command], f"runs={runs}"], verbs)
    except QuotedOnlyError as reason:
        state, why = "skipped", str(reason)
    except (Exception, SystemExit) as failure:  # whatever one file does, the others get their turn
        state, why = "failed", " ".join(str(failure).split()) or type(failure).__name__
        print(output.getvalue(), file=sys.stderr)
        if not isinstance(failure, VsrbenchError):
            traceback.print_exception(failure)
    return Outcome(name, command, state, time.perf_counter() - started, why)


def run(cfg: "DictConfig", command: str, overrides: list[str], verbs: Verbs) -> str:
    """Run the command with replacements for weights and frames that nobody ships; returns what was replaced."""
    replacements = []
    if cfg.flow is not None and "random" in cfg.flow:
        overrides = [*overrides, "flow.random=true"]
        replacements.append("flow network: random weights")
    if cfg.method.get("front") and cfg.method.front.get("weights"):
        overrides = [*overrides, "method.front.weights=null"]  # they are of another size
        replacements.append("flow and propagation: random weights")
    if "predictions" in cfg.needs:
        folder = verbs["eval"](compose([*overrides, "method=bicubic", "command=null"], verb="eval"))
        overrides = [*overrides, f"predictions={Path(folder) / 'frames'}"]
        replacements.append("foreign frames: bicubic frames")
    ready = compose(overrides, verb=command)
    for stage in _stages_before(ready) if command == "train" else []:
        verbs["train"](with_stage(ready, stage))
        replacements.append(f"stage={stage}: trained for two steps")
    verbs[command](ready)
    return "; ".join(replacements)


def _stages_before(cfg: "DictConfig") -> list[str]:
    """Stages whose runs the configured one starts from, in order; ``stage=all`` trains them by itself."""
    if cfg.stage in ("default", ALL):
        return []
    needed: list[str] = []
    stages = stages_of(cfg)
    stage = stages[cfg.stage]
    while stage.needs:
        needed.insert(0, stage.needs[-1])
        stage = stages[needed[0]]
    return needed


def command_of(cfg: "DictConfig") -> str:
    """Raises ConfigError where a file does not say which command it is for."""
    if cfg.command not in SHORT:
        raise ConfigError(f"the file needs a key command: {' or '.join(SHORT)}, not {cfg.command}")
    return str(cfg.command)
