"""``python -m vsrbench.train method=dgaf data=reds``: train, or go on where the same command stopped."""

import json
from typing import TYPE_CHECKING, Any

from vsrbench.config import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.runs import Run
    from vsrbench.training.session import Outcome


def run(cfg: "DictConfig") -> None:
    """One call of train; prints the run folder last. See ``vsrbench.training.session.train`` for the errors.

    Raises SystemExit with 128 + the signal's number where a signal ended training (143 for SIGTERM).
    """
    from omegaconf import OmegaConf

    if cfg.trainer.fast_dev_run:
        from vsrbench.training.session import train

        print(f"{train(cfg, None, None).steps} steps done, nothing written")
        return
    must_resume = cfg.ckpt_path == "last"
    if must_resume:  # the same run as without it
        cfg = OmegaConf.merge(cfg, {"ckpt_path": None})
    _train(cfg, must_resume)


def _train(cfg: "DictConfig", must_resume: bool) -> None:
    from vsrbench.errors import RunError
    from vsrbench.runs import open_run

    folder = open_run(cfg, "train")
    done = steps_done(folder)
    if done is not None and done >= cfg.trainer.max_steps and not cfg.force:
        _say(f"finished at step {done}: raise trainer.max_steps to go on, or force=true to train anew")
        _say(str(folder.folder))
        return

    from vsrbench.training.checkpoints import resume_point
    from vsrbench.training.session import train

    if cfg.force:
        clear(folder)
    point = None if cfg.force else resume_point(folder.checkpoints)
    if must_resume and point is None:
        raise RunError(f"ckpt_path=last: there is no checkpoint in {folder.checkpoints}; leave ckpt_path out")
    outcome = train(cfg, folder, point)
    finish(cfg, folder, outcome)


def finish(cfg: "DictConfig", folder: "Run", outcome: "Outcome") -> None:
    """Write the result of a run that reached its end, or say that it did not."""
    from pytorch_lightning.utilities import rank_zero_only

    if rank_zero_only.rank == 0:
        if outcome.steps >= cfg.trainer.max_steps:
            folder.write_json("result.json", result(cfg, folder, outcome))
        else:
            why = "trainer.max_time" if outcome.signal is None else f"signal {outcome.signal}"
            print(f"stopped by {why} at step {outcome.steps}; the same command goes on from there")
        print(folder.folder)
        if outcome.signal is not None:
            raise SystemExit(128 + outcome.signal)


def result(cfg: "DictConfig", folder: "Run", outcome: "Outcome") -> dict[str, Any]:
    """Content of result.json."""
    import math

    best = outcome.best and {**outcome.best, "file": "checkpoints/best.ckpt"}
    if best and not math.isfinite(best["value"]):
        best["value"] = None  # an infinite PSNR has no number in JSON
    return {
        "schema": "vsrbench.train/1",
        "method": cfg.method.name,
        "size": cfg.size,
        "variant": cfg.variant,
        "stage": outcome.stage,
        "steps": outcome.steps,
        "effective_batch": outcome.effective_batch,
        "parameters": outcome.parameters,
        "best": best,
        "last": "checkpoints/last.ckpt",
        "metrics": {name: value for name, value in outcome.metrics.items() if math.isfinite(value)},
        "seconds": round(outcome.seconds, 1),
        "provenance": json.loads((folder.folder / "provenance.json").read_text()),
    }


def steps_done(folder: "Run") -> int | None:
    """Steps of a finished run, None for one that is not."""
    return int(json.loads(folder.result.read_text())["steps"]) if folder.finished else None


def clear(folder: "Run") -> None:
    """Remove what an earlier run of the same configuration wrote, and nothing else (rank 0)."""
    from pytorch_lightning.utilities import rank_zero_only

    if rank_zero_only.rank == 0:
        for path in (*folder.checkpoints.glob("*.ckpt"), *folder.samples.glob("step_*.png")):
            path.unlink()
        for name in ("metrics.csv", "result.json"):
            (folder.folder / name).unlink(missing_ok=True)


def _say(text: str) -> None:
    import os

    if not os.environ.get("LOCAL_RANK", "0") != "0":
        print(text)


if __name__ == "__main__":
    launch(run, "train")
