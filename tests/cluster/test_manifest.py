import json
import subprocess
import sys
from pathlib import Path

import pytest

from vsrbench.cluster import manifest
from vsrbench.cluster.manifest import Job, Sweep, labels, tail
from vsrbench.errors import RunError


def job(*overrides: str, hash: str = "aa", run: str | None = None) -> Job:
    return Job(0, list(overrides), [*overrides, "verb=train"], hash, run)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Three jobs, saved."""
    made = Sweep(tmp_path / "sweeps" / "s", verb="train", requeues=2)
    for seed in (1, 2, 3):
        made.enter(job("method=fake", f"seed={seed}"))
    made.save()
    return made


def states(sweep: Sweep) -> list[str]:
    return [j.state for j in Sweep.open(sweep.folder).jobs()]


def test_a_sweep_is_found_again_as_it_was(sweep: Sweep) -> None:
    again = Sweep.open(sweep.folder)
    assert (again.verb, again.requeues) == ("train", 2)
    assert again.plan == sweep.plan and [j.number for j in again.plan] == [0, 1, 2]
    assert states(sweep) == ["pending"] * 3


def test_the_same_job_is_found_and_a_new_one_gets_the_next_number(sweep: Sweep) -> None:
    assert sweep.enter(job("method=fake", "seed=2")).number == 1
    assert sweep.enter(job("method=fake", "seed=4")).number == 3
    assert len(sweep.plan) == 4


def test_another_configuration_behind_the_same_overrides_counts_as_not_done(sweep: Sweep) -> None:
    sweep.note(1, state="finished", result={"x": 1.0})
    sweep.enter(job("method=fake", "seed=2"))
    assert sweep.recorded(1).state == "finished"
    sweep.enter(job("method=fake", "seed=2", hash="bb"))
    assert sweep.recorded(1).state == "pending" and sweep.recorded(1).result is None


def test_a_state_that_nobody_knows_is_refused(sweep: Sweep) -> None:
    with pytest.raises(ValueError, match="no state"):
        sweep.note(0, state="lost")
    with pytest.raises(ValueError, match="no state"):
        sweep.note(0, mood="good")


def test_no_sweep_and_a_broken_one(tmp_path: Path, sweep: Sweep) -> None:
    with pytest.raises(RunError, match=r"no sweep in .*nowhere"):
        Sweep.open(tmp_path / "nowhere")
    for content in ("{", "[]", json.dumps({"schema": "vsrbench.sweep/9", "jobs": []})):
        sweep.file.write_text(content)
        with pytest.raises(RunError, match=r"manifest\.json is (damaged|no manifest that this version reads)"):
            Sweep.open(sweep.folder)


def test_running_counts_while_somebody_holds_the_sweep(sweep: Sweep) -> None:
    sweep.note(0, state="running", attempts=1)
    assert states(sweep)[0] == "pending" and sweep.jobs()[0].note == "interrupted"
    with sweep.lock():
        seen = Sweep.open(sweep.folder).jobs()
        assert seen[0].state == "running" and seen[0].active
        assert sweep.jobs()[0].state == "pending", "who holds the sweep has started nothing yet"
        assert not seen[1].active, "those that wait in this process wait no more when it is gone"


def test_one_at_a_time(sweep: Sweep) -> None:
    with sweep.lock(), pytest.raises(RunError, match="is at work already"), sweep.lock():
        pass
    with sweep.lock():
        pass


def test_a_child_that_outlives_its_launcher_still_holds_the_sweep(sweep: Sweep) -> None:
    with sweep.lock() as handle:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(handle,))
    assert sweep.busy()
    child.communicate(b"\n")
    assert not sweep.busy()


def test_a_finished_job_whose_run_folder_is_gone_is_missing(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    sweep.note(2, state="finished", run=str(folder), result={"x": 1.0})
    assert states(sweep)[2] == "finished"
    folder.rmdir()
    assert states(sweep)[2] == "pending"


def test_what_the_queue_says_decides_about_jobs_of_slurm(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        sweep.plan[number].slurm = f"7_{number}"
    sweep.save()
    sweep.note(0, state="running", slurm="7_0")
    sweep.note(1, state="running", slurm="7_1")
    monkeypatch.setattr(manifest, "queue", lambda: {"7_0": "RUNNING"})
    alive, lost, cancelled = sweep.jobs()
    assert (alive.state, alive.active) == ("running", True)
    assert (lost.state, lost.active) == ("failed", False) and "out of memory" in lost.failure[0]
    assert (cancelled.state, cancelled.active, cancelled.note) == ("pending", False, "left the queue before it ended")

    (sweep.folder / "slurm").mkdir()
    (sweep.folder / "slurm" / "7_1_0_log.err").write_text("slurmstepd: error: Detected 1 oom-kill event\n")
    assert sweep.jobs()[1].failure == ["slurmstepd: error: Detected 1 oom-kill event"]
    monkeypatch.setattr(manifest, "queue", lambda: None)
    assert [j.active for j in sweep.jobs()] == [True] * 3, "without squeue nothing is submitted twice"


def test_a_job_that_ends_while_slurm_answers_has_finished(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep.note(0, state="running", slurm="7_0")
    sweep.note(1, state="pending", slurm="7_1", note="time limit: queued again")

    def queue() -> dict[str, str]:
        sweep.note(0, state="finished")
        return {}

    monkeypatch.setattr(manifest, "queue", queue)
    ended, lost, _ = sweep.jobs()
    assert (ended.state, ended.failure) == ("finished", [])
    assert lost.note == "time limit: queued again, left the queue before it ended"


def test_slurm_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RunError, match="SLURM does not answer: Unable to contact"):
        manifest.queue()
    squeue.write_text("#!/bin/sh\nprintf '12_3 RUNNING None\\n14 PENDING Resources\\n'\n")
    assert manifest.queue() == {"12_3": "RUNNING", "14": "PENDING Resources"}


def test_labels_tell_jobs_apart() -> None:
    assert labels([job("a=1", "seed=1"), job("a=1", "seed=2")]) == ["seed=1", "seed=2"]
    assert labels([job("a=1", "seed=1")]) == ["a=1 seed=1"]


def test_last_lines_begin_where_the_attempt_began(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n" + "".join(f"line {n}\n\n" for n in range(30)))
    assert tail(log)[-1] == "line 29" and len(tail(log)) == manifest.TAIL
    assert tail(log, log.stat().st_size - 9) == ["line 29"]
