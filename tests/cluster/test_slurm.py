"""A real SLURM of one node: a sweep in which a job fails and another is queued again, and DDP over two tasks."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_one_node import OneNode, eventually, missing
from vsrbench.cluster.manifest import Sweep

pytestmark = pytest.mark.slurm
TESTS = Path(__file__).resolve().parents[1]
FAKE = [f"hydra.searchpath=[file://{TESTS / 'training_conf'}]", "method=fake", "data=fake", "size=tiny"]
RATES = ["0.001", "0.002", "0.003", "0.004", "1e30", "0.006"]
FAILS, AGAIN = 4, 5  # numbers of the job with the impossible learning rate and of the one that is interrupted
STEPS = 200
SWEEP = ["-m", f"optimiser.lr={','.join(RATES)}", f"trainer.max_steps={STEPS}", "validation.every=0"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    if reason := missing():
        pytest.skip(reason)
    node = OneNode(tmp_path_factory.mktemp("slurm") / "cluster", cpus=max(3, os.cpu_count() or 1))
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture(autouse=True)
def here(cluster: OneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, which looks at manifests, is on the cluster too."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, cluster.environment[name])


def command(cluster: OneNode, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**cluster.environment, "PYTHONPATH": str(TESTS)}  # the jobs build a method of the tests
    line = [sys.executable, "-m", f"vsrbench.{verb}", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def trained(run: str | None) -> list[int]:
    """The optimiser steps that a run has logged, in order."""
    file = Path(str(run), "metrics.csv")
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return [int(row["step"]) for row in csv.DictReader(lines) if row.get("train/loss")]


def soon(cluster: OneNode, job: str) -> None:
    """SLURM keeps a job that was queued again for two minutes; here three seconds.

    Not less: slurmd refuses to launch a job within the second in which it has killed it ("already killed").
    """
    assert eventually(lambda: "JobState=PENDING" in cluster.run("scontrol", "-o", "show", "job", job), 60)
    cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now+3")


def test_a_sweep_with_a_failing_and_an_interrupted_job(cluster: OneNode, tmp_path: Path) -> None:
    began = time.monotonic()
    arguments = [*FAKE, *SWEEP, f"runs={tmp_path}", "launcher=slurm"]
    submitted = command(cluster, "train", *arguments)
    assert submitted.returncode == 0, submitted.stderr
    sweep = Sweep.open(Path(submitted.stdout.splitlines()[-1]))
    assert len({job.slurm for job in sweep.plan}) == 6 and all("_" in str(job.slurm) for job in sweep.plan)

    again = command(cluster, "train", *arguments)
    assert again.stderr.count("already") == 6, "nothing is submitted twice"

    target = sweep.plan[AGAIN]
    assert eventually(lambda: len(trained(target.run)) > 20, 240), sweep.jobs()
    cluster.run("scancel", "--signal=USR2", str(target.slurm))  # what SLURM sends before the time limit
    soon(cluster, str(target.slurm))
    assert eventually(lambda: not any(job.active for job in sweep.jobs()), 240), sweep.jobs()

    jobs = sweep.jobs()
    assert [job.state for job in jobs] == ["finished"] * 4 + ["failed", "finished"], (jobs, cluster.log("slurmctld"))
    assert [job.attempts for job in jobs] == [1, 1, 1, 1, 1, 2]
    assert "not finite" in " ".join(jobs[FAILS].failure) or "is inf" in " ".join(jobs[FAILS].failure)
    assert {json.loads(Path(str(j.run), "result.json").read_text())["steps"] for j in jobs if j.result} == {STEPS}
    resumed = re.search(rf"resuming at step (\d+) of {STEPS}", sweep.log(AGAIN).read_text())
    assert resumed is not None and 20 <= int(resumed[1]) < STEPS
    assert trained(target.run) == list(range(1, STEPS + 1)), "every step once"

    dry = command(cluster, "train", *arguments[:-1], "launcher=slurm_dry")
    assert dry.stdout.rstrip().endswith(f"{sweep.folder} {FAILS}"), "the same sweep again runs only what failed"
    report = command(cluster, "report", f"sweep={sweep.folder}")
    assert "6 jobs, 5 finished, 1 failed" in report.stdout
    print(f"\nsweep of six on SLURM: {time.monotonic() - began:.0f} s")
    print(f"job {AGAIN} ({target.slurm}) got the signal, was queued again, and said: {resumed[0]}")
    print(report.stdout)


def test_ddp_over_two_tasks(cluster: OneNode, tmp_path: Path) -> None:
    began = time.monotonic()
    settings = [*FAKE, "train.batch=1", "train.effective_batch=2", f"runs={tmp_path}"]
    done = command(cluster, "train", *settings, "launcher=slurm", "launcher.tasks=2", "launcher.wait=true")
    sweep = Sweep.open(tmp_path / "sweeps" / next((tmp_path / "sweeps").iterdir()).name)
    [job] = sweep.jobs()
    assert job.state == "finished", job.failure or done.stderr
    log = sweep.log(0).read_text()
    assert "effective batch 2 = 1 x 2 device(s) x 1 accumulated" in log
    assert len(trained(job.run)) == 6 and len([p for p in tmp_path.iterdir() if p.name != "sweeps"]) == 1
    print(f"\nDDP over two tasks on SLURM: {time.monotonic() - began:.0f} s, job {job.slurm}, {job.result}")


def test_sbatch_refusal_is_one_line(cluster: OneNode, tmp_path: Path) -> None:
    told = command(cluster, "train", *FAKE, f"runs={tmp_path}", "launcher=slurm", "launcher.partition=nowhere")
    assert told.returncode == 2
    assert "error: sbatch refuses" in told.stderr and "Invalid partition" in told.stderr
