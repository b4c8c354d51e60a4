"""How a training run ended: result.json, and what a run folder holds from earlier calls. Needs no torch."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.errors import RunError
from vsrbench.runs import Run
from vsrbench.stored import CONFIG, read_config, read_json

if TYPE_CHECKING:
    from omegaconf import DictConfig

LOST_RANK = "another process of this run has ended"  # what the others say; why, only that process knows


@dataclass(frozen=True)
class Result:
    """What one call did.

    signal: number of the signal that stopped it, None otherwise. skipped: steps of the whole run that were not made,
    by the name of what was wrong. substitutes: see ``MethodModule.substitutes``. ended: why the run is over before
    ``trainer.max_steps``, "" where it is not. weights: name of the checkpoint that the run hands out.
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
    substitutes: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    weights: str = "last.ckpt"


def first_process() -> bool:
    """True in the one process of a distributed run that prints and writes (also before it is set up)."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def refuse_old_layout(folder: Path) -> None:
    """Raise RunError for a run folder whose settings have the names of before ``trainer`` was a Lightning Trainer."""
    known = folder / CONFIG
    trainer = read_config(known).get("trainer") if known.is_file() else {"_target_": ""}
    if not isinstance(trainer, dict) or "_target_" not in trainer:
        raise RunError(
            f"{folder} was made by an earlier version, whose settings have other names: finish it with that version, "
            f"or start a new run from its weights (name=NEW ckpt_path={folder})"
        )


def why_finished(run: Run, max_steps: int) -> str | None:
    """What to say where nothing is left to do, None where there is. Raises RunError for a damaged result.json."""
    if not run.finished:
        return None
    remedy = "delete it, and the same command makes it again"
    result = read_json(run.result, remedy)
    try:
        steps, ended = int(result["steps"]), result.get("ended", "")
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.result} is damaged (it has no steps): {remedy}") from error
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


def write_result(cfg: "DictConfig", run: Run, result: Result) -> None:
    """Write result.json: the last file of a run that reached ``trainer.max_steps`` or ended by itself."""
    best = None if result.best is None else {**result.best, "file": "checkpoints/best.ckpt"}
    if best is not None and not math.isfinite(best["value"]):
        best["value"] = None  # PSNR of equal images is infinite, for which JSON has no number
    run.write_json(
        "result.json",
        {
            "schema": "vsrbench.train/1",
            "method": cfg.method.name,
            "size": cfg.size,
            "variant": cfg.variant,
            "stage": result.stage,
            "steps": result.steps,
            "ended": result.ended,
            "effective_batch": result.effective_batch,
            "parameters": result.parameters,
            "skipped": result.skipped,
            "substitutes": result.substitutes,
            "best": best,
            "last": "checkpoints/last.ckpt",
            "weights": f"checkpoints/{result.weights}",
            "metrics": {name: value for name, value in result.metrics.items() if math.isfinite(value)},
            "seconds": round(result.seconds, 1),
            "provenance": read_json(run.folder / "provenance.json", "give the same command again"),
        },
    )


def report(cfg: "DictConfig", run: Run, result: Result) -> None:
    """Write the result, or say why there is none yet; the folder is printed last.

    Raises SystemExit with 128 + the signal's number (143 for SIGTERM) where a signal ended training.
    """
    if result.steps >= cfg.trainer.max_steps or result.ended:
        write_result(cfg, run, result)
        if result.ended:
            print(f"ended at step {result.steps} by {result.ended}")
    else:
        why = "trainer.max_time" if result.signal is None else f"signal {result.signal}"
        print(f"stopped by {why} at step {result.steps}; the same command goes on from there")
    print(run.folder)
    if result.signal is not None:
        raise SystemExit(128 + result.signal)
