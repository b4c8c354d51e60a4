"""``python -m vsrbench.train method=dgaf data=reds``: train, or go on where the same command stopped."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench.config import launch
from vsrbench.errors import RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: "DictConfig") -> Path | None:
    """One call of train; the run folder is printed last and returned (None with ``debug=fdr``, which has none).

    Goes on from the folder's last.ckpt by itself; ``ckpt_path=last`` insists on it, another ``ckpt_path``
    names the weights that a new run starts from. A finished run is not repeated.
    Raises RunError for a run folder that cannot be used as asked, SystemExit (128 + number) where a signal
    ended training, and what ``vsrbench.training.trainer.train`` raises.
    """
    from vsrbench.interrupts import end_with_parent
    from vsrbench.training.result import first_process

    if not first_process():
        end_with_parent()
    if cfg.stage == "all":
        from vsrbench.training.stages import run_all

        return run_all(cfg, run)
    if cfg.trainer.fast_dev_run:
        from vsrbench.training.stages import with_start
        from vsrbench.training.trainer import train

        train(with_start(cfg, None, resumed=False), None, None)
        print("nothing was written (debug=fdr)")
        return None
    must_resume = cfg.ckpt_path == "last"
    if must_resume:
        cfg = cfg.copy()
        cfg.ckpt_path = None  # it is the same run as without
    from vsrbench.runs import Run, alone, run_folder
    from vsrbench.training.stages import with_start

    folder = run_folder(cfg, "train")
    if not (folder / "config.yaml").is_file():
        with_start(cfg, Run(folder), resumed=False, record=False)  # what cannot start leaves no folder behind
    with alone(folder) if first_process() else nullcontext():
        return _run(cfg, must_resume)


def _run(cfg: "DictConfig", must_resume: bool) -> Path:
    from vsrbench.runs import open_run, run_folder
    from vsrbench.training.result import clear, first_process, refuse_old_layout, report, why_finished
    from vsrbench.training.stages import with_start

    refuse_old_layout(run_folder(cfg, "train"))
    folder = open_run(cfg, "train")
    reason = why_finished(folder, cfg.trainer.max_steps)
    if reason and not cfg.force:
        if cfg.stage != "default":
            with_start(cfg, folder, resumed=True)  # refuses where the stage before was trained anew
        print(reason)
        print(folder.folder)
        return folder.folder

    from vsrbench.training.checkpoint import resume_point
    from vsrbench.training.trainer import train

    point = None if cfg.force else resume_point(folder.checkpoints)
    if must_resume and point is None:
        raise RunError(f"ckpt_path=last: there is no checkpoint in {folder.checkpoints}; leave ckpt_path out")
    begin = partial(clear, folder) if cfg.force and first_process() else None
    result = train(with_start(cfg, folder, resumed=point is not None), folder, point, begin)
    if first_process():
        report(cfg, folder, result)
    return folder.folder


if __name__ == "__main__":
    launch(run, "train")
