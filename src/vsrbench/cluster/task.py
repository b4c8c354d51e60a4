"""One job of a sweep as a child process: what it is called with, what became of it, going on after a time limit.

``python -m vsrbench.cluster.task SWEEP NUMBER...`` is what a SLURM script starts in every task of an array.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from vsrbench.cluster.manifest import Job, Sweep, tail
from vsrbench.stored import read_json
from vsrbench.training.result import LOST_RANK

RESULTS = ("train", "eval", "compare")  # verbs whose run folder holds a result.json once they are done
FOLDERS = (*RESULTS, "analyse")  # verbs that have a run folder
INTERRUPTED = "interrupted"  # note of a job that a signal stopped
STOPPED = (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)  # exit codes


def command(verb: str, job: Job, restarted: bool) -> list[str]:
    """The command line of a job; one that goes on after an interruption must not begin anew."""
    return [sys.executable, "-m", f"vsrbench.{verb}", *job.arguments, *(["force=false"] if restarted else [])]


def run(
    sweep: Sweep,
    job: Job,
    started: Callable[[subprocess.Popen[bytes]], None],
    slurm: str | None = None,
    rank: int = 0,
    **options: Any,
) -> int:
    """Run a job to its end and note what became of it; returns the exit code.

    started: is given the process. slurm: the job's id there. rank: of this process in a distributed job; the first
    one keeps the job's state, others only speak up when they fail. options: for ``subprocess.Popen``.
    """
    before = sweep.recorded(job.number)
    log = sweep.log(job.number, rank)
    log.parent.mkdir(parents=True, exist_ok=True)
    clock = time.monotonic()  # the time of day may be set while a job runs
    if rank == 0:
        here: dict[str, Any] = {"host": socket.gethostname(), "started": time.time(), "slurm": slurm}
        sweep.note(job.number, state="running", note="", attempts=before.attempts + 1, failure=[], **here)
    with log.open("ab") as out:
        begin = out.tell()
        line = command(sweep.verb, job, restarted=before.attempts > 0)
        process = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)
        started(process)
        code = process.wait()
    seconds = round((before.seconds or 0.0) + time.monotonic() - clock, 1)
    if rank == 0 or code not in (0, *STOPPED):
        record_end(sweep, job, code, seconds, tail(log, begin))
    return code


def record_end(sweep: Sweep, job: Job, code: int, seconds: float, said: list[str]) -> None:
    """Note the state of a job that ended with this exit code. said: its last lines."""
    last_line = said[-1] if said and code == 0 else ""  # every verb prints its run folder last
    run = last_line if Path(last_line).is_absolute() and Path(last_line).is_dir() else job.run
    result = read_result(run)
    if code in STOPPED:
        if sweep.recorded(job.number).state != "failed":  # another rank did, and SLURM ended this one
            sweep.note(job.number, state="pending", note=INTERRUPTED, seconds=seconds)
    elif code != 0:
        if any(LOST_RANK in line for line in said) and sweep.recorded(job.number).state == "failed":
            return  # the rank that failed first has said why
        first = next((n for n, line in enumerate(said) if line.startswith("error: ")), 0)  # a user's error is one line
        failure = said[first:] or [f"exit code {code}, nothing was said"]
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            failure = [*failure, "killed by signal 9: most likely memory ran out"]
        sweep.note(job.number, state="failed", seconds=seconds, failure=failure)
    elif result is None and sweep.verb in RESULTS and "debug=fdr" not in job.overrides:
        sweep.note(job.number, state="pending", note="stopped before its end", seconds=seconds)
    else:
        sweep.note(job.number, state="finished", note="", seconds=seconds, run=run, result=result, failure=[])


def read_result(run: str | None) -> dict[str, float] | None:
    """Numbers of a run folder's result.json by name; None where there is no result."""
    path = Path(run or ".") / "result.json"
    if run is None or not path.is_file():
        return None
    content = read_json(path, "delete it, and the same command makes it again")
    values = {k: v["mean"] if isinstance(v, dict) else v for k, v in content.get("metrics", {}).items()}
    values |= {k: content[k] for k in ("steps", "seconds") if k in content}
    values |= {k: v for k, v in content.get("cost", {}).items() if k in ("seconds_per_frame", "parameters")}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def slurm_id() -> str | None:
    """This process's job as ``squeue`` names it, None outside SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")


class SlurmTask:
    """One task of a SLURM job.

    SLURM sends USR2 before the time limit, to every process of the job. The training itself ignores it and gets
    SIGTERM from here, once: it finishes its step, writes last.ckpt and ends; then the job is queued again under its
    id. SIGTERM (scancel, preemption) reaches the training directly; SLURM itself queues preempted jobs again.
    """

    def __init__(self, sweep: Sweep, job: Job) -> None:
        self.sweep, self.job = sweep, job
        self.rank = int(os.environ.get("SLURM_PROCID", 0))
        self.restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        self.asked = False
        self.process: subprocess.Popen[bytes] | None = None

    def main(self) -> int:
        """Returns the exit code of the task."""
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # what is started now inherits this
        signal.signal(signal.SIGTERM, lambda *_: None)
        code = run(self.sweep, self.job, self._started, slurm_id(), self.rank)
        if not self.asked or code not in STOPPED:
            return code if code >= 0 else 128 - code
        if self.rank == 0:
            self._again()
        return 0  # another code would make srun end the ranks that are still saving

    def _started(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        signal.signal(signal.SIGUSR2, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.asked and self.process is not None:
            self.asked = True
            self.process.terminate()

    def _again(self) -> None:
        if self.restarts >= self.sweep.requeues:
            limit = f"time limit reached, and launcher.requeues={self.sweep.requeues} are used up"
            self.sweep.note(self.job.number, state="failed", failure=[limit])
            return
        self.sweep.note(self.job.number, state="pending", note="time limit: queued again")
        subprocess.run(["scontrol", "requeue", str(slurm_id())], check=True)


def main(arguments: list[str]) -> int:
    """arguments: the sweep's folder, then job numbers; the task of an array takes its own of them."""
    sweep = Sweep.open(Path(arguments[0]))
    number = int(arguments[1 + int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))])
    return SlurmTask(sweep, sweep.plan[number]).main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
