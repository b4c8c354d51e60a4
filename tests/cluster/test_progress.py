import io
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from vsrbench import report
from vsrbench.cluster import manifest, progress
from vsrbench.cluster.manifest import Job, Sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Four jobs: finished, failed, running, waiting in SLURM's queue."""
    made = Sweep(tmp_path / "s", verb="train")
    for number in range(4):
        made.enter(Job(0, ["method=fake", f"seed={number}"], [], f"hash{number}", str(tmp_path)))
    made.plan[3].slurm = "7_3"
    made.save()
    made.note(0, state="finished", result={"val/psnr_y": 31.25, "steps": 6}, seconds=12.0)
    made.note(1, state="failed", failure=["before it", "ValueError: [odd] shapes"], seconds=1.0)
    made.note(2, state="running", attempts=1)
    made.log(2).parent.mkdir()
    made.log(2).write_text("step 3/6  loss 0.1\n")
    made.log(1).write_text("before it\n")
    return made


def shown(sweep: Sweep) -> str:
    out = io.StringIO()
    progress.show(sweep, Console(file=out))
    return out.getvalue()


def test_progress_failures_and_results(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "queue", lambda: {"7_3": "PENDING Resources"})
    with sweep.lock():
        told = shown(Sweep.open(sweep.folder))
    lines = told.splitlines()
    assert lines[0] == "sweep s: 4 jobs, 1 pending, 1 running, 1 finished, 1 failed"
    rows = {line.split()[0]: line for line in lines[2:6]}
    assert "31.25" in rows["0"] and "hash0" in rows["0"] and "seed=0" in rows["0"]
    assert "method=fake" not in told, "what all jobs share tells nothing"
    assert "step 3/6  loss 0.1" in rows["2"] and "PENDING Resources, queued (7_3)" in rows["3"]
    assert "failed: job 1, seed=1" in told and "  ValueError: [odd] shapes" in told and str(sweep.log(1)) in told


def test_the_command(sweep: Sweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "queue", lambda: {})
    report.main([f"sweep={sweep.folder}"])
    assert "4 jobs" in capsys.readouterr().out


def test_a_folder_without_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        report.main([f"sweep={tmp_path}"])
    assert ended.value.code == 2 and "there is no manifest.json" in capsys.readouterr().err


def test_waiting_ends_when_the_last_job_does(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    queued = {"7_3": "RUNNING"}
    monkeypatch.setattr(manifest, "queue", lambda: dict(queued))
    monkeypatch.setattr(progress, "POLL", 0.02)
    waiter = threading.Thread(target=progress.wait, args=(sweep, {0, 3}))
    waiter.start()
    time.sleep(0.1)
    assert waiter.is_alive()
    sweep.note(3, state="finished")
    queued.clear()
    waiter.join(60)
    assert not waiter.is_alive()
