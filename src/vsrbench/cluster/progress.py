"""How far a sweep is: its jobs, its failures with their last words, its results so far."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vsrbench.cluster.manifest import STATES, Job, Sweep, labels, tail
from vsrbench.progress import display

COLOURS = {"pending": "yellow", "running": "cyan", "finished": "green", "failed": "red"}
ASIDE = ("seconds", "parameters")  # numbers without a column of their own
POLL = 2.0  # seconds between two looks at the manifest, at first: each asks SLURM's controller once
SLOWEST = 60.0  # later


def show(sweep: Sweep, console: Console | None = None) -> None:
    """Print states, the table of results so far, and each failure with its last lines."""
    console = console or Console(file=sys.stdout)
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(file=console.file, width=200)
    jobs = sweep.jobs()
    totals = Counter(job.state for job in jobs)
    states = ", ".join(f"{totals[state]} {state}" for state in STATES if totals[state])
    console.print(f"sweep {sweep.folder.name}: {len(jobs)} jobs, {states}", highlight=False)
    console.print(table(sweep, jobs))
    for job, name in zip(jobs, labels(jobs), strict=True):
        if job.state == "failed":
            console.print(f"[red]failed[/]: job {job.number}, {escape(name)}", highlight=False)
            for line in job.failure:
                console.print(f"  {escape(line)}", highlight=False)
            if sweep.log(job.number).is_file():  # not of a job that never started, or of one that shares its process
                console.print(f"  all of it: {sweep.log(job.number)}", highlight=False, soft_wrap=True)


def table(sweep: Sweep, jobs: Sequence[Job]) -> Table:
    """A row per job; a column per number that finished jobs have."""
    names = list(dict.fromkeys(name for job in jobs for name in job.result or {} if name not in ASIDE))
    shown = Table("job", "", "state", *names, "seconds", "configuration, where it is now", box=None)
    for job, label in zip(jobs, labels(jobs), strict=True):
        numbers = [digits((job.result or {}).get(name)) for name in names]
        state = f"[{COLOURS[job.state]}]{job.state}[/]"
        where = " ".join(part for part in (job.hash or "", escape(doing(sweep, job))) if part)
        shown.add_row(str(job.number), escape(label), state, *numbers, digits(job.seconds), where)
    return shown


def doing(sweep: Sweep, job: Job) -> str:
    """What a job that has not ended is at: its last line, its place in the queue, why it stopped."""
    if job.state == "running" and sweep.log(job.number).is_file():
        return " ".join(tail(sweep.log(job.number))[-1:])
    if job.state == "pending":
        queued = f"queued ({job.slurm})" if job.active else ""
        return ", ".join(part for part in (job.note, queued) if part)
    return ""


def digits(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4g}"


class Jobs:
    """A bar over jobs with the time that is left, and a line for each that ended."""

    def __init__(self, total: int) -> None:
        self.bar = display()
        self.task = self.bar.add_task("jobs", total=total)

    def __enter__(self) -> "Jobs":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def ended(self, job: Job, name: str) -> None:
        state = f"[{COLOURS[job.state]}]{job.state}[/]"
        self.bar.console.print(f"{escape(name)}: {state} {digits(job.seconds)} s", highlight=False, soft_wrap=True)
        self.bar.advance(self.task)


def wait(sweep: Sweep, numbers: set[int]) -> None:
    """Stay until these jobs have ended, one way or another."""
    with Jobs(len(numbers)) as bar:
        running, began, names = set(numbers), time.monotonic(), labels(sweep.plan) if numbers else []
        while running:
            jobs = sweep.jobs()
            for number in sorted(running):
                if not jobs[number].active:
                    bar.ended(jobs[number], names[number])
                    running.discard(number)
            if running:
                time.sleep(max(POLL, min((time.monotonic() - began) / 50, SLOWEST)))
