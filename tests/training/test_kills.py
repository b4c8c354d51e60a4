"""Whenever a training process is killed, the same command goes on and ends where an unbroken run ends."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from training_fakes import same, tiny_arguments
from training_kills import Moment, calls, train_until
from vsrbench import config, train
from vsrbench.errors import RunError
from vsrbench.training.loggers import CSVLogger, read_metrics

# Two batches per step, five steps per epoch, an average and a learning rate that move; two validations.
SETTINGS = (
    "train.effective_batch=4",
    "ema.decay=0.9",
    "+schedule._target_=torch.optim.lr_scheduler.StepLR",
    "+schedule._partial_=true",
    "+schedule.step_size=2",
    "trainer.max_steps=12",
    "checkpoint.every=2",
    "validation.every=6",
)
ENDS = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM}


def arguments(folder: Path, name: str) -> list[str]:
    return [*tiny_arguments(folder, name), *SETTINGS]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert train_until(None, arguments(folder, "run"), folder) == 0, (folder / "log").read_text()
    return folder / "run"


def assert_equal_runs(a: Path, b: Path) -> None:
    ours, theirs = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (a, b))
    for key in ("state_dict", "ema", "optimizer_states", "lr_schedulers", "global_step", "random", "loops"):
        assert same(ours[key], theirs[key]), key
    assert curve(a) == curve(b)
    results = [json.loads((f / "result.json").read_text()) for f in (a, b)]
    for key in ("steps", "metrics", "best", "parameters"):
        assert results[0][key] == results[1][key], key
    assert not list(a.rglob("*.part"))


def curve(folder: Path) -> list[dict[str, str]]:
    """Everything logged that does not depend on the clock."""
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in read_metrics(folder / "metrics.csv")]


def killed_and_gone_on(unbroken: Path, folder: Path, seed: int, kills: int, signals: tuple[int, ...]) -> list[str]:
    """Kill a run at moments that a seed draws, start it again, and let it end after so many kills: it must be equal.

    A run that ends before its turn comes is compared as well, and another one takes the kills that are left.
    """
    rng, told, run = random.Random(seed), [], 0
    total = calls(unbroken.parent)
    while len(told) < kills:
        writing = len(told) % 2 == 0
        count = rng.randint(1, total["writing" if writing else "all"])
        moment = Moment(count, writing, signals[len(told) % len(signals)])
        code = train_until(moment, arguments(folder, f"run{run}"), folder)
        if code == 0:
            assert_equal_runs(folder / f"run{run}", unbroken)
            run += 1
            continue
        assert code in ENDS, (folder / "log").read_text()
        told.append(
            f"run {run}, call {count} {'of the writers' if writing else 'of all'}: exit {code}, {reached(folder, run)}"
        )
    assert train_until(None, arguments(folder, f"run{run}"), folder) == 0, (folder / "log").read_text()
    assert_equal_runs(folder / f"run{run}", unbroken)
    return told


def reached(folder: Path, run: int) -> str:
    last = folder / f"run{run}" / "checkpoints" / "last.ckpt"
    return f"checkpoint of step {torch.load(last, weights_only=True)['global_step']}" if last.is_file() else "none yet"


def test_killed_at_three_random_moments(unbroken: Path, tmp_path: Path) -> None:
    killed_and_gone_on(unbroken, tmp_path, seed=3, kills=3, signals=(signal.SIGKILL,))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_terminated_at_ten_random_moments(unbroken: Path, tmp_path: Path, seed: int) -> None:
    told = killed_and_gone_on(unbroken, tmp_path, seed, 10, (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    print("\n".join(told))


def test_killed_between_the_last_checkpoint_and_the_result(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vsrbench.training.result.write_result", dies)
    with pytest.raises(KeyboardInterrupt):
        train.run(config.compose(arguments(tmp_path, "run")))
    monkeypatch.undo()
    train.run(config.compose(arguments(tmp_path, "run")))
    assert_equal_runs(tmp_path / "run", unbroken)


@pytest.mark.parametrize("what", ["metrics.csv", "last.ckpt"])
def test_full_disk_is_told_and_the_same_command_goes_on(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The eighth row, or the third checkpoint, finds no space."""
    written = []

    def full() -> None:
        written.append(1)
        if len(written) == (3 if what == "last.ckpt" else 8):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), what)

    log = CSVLogger.log_metrics
    if what == "last.ckpt":
        replace = os.replace
        monkeypatch.setattr("vsrbench.runs.os.replace", lambda a, b: (b.name == what and full(), replace(a, b)))
    else:
        monkeypatch.setattr(CSVLogger, "log_metrics", lambda *a, **k: (full(), log(*a, **k)))
    with pytest.raises(RunError, match=rf"cannot write .*{re.escape(what)}.*free space"):
        train.run(config.compose(arguments(tmp_path, "run")))
    monkeypatch.undo()
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] in (4, 6)
    train.run(config.compose(arguments(tmp_path, "run")))
    assert_equal_runs(tmp_path / "run", unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_other_and_the_same_command_goes_on(tmp_path: Path, victim: int) -> None:
    command = [sys.executable, "-m", "vsrbench.train", *arguments(tmp_path, "run"), "trainer=ddp_sim"]
    command += ["trainer.max_steps=40"]
    folders = [Path(__file__).parents[1], Path(__file__).parents[2] / "src"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        parent = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
            assert parent.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.02)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        (child,) = (int(number) for number in children if b"LOCAL_RANK=1" in environ(int(number)))
        os.kill((parent.pid, child)[victim], signal.SIGKILL)
        assert parent.wait(timeout=600) != 0
        deadline = time.monotonic() + 300
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not alive(child), "the other rank lives on"
        again = subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=600)
    assert again.returncode == 0, (tmp_path / "log").read_text()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 40
    assert train_until(None, [*arguments(tmp_path, "one"), "trainer.max_steps=40"], tmp_path) == 0
    for mine, other in zip(curve(tmp_path / "run"), curve(tmp_path / "one"), strict=True):
        assert {k: float(v) for k, v in mine.items() if v} == pytest.approx(
            {k: float(v) for k, v in other.items() if v}, rel=1e-3
        )


def environ(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def alive(pid: int) -> bool:
    """False also for what is dead and waits for its parent to notice."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
