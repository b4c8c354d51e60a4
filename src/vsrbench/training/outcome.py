"""How a training run ended: result.json, and what a run folder holds from earlier calls. Needs no torch."""

import json
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vsrbench.errors import RunError
from vsrbench.runs import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig

LOST_RANK = "another process of this run has ended"  # what the others say; why, only that process knows


@dataclass(frozen=True)
class Outcome:
    """What one call did.

    signal: number of the signal that stopped it, None otherwise. skipped: steps of the whole run that were not made,
    by the name of what was wrong. ended: why the run is over before ``trainer.max_steps``, "" where it is not.
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
    ended: str = ""


def first_process() -> bool:
    """True in the one process of a distributed run that prints and writes (also before it is set up)."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def why_finished(run: Run, max_steps: int) -> str | None:
    """What to say where nothing is left to do, None where there is. Raises RunError for a damaged result.json."""
    if not run.finished:
        return None
    try:
        result = json.loads(run.result.read_text())
        steps, ended = int(result["steps"]), result.get("ended", "")
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.result} is damaged: delete it, and the same command makes it again") from error
    if ended:
        return f"finished at step {steps} by {ended}: force=true trains anew"
    if steps < max_steps:
        return None
    return f"finished at step {steps}: raise trainer.max_steps to go on, or force=true to train anew"


def clear(run: Run) -> None:
    """Remove what earlier training wrote into the folder, and nothing else."""
    for path in (*run.checkpoints.glob("*.ckpt"), *run.samples.glob("step_*")):
        path.unlink()
    for name in ("metrics.csv", "result.json"):
        (run.folder / name).unlink(missing_ok=True)


def write_result(cfg: "DictConfig", run: Run, outcome: Outcome) -> None:
    """Write result.json: the last file of a run that reached ``trainer.max_steps`` or ended by itself."""
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
            "ended": outcome.ended,
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
    if outcome.steps >= cfg.trainer.max_steps or outcome.ended:
        write_result(cfg, run, outcome)
        if outcome.ended:
            print(f"ended at step {outcome.steps} by {outcome.ended}")
    else:
        why = "trainer.max_time" if outcome.signal is None else f"signal {outcome.signal}"
        print(f"stopped by {why} at step {outcome.steps}; the same command goes on from there")
    print(run.folder)
    if outcome.signal is not None:
        raise SystemExit(128 + outcome.signal)
