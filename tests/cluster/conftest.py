"""Jobs that end in a second: the command line of a job, with a program in place of training."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from training_fakes import tiny_arguments
from vsrbench import config
from vsrbench.cluster import task
from vsrbench.cluster.manifest import Job

JOB = '''
"""In place of training: a result after a moment. seed=13 fails, seed=99 waits to be stopped, once."""
import json, os, signal, sys, time
from vsrbench.config import launch
from vsrbench.runs import run_folder

def run(cfg):
    folder = run_folder(cfg, "train")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "starts").open("a") as file:
        file.write(f"{os.getpid()} force={cfg.force} sweep={cfg.sweep}\\n")
    if cfg.seed == 13:
        print("what led to it")
        raise ValueError("thirteen")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    while cfg.seed == 99 and len((folder / "starts").read_text().splitlines()) == 1:
        time.sleep(0.05)
    (folder / "result.json").write_text(json.dumps({"metrics": {"val/psnr_y": 30 + cfg.optimiser.lr}, "steps": 6}))
    print(folder)

launch(run, "train")
'''


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every job of this process runs the program above; returns its file."""
    script = tmp_path / "job.py"
    script.write_text(JOB)

    def command(verb: str, job: Job, restarted: bool) -> list[str]:
        return [sys.executable, str(script), *job.arguments, *(["force=false"] if restarted else [])]

    monkeypatch.setattr(task, "command", command)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))
    return script


def kept(runs: Path) -> list[str]:
    """Hydra's own overrides that jobs need too: where the tests' configurations are."""
    return tiny_arguments(runs)[:1]


Composed = list[tuple[list[str], DictConfig]]


@pytest.fixture
def composed(tmp_path: Path) -> Callable[..., Composed]:
    """``composed(["seed=1"], ["seed=2"], "launcher.x=y")``: jobs as Hydra's sweepers hand them over."""

    def make(*what: list[str] | str) -> Composed:
        shared = [*tiny_arguments(tmp_path)[1:-1], "sweep=s", *(w for w in what if isinstance(w, str))]
        each = [[*shared, *overrides] for overrides in what if isinstance(overrides, list)]
        return [(overrides, config.compose([*kept(tmp_path), *overrides])) for overrides in each]

    return make
