import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsrbench.cluster import task
from vsrbench.cluster.manifest import Job, Sweep
from vsrbench.training.result import LOST_RANK


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    made = Sweep(tmp_path / "s", verb="train", requeues=2)
    made.enter(Job(0, ["seed=1"], ["seed=1"], "aa", str(tmp_path / "run")))
    made.save()
    return made


def finish(run: Path) -> None:
    run.mkdir()
    content = {"metrics": {"val/psnr_y": 31.5, "odd": {"mean": "not_applicable"}}, "steps": 9, "seconds": 1.5}
    (run / "result.json").write_text(json.dumps(content))


def judged(sweep: Sweep, code: int, said: list[str]) -> Job:
    task.record_end(sweep, sweep.plan[0], code, 1.0, said)
    return sweep.recorded(0)


def test_the_rank_that_failed_first_has_the_word(sweep: Sweep) -> None:
    lost = f"error: {LOST_RANK}, its own message says why (gloo)"
    assert judged(sweep, 2, [lost]).failure == [lost], "better than nothing"
    assert judged(sweep, 2, ["error: no data"]).failure == ["error: no data"]
    assert judged(sweep, 2, [lost]).failure == ["error: no data"]


def test_exit_code_and_result_decide(sweep: Sweep, tmp_path: Path) -> None:
    assert judged(sweep, 1, ["a", "b"]).failure == ["a", "b"]
    assert judged(sweep, 2, ["settings", "error: no data"]).failure == ["error: no data"]
    assert judged(sweep, -11, []).failure == ["exit code -11, nothing was said"]
    assert judged(sweep, -9, ["step 3/9"]).failure == ["step 3/9", "killed by signal 9: most likely memory ran out"]
    assert judged(sweep, 0, []).note == "stopped before its end", "trainer.max_time: the command ends well, no result"
    finish(tmp_path / "run")
    done = judged(sweep, 0, [])
    assert (done.state, done.result) == ("finished", {"val/psnr_y": 31.5, "steps": 9, "seconds": 1.5})


@pytest.mark.parametrize("code", [-15, 143, -2, 130])
def test_stopped_is_not_failed(sweep: Sweep, code: int) -> None:
    assert judged(sweep, code, ["bye"]).state == "pending"
    sweep.note(0, state="failed")
    assert judged(sweep, code, []).state == "failed", "another rank failed, and this one was ended for it"


def test_the_run_folder_that_was_printed_last_counts(sweep: Sweep, tmp_path: Path) -> None:
    finish(tmp_path / "other")
    assert judged(sweep, 0, ["step 9", str(tmp_path / "other")]).run == str(tmp_path / "other")


def test_results_of_an_evaluation(tmp_path: Path) -> None:
    content = {"metrics": {"psnr_y": {"mean": 24.5, "clips": {}}}, "cost": {"seconds_per_frame": 0.5, "device": "cpu"}}
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert task.read_result(str(tmp_path)) == {"psnr_y": 24.5, "seconds_per_frame": 0.5}
    assert task.read_result(str(tmp_path / "none")) is None


def test_what_goes_on_does_not_begin_anew() -> None:
    job = Job(0, [], ["seed=1", "force=true"], None, None)
    assert task.command("eval", job, restarted=False)[1:] == ["-m", "vsrbench.eval", "seed=1", "force=true"]
    assert task.command("eval", job, restarted=True)[-1] == "force=false"


# --- in a job of SLURM -----------------------------------------------------------------------------

CHILD = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
pathlib.Path(sys.argv[1]).touch()
time.sleep(30)
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process is task 2 of array 7; scontrol writes down what it is told."""
    told = tmp_path / "told"
    script = tmp_path / "bin" / "scontrol"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    for name in ("SLURM_PROCID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        task, "command", lambda *_, **__: [task.sys.executable, "-c", CHILD, str(tmp_path / "child is up")]
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield told
    for number, handler in before.items():
        signal.signal(number, handler)


def when_up(tmp_path: Path, number: int) -> None:
    """Send this process a signal as soon as its child can be stopped."""

    def send() -> None:
        while not (tmp_path / "child is up").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def test_before_the_time_limit_a_job_saves_and_is_queued_again(sweep: Sweep, slurm: Path, tmp_path: Path) -> None:
    when_up(tmp_path, signal.SIGUSR2)
    assert task.SlurmTask(sweep, sweep.plan[0]).main() == 0
    job = sweep.recorded(0)
    assert (job.state, job.note, job.slurm) == ("pending", "time limit: queued again", "7_2")
    assert slurm.read_text() == "requeue 7_2\n"


def test_other_ranks_leave_that_to_the_first(
    sweep: Sweep, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    when_up(tmp_path, signal.SIGUSR2)
    assert task.SlurmTask(sweep, sweep.plan[0]).main() == 0
    assert not slurm.exists() and sweep.recorded(0).attempts == 0
    assert sweep.log(0, 1).is_file() and not sweep.log(0).exists()


def test_not_for_ever(sweep: Sweep, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    when_up(tmp_path, signal.SIGUSR2)
    task.SlurmTask(sweep, sweep.plan[0]).main()
    assert "launcher.requeues=2 are used up" in sweep.recorded(0).failure[0] and not slurm.exists()


def test_a_rank_that_fails_says_so(sweep: Sweep, slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setattr(task, "command", lambda *_, **__: [task.sys.executable, "-c", "raise SystemExit('no GPU')"])
    assert task.SlurmTask(sweep, sweep.plan[0]).main() == 1
    assert (sweep.recorded(0).state, sweep.recorded(0).failure) == ("failed", ["no GPU"])


def test_the_task_of_an_array_takes_its_own_job(
    sweep: Sweep, slurm: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sweep.enter(Job(0, ["seed=2"], ["seed=2"], "bb", str(tmp_path / "run2")))
    sweep.save()
    seen: list[Job] = []
    monkeypatch.setattr(task.SlurmTask, "main", lambda self: seen.append(self.job) or 0)
    task.main([str(sweep.folder), "9", "8", "1"])
    assert seen[0].overrides == ["seed=2"]
