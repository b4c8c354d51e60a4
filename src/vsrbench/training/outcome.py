"""How a training run ended: result.json, and what a run folder holds from earlier calls. Needs no torch."""

import json
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vsrbench.runs import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Outcome:
    """What one call did.

    signal: number of the signal that stopped it, None otherwise. skipped: steps of the whole run that were not made,
    by the name of what was wrong.
    """

    steps: int
    stage: str
    effective_batch: int
    best: dict[str, Any] | None
    metrics: dict[str, float]
    seconds: float
    parameters: dict[str, int]
    signal: int | None
    skipped: dict[str, int] = field(default_factory=dict)


def first_process() -> bool:
    """True in the one process of a distributed run that prints and writes (also before it is set up)."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def steps_done(run: Run) -> int | None:
    """Steps of a finished run, None for one that is not."""
    return int(json.loads(run.result.read_text())["steps"]) if run.finished else None


def clear(run: Run) -> None:
    """Remove what earlier training wrote into the folder, and nothing else."""
    for path in (*run.checkpoints.glob("*.ckpt"), *run.samples.glob("step_*")):
        path.unlink()
    for name in ("metrics.csv", "result.json"):
        (run.folder / name).unlink(missing_ok=True)


def write_result(cfg: "DictConfig", run: Run, outcome: Outcome) -> None:
    """Write result.json: the last file of a run that reached ``trainer.max_steps``."""
    best = None if outcome.best is None else {**outcome.best, "file": "checkpoints/best.ckpt"}
    if best is not None and not math.isfinite(best["value"]):
        best["value"] = None  # PSNR of equal images is infinite, for which JSON has no number
    run.write_json(
        "result.json",
        {
            "schema": "vsrbench.train/1",
            "method": cfg.method.name,
            "size": cfg.size,
            "variant": cfg.variant,
            "stage": outcome.stage,
            "steps": outcome.steps,
            "effective_batch": outcome.effective_batch,
            "parameters": outcome.parameters,
            "skipped": outcome.skipped,
            "best": best,
            "last": "checkpoints/last.ckpt",
            "metrics": {name: value for name, value in outcome.metrics.items() if math.isfinite(value)},
            "seconds": round(outcome.seconds, 1),
            "provenance": json.loads((run.folder / "provenance.json").read_text()),
        },
    )


def report(cfg: "DictConfig", run: Run, outcome: Outcome) -> None:
    """Write the result, or say why there is none yet; the folder is printed last.

    Raises SystemExit with 128 + the signal's number (143 for SIGTERM) where a signal ended training.
    """
    if outcome.steps >= cfg.trainer.max_steps:
        write_result(cfg, run, outcome)
    else:
        why = "trainer.max_time" if outcome.signal is None else f"signal {outcome.signal}"
        print(f"stopped by {why} at step {outcome.steps}; the same command goes on from there")
    print(run.folder)
    if outcome.signal is not None:
        raise SystemExit(128 + outcome.signal)
