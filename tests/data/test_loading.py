"""Workers of the training loader that fail or are killed. Their processes are real."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from vsrbench.compat import dead_workers
from vsrbench.data.loading import Batches, lost_worker, lost_workers_told, unwrapped
from vsrbench.data.sampling import collate
from vsrbench.errors import DataError, RunError
from vsrbench.training.checkpoint import AtomicCheckpointIO
from vsrbench.types import Clip


class Clips(Dataset[Clip]):
    """Sample ``broken`` cannot be read; from sample ``stuck`` on, nothing comes any more."""

    def __init__(self, broken: int = -1, stuck: int = 10**9) -> None:
        self.broken, self.stuck = broken, stuck

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, number: int) -> Clip:
        if number >= self.stuck:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        if number == self.broken:
            try:
                raise ValueError("bad bits")
            except ValueError as error:
                raise DataError(f"cannot decode frame {number}.png: fetch it again") from error
        return Clip(torch.zeros(1, 2, 3, 4, 4), None, ["x"], torch.arange(2)[None], 4)


def batches(clips: Clips, workers: int = 2) -> Batches:
    return Batches(clips, batch_size=2, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0)


@pytest.fixture
def loader() -> Any:
    made: list[Batches] = []

    def make(*settings: Any) -> Batches:
        made.append(batches(*settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_frame_is_named_in_one_line(loader: Any, workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(loader(Clips(broken=5), workers))
    assert str(caught.value) == "cannot decode frame 5.png: fetch it again"


def test_messages_of_several_lines_stay_whole() -> None:
    text = (
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File ...\n"
        "vsrbench.errors.DataError: one\n  two\n"
    )
    assert str(unwrapped(DataError(text))) == "one\n  two"
    assert str(unwrapped(DataError("plain"))) == "plain"


@pytest.mark.parametrize("seen", [0, 1, 7])
def test_a_killed_worker_is_one_error_and_the_others_end(loader: Any, seen: int) -> None:
    """Whoever is stuck and heeds no SIGTERM ends too, at once."""
    running = loader(Clips(stuck=20))
    stream = iter(running)
    for _ in range(1 + seen):
        next(stream)
    workers = running._iterator._workers

    def kill_and_go_on() -> None:
        os.kill(workers[1].pid, signal.SIGKILL)
        for _ in stream:
            pass

    found = rf"process {workers[1].pid}\) was killed, most likely memory ran out: do this"
    with pytest.raises(RunError, match=found), lost_workers_told("do this"):
        kill_and_go_on()
    running.stop()
    assert {worker.exitcode for worker in workers} == {-signal.SIGKILL}, "nobody waited for them to end by themselves"
    running.stop()


def test_one_dead_worker_is_reported_once(loader: Any) -> None:
    """A worker closes its pipes before its parent hears of its death: what comes second raises nothing."""
    running = loader(Clips(stuck=20))
    next(iter(running))
    iterator = running._iterator
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the signal comes later than the closed pipe
    try:
        os.kill(iterator._workers[1].pid, signal.SIGKILL)
        assert dead_workers(iterator, timeout=60) == [iterator._workers[1].pid]
        os.waitid(os.P_PID, iterator._workers[1].pid, os.WEXITED | os.WNOWAIT)
    finally:
        signal.signal(signal.SIGCHLD, handler)
    os.kill(os.getpid(), signal.SIGCHLD)


def test_stopping_a_loader_that_runs_is_no_fault(loader: Any) -> None:
    running = loader(Clips(stuck=20))
    next(iter(running))
    workers = running._iterator._workers
    running.stop()
    time.sleep(0.1)  # torch's handler of SIGCHLD would raise here
    assert {worker.exitcode for worker in workers} == {-signal.SIGKILL}
    batches(Clips(), 0).stop()


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("DataLoader worker (pid 5) is killed by signal: Killed. ", "memory ran out"),
        ("DataLoader worker (pid(s) 5, 6) exited unexpectedly", "memory ran out"),
        (
            "DataLoader worker (pid 5) is killed by signal: Bus error. It is possible",
            r"shared memory \(/dev/shm\) ran out",
        ),
        ("DataLoader worker (pid 5) is killed by signal: Segmentation fault. ", "signal Segmentation fault"),
    ],
)
def test_what_torch_says(said: str, cause: str) -> None:
    with pytest.raises(RunError, match=cause), lost_workers_told(""):
        raise RuntimeError(said)
    assert lost_worker(RuntimeError(said))


def test_other_errors_are_not_touched() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes"), lost_workers_told(""):
        raise RuntimeError("shapes do not fit")
    assert not lost_worker(ValueError("DataLoader worker (pid 5) is killed by signal: Killed. "))


def test_a_worker_that_dies_during_a_write_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. ")

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []
