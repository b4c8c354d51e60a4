"""What a sweep consists of and how far each job is: plain files in the sweep's folder.

``manifest.json`` is the plan, written by whoever launches; ``jobs/<number>.json`` is the state of one job, written by
the job itself. So a thousand jobs on as many machines never write the same file.
"""

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsrbench.errors import RunError
from vsrbench.runs import write_atomic
from vsrbench.stored import read_json, read_json_or

SCHEMA = "vsrbench.sweep/1"
STATES = ("pending", "running", "finished", "failed")
PLAN = ("number", "overrides", "arguments", "hash", "run", "slurm")  # what manifest.json holds of a job
STATE = ("state", "note", "attempts", "run", "slurm", "host", "started", "seconds", "result", "failure")
TAIL = 12  # lines of a failure that are kept
HINT = "HYDRA_FULL_ERROR"  # a line of Hydra's below every error


@dataclass
class Job:
    """One job. overrides: what the user asked for; arguments: all that the command is called with.

    hash: of the configuration (``runs.digest``), None where it cannot be composed. run: its run folder. slurm: its
    id in the queue (``12_3`` in an array). active: something works on it, or will without being asked again.
    """

    number: int
    overrides: list[str]
    arguments: list[str]
    hash: str | None
    run: str | None
    slurm: str | None = None
    state: str = "pending"
    note: str = ""
    attempts: int = 0
    host: str | None = None
    started: float | None = None
    seconds: float | None = None
    result: dict[str, float] | None = None
    failure: list[str] = field(default_factory=list)
    active: bool = False


class Sweep:
    """The folder of a sweep, ``<runs>/sweeps/<name>``."""

    def __init__(self, folder: Path, verb: str = "", requeues: int = 0) -> None:
        self.folder, self.verb, self.requeues = folder, verb, requeues
        self.plan: list[Job] = []
        self.held = False  # by this object: then no job can be running that it has not started
        if self.file.is_file():
            self._read()
        self.verb, self.requeues = verb or self.verb, requeues or self.requeues

    @classmethod
    def open(cls, folder: Path) -> "Sweep":
        """A sweep that exists. Raises RunError where there is none."""
        if not (folder / "manifest.json").is_file():
            raise RunError(f"no sweep in {folder}: there is no manifest.json (sweeps lie in RUNS/sweeps)")
        return cls(folder)

    @property
    def file(self) -> Path:
        return self.folder / "manifest.json"

    def log(self, number: int, rank: int = 0) -> Path:
        """Output of a job; ranks other than the first have a file of their own."""
        return self.folder / "logs" / (f"{number}.log" if rank == 0 else f"{number}.rank{rank}.log")

    def _read(self) -> None:
        content = read_json(self.file, "move the folder away")
        try:
            if content["schema"] != SCHEMA:
                raise KeyError("schema")
            self.verb, self.requeues = content["verb"], content["requeues"]
            self.plan = [Job(**job) for job in content["jobs"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.file} is no manifest that this version reads: move the folder away") from error

    def save(self) -> None:
        """Write the plan."""
        jobs = [{key: getattr(job, key) for key in PLAN} for job in self.plan]
        content = {"schema": SCHEMA, "name": self.folder.name, "verb": self.verb, "requeues": self.requeues}
        write_atomic(self.file, (json.dumps(content | {"jobs": jobs}, indent=1) + "\n").encode())

    def enter(self, job: Job) -> Job:
        """Put a job into the plan; one with the same overrides is found again.

        Where the configuration behind the overrides has changed, what was known of its state no longer counts.
        """
        for known in self.plan:
            if known.overrides == job.overrides:
                if known.hash != job.hash:
                    self.forget(known)
                known.arguments, known.hash, known.run = job.arguments, job.hash, job.run
                return known
        job.number = len(self.plan)
        self.plan.append(job)
        return job

    def forget(self, job: Job) -> None:
        """The job is to be done, whatever became of it before."""
        self._state(job.number).unlink(missing_ok=True)
        job.slurm = None

    def _state(self, number: int) -> Path:
        return self.folder / "jobs" / f"{number}.json"

    def note(self, number: int, **changes: Any) -> None:
        """Change what is known about a job's state; only who works on the job calls this."""
        path = self._state(number)
        before = self._stored(number)
        unknown = set(changes) - set(STATE)
        if unknown or changes.get("state", "pending") not in STATES:
            raise ValueError(f"no state of a job: {changes}")
        write_atomic(path, (json.dumps(before | changes, indent=1) + "\n").encode())

    def _stored(self, number: int) -> dict[str, Any]:
        path, remedy = self._state(number), "delete it, and the job counts as not started"
        state = read_json_or(path, {}, remedy)
        if unknown := state.keys() - set(STATE):
            raise RunError(f"{path} is damaged (it has {min(unknown)}): {remedy}")
        return state

    def recorded(self, number: int) -> Job:
        """The job as its files say."""
        job, state = self.plan[number], self._stored(number)
        return Job(**{key: getattr(job, key) for key in PLAN} | state)

    def _recorded(self) -> list[Job]:
        return [self.recorded(job.number) for job in self.plan]

    def jobs(self) -> list[Job]:
        """All jobs as they are now.

        Running according to its file although nothing runs it: failed where SLURM lost it, else pending again. So is
        a finished one whose run folder is gone.
        """
        unfinished = [j for j in self._recorded() if j.state in ("pending", "running")]
        queued = queue() if any(j.slurm for j in unfinished) else None
        busy = self.busy() if any(not j.slurm for j in unfinished) else False
        jobs = self._recorded()  # only now: who has left the queue has noted its end before
        for job in jobs:
            if job.state in ("pending", "running"):
                self._settle(job, (queued is None or job.slurm in queued) if job.slurm else busy)
                if job.slurm and queued and job.state == "pending" and job.active:
                    job.note = ", ".join(part for part in (job.note, queued[job.slurm]) if part)
            elif job.state == "finished" and job.run and not Path(job.run).is_dir():
                job.state, job.note, job.result = "pending", "its run folder is gone", None
        return jobs

    def _settle(self, job: Job, alive: bool) -> None:
        job.active = alive and (job.state == "running" or job.slurm is not None)
        if alive or (job.state == "pending" and not job.slurm):
            return
        if not job.slurm:
            job.state, job.note = "pending", "interrupted"
        elif job.state == "running":
            job.state, job.failure = "failed", self._slurm_lines(job.slurm)
        else:
            job.note = ", ".join(part for part in (job.note, "left the queue before it ended") if part)

    def _slurm_lines(self, slurm: str) -> list[str]:
        said = [line for log in (self.folder / "slurm").glob(f"{slurm}_*_log.*") for line in tail(log)]
        return said or [f"job {slurm} left the queue without a word: out of memory, or its node failed"]

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the sweep while its jobs run here; gives a file descriptor that keeps it held in child processes.

        Raises RunError where somebody else holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for _ in range(20):
                if _locked(handle, fcntl.LOCK_EX):
                    break
                time.sleep(0.05)  # somebody may only be looking (``busy``)
            else:
                raise RunError(f"{self.folder} is at work already: vsrbench report sweep={self.folder} shows how far")
            self.held = True
            yield handle
        finally:
            self.held = False
            os.close(handle)  # no unlocking: a child that outlives this process still holds it

    def busy(self) -> bool:
        """Whether somebody else holds the lock, a process of this machine or one on the same file system."""
        if self.held or not (self.folder / "lock").is_file():
            return False
        handle = os.open(self.folder / "lock", os.O_RDWR)
        try:
            return not _locked(handle, fcntl.LOCK_SH)
        finally:
            os.close(handle)


def _locked(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def queue() -> dict[str, str] | None:
    """Ids of this user's SLURM jobs, array tasks as ``12_3``, with what SLURM says of them; None without squeue.

    Raises RunError where SLURM does not answer: whether jobs are still queued must not be guessed.
    """
    if shutil.which("squeue") is None:
        return None
    ask = ["squeue", "--me", "-h", "-r", "-o", "%i %T %r"]  # id, state, reason
    answer = subprocess.run(ask, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RunError(f"SLURM does not answer: {answer.stderr.strip()}; try again")
    return {line.split()[0]: " ".join(line.split()[1:]).removesuffix(" None") for line in answer.stdout.splitlines()}


def tail(log: Path, start: int = 0) -> list[str]:
    """The last lines of a log that say something, from byte ``start`` on."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").splitlines()
    return [line.rstrip()[:300] for line in lines if line.strip() and HINT not in line][-TAIL:]


def labels(jobs: Sequence[Job]) -> list[str]:
    """What tells the jobs apart: their overrides without those that all share."""
    shared = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs)) if len(jobs) > 1 else set()
    return [" ".join(o for o in job.overrides if o not in shared) or " ".join(job.overrides) for job in jobs]
