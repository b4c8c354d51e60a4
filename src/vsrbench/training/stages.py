"""Methods that train in stages: where a stage starts, and ``stage=all``, which trains them in a row.

A stage starts from the run of the stage before it: the one that the same command with that stage makes, or the one
that ``ckpt_path`` names. Needs torch only where weights are read.
"""

import hashlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import method_class
from vsrbench.errors import ConfigError, RunError
from vsrbench.runs import Run, run_folder
from vsrbench.stored import read_json

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Stage

ALL = "all"
START = "start.json"  # in a run folder: the weights that the run started from


def stages_of(cfg: "DictConfig") -> dict[str, "Stage"]:
    """The stages that the configured method has, in order."""
    from dataclasses import replace

    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg.method, resolve=True)
    stages = method_class(cfg).stages_for(settings)
    if cfg.module.get("from_scratch"):
        return {name: replace(stage, needs=()) for name, stage in stages.items()}
    return stages


def with_stage(cfg: "DictConfig", stage: str) -> "DictConfig":
    """The configuration that the same command with another stage would have.

    A run folder's name that was given (``name=``) ends in the stage's name, or it is not used again.
    """
    one = cfg.copy()
    if cfg.name and cfg.stage == ALL:
        one.name = f"{cfg.name}/{stage}"
    else:
        same = cfg.name and Path(cfg.name).name == cfg.stage
        one.name = str(Path(cfg.name).with_name(stage)) if same else None
    one.stage, one.ckpt_path = stage, None
    return one


def run_all(cfg: "DictConfig", train: Callable[["DictConfig"], Path | None]) -> Path | None:
    """Train every stage by a call of ``train``, each in a run folder of its own; returns the last one's.

    So finished stages are skipped, and the same command goes on where it was stopped. A stage that ends before its last
    step (``trainer.max_time``) ends it all. Raises ConfigError with ``ckpt_path``, which a single stage can start from,
    and for a method whose stages have nothing to do with each other.
    """
    if cfg.ckpt_path:
        raise ConfigError(
            f"stage={ALL} starts from nothing and goes on by itself: leave ckpt_path={cfg.ckpt_path} out, or give it "
            f"to a single stage ({', '.join(stages_of(cfg))})"
        )
    folder = None
    stages = stages_of(cfg)
    if not any(stage.needs for stage in stages.values()):
        raise ConfigError(
            f"the stages of method={cfg.method.name} do not build on each other: train them one by one, "
            f"stage={' or stage='.join(stages)}"
        )
    for number, stage in enumerate(stages, 1):
        print(f"stage {number} of {len(stages)}: {stage}")
        folder = train(with_stage(cfg, stage))
        _meet()
        if folder is not None and not Run(folder).finished:
            break
    return folder


def with_start(cfg: "DictConfig", run: Run | None, resumed: bool, record: bool = True) -> "DictConfig":
    """The configuration with ``ckpt_path`` set to the run of the stage before, where the stage needs one.

    run: the folder that this stage writes to; None where nothing is written (``debug=fdr``), which may start without.
    resumed: the folder already has a checkpoint, which holds all that is needed. record: what the stage starts from is
    written into the folder; False asks only whether it can.
    Raises ConfigError for a stage that these settings leave out; RunError where that run is absent or not at its end
    (with the command that makes it), and where this one once started from other weights than are there now.
    """
    stages = stages_of(cfg)
    stage = next(iter(stages)) if cfg.stage == "default" else str(cfg.stage)
    if stage not in stages:
        raise ConfigError(f"stage={stage} has nothing to train with these settings: use one of {', '.join(stages)}")
    if cfg.ckpt_path or not stages[stage].needs:
        return cfg
    before = stages[stage].needs[-1]
    earlier = Run(run_folder(with_stage(cfg, before), "train"))
    if not earlier.finished:
        if run is None or resumed:
            return cfg
        raise RunError(_absent(cfg, stage, before, earlier, stages[stage].remedy))
    if run is not None and record:
        _record_start(run, stage, before, earlier, resumed)
    settings = cfg.copy()
    settings.ckpt_path = str(earlier.folder)
    return settings


def command(cfg: "DictConfig", stage: str) -> str:
    """The command that trains another stage: the one that was given with ``stage=`` exchanged.

    A configuration composed in Python has no command; its method, size, data and place stand for it then.
    """
    from vsrbench.config import given

    settings = [f"method={cfg.method.name}", f"size={cfg.size}", f"data={cfg.data.set}", f"runs={cfg.runs}"]
    words = [
        word
        for word in given() or settings
        if word.partition("=")[0] not in ("stage", "verb", "name", "force", "ckpt_path")
    ]
    name = with_stage(cfg, stage).name
    words += [f"stage={stage}", *([f"name={name}"] if name else [])]
    return shlex.join(["python", "-m", "vsrbench.train", *words])


def _absent(cfg: "DictConfig", stage: str, before: str, earlier: Run, remedy: str) -> str:
    what = "has not reached its last step" if (earlier.folder / "config.yaml").is_file() else "is not there"
    return (
        f"stage={stage} starts from the run of stage={before}, and {earlier.folder} {what}: run\n"
        f"  {command(cfg, before)}\nfirst, give ckpt_path=RUN of a run with stage={before}, or train all stages in a "
        f"row with stage={ALL}{remedy}"
    )


def _record_start(run: Run, stage: str, before: str, earlier: Run, resumed: bool) -> None:
    """Write down what a new run starts from; refuse to go on with one that started from something else."""
    from vsrbench.weights.trained import checkpoint_file

    file = checkpoint_file(earlier.folder)
    start = {"stage": before, "checkpoint": str(file), "hash": _digest(file)}
    known = run.folder / START
    if not resumed:
        run.write_json(START, start)
    elif known.is_file() and read_json(known, "use force=true").get("hash") != start["hash"]:
        raise RunError(
            f"{run.folder} started from other weights of stage={before} than {file} holds now: stage={stage} "
            "force=true trains it anew"
        )


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _meet() -> None:
    """All processes of a distributed run: the first one writes the results that the others look for."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
