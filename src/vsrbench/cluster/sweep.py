"""Running the jobs of a sweep: which of them are missing, where they run, and what comes of it."""

import json
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench import config
from vsrbench.cluster import progress, task
from vsrbench.cluster.manifest import Job, Sweep, labels
from vsrbench.cluster.task import INTERRUPTED
from vsrbench.errors import ConfigError, RunError, VsrbenchError
from vsrbench.runs import digest, run_folder
from vsrbench.stored import inside

if TYPE_CHECKING:
    from omegaconf import DictConfig

Composed = tuple[list[str], "DictConfig"]
OWN = ("launcher", "hydra", "sweep=", "verb=", "runs=", "force=")  # of the sweep, not what a job is about


def launch(
    composed: Sequence[Composed], search_paths: list[str], run: Callable[["DictConfig"], Any], waits: bool
) -> list[float | tuple[float, ...] | None]:
    """Run what is missing or failed; one objective per job, None for a job without one.

    composed: overrides and configuration of each job. kept: Hydra's own overrides that jobs need too. run: does a
    job in this process (launcher=basic). waits: the sweeper needs the results (Optuna), whatever the launcher.
    Raises ConfigError and RunError before the first job starts; SystemExit (1) where jobs failed and nobody waits.
    """
    with config.one_line():
        first = composed[0][1]
        launcher = first.launcher
        if waits and launcher.get("dry"):
            raise ConfigError("sweeper=optuna suggests by results, and launcher=slurm_dry has none: use launcher=slurm")
        if not inside(str(first.sweep)):
            raise ConfigError(f"sweep={first.sweep}: the name of a folder below {first.runs}/sweeps")
        sweep = Sweep(
            Path(first.runs).expanduser().resolve() / "sweeps" / str(first.sweep),
            verb=first.verb,
            requeues=launcher.get("requeues", 0),
        )
        with sweep.lock() as handle:
            jobs, failures = enter(sweep, composed, search_paths)
            refuse_shared_folders(jobs)
            if launcher.kind == "basic":
                for _, cfg in composed:
                    config.refuse_shared_process(cfg)
            pending = missing(sweep, jobs, failures, bool(first.force), bool(launcher.get("dry")))
            configurations = {job.number: cfg for job, (_, cfg) in zip(jobs, composed, strict=True)}
            start = {"local": local, "basic": basic, "slurm": slurm}[launcher.kind]
            start(Work(sweep, pending, configurations, handle, run, waits or bool(launcher.get("wait"))))
    if launcher.get("dry"):
        return [None] * len(jobs)
    now = {job.number: job for job in sweep.jobs()}
    final = [now[job.number] for job in jobs]
    if not waits:
        progress.show(sweep)
        if sweep.verb == "eval" or (sweep.verb == "compare" and any(job.active for job in final)):
            print(f"as a page: vsrbench report sweep={sweep.folder}")
        print(sweep.folder)
        if any(job.state == "failed" for job in final):
            raise SystemExit(1)
        if launcher.kind == "local" and any(job.note == INTERRUPTED for job in final):
            print("jobs were interrupted: the same command goes on with them", file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM)
    return [objective(cfg, job) for job, (_, cfg) in zip(final, composed, strict=True)]


class Work:
    """What a launcher is given. handle: keeps the sweep locked; configurations: by job number."""

    def __init__(
        self,
        sweep: Sweep,
        jobs: list[Job],
        configurations: dict[int, "DictConfig"],
        handle: int,
        run: Callable[["DictConfig"], Any],
        waits: bool,
    ) -> None:
        self.sweep, self.jobs, self.configurations = sweep, jobs, configurations
        self.handle, self.run, self.waits = handle, run, waits

    @property
    def launcher(self) -> "DictConfig":
        return next(iter(self.configurations.values())).launcher


def enter(sweep: Sweep, composed: Sequence[Composed], search_paths: list[str]) -> tuple[list[Job], dict[int, str]]:
    """Put the jobs into the plan, not yet saved. Returns them, and why some cannot be run at all, by number."""
    from omegaconf import OmegaConf

    jobs, failures = [], {}
    for overrides, cfg in composed:
        what, error = [o for o in overrides if not o.startswith(OWN)], None
        arguments = [o for o in overrides if not o.startswith(("launcher", "hydra"))] + search_paths
        try:
            config.check(cfg)
            settings: Any = OmegaConf.to_container(cfg, resolve=True)
            run = str(run_folder(cfg, cfg.verb)) if cfg.verb in task.FOLDERS else None
            job = Job(0, what, arguments, digest(settings), run)
        except VsrbenchError as reason:
            job, error = Job(0, what, arguments, None, None), str(reason)
        job = sweep.enter(job)
        jobs.append(job)
        if error:
            failures[job.number] = error
    return jobs, failures


def refuse_shared_folders(jobs: Sequence[Job]) -> None:
    """Raise RunError where two jobs would write into one run folder."""
    owners: dict[str, Job] = {}
    for job in jobs:
        if job.run and job is not owners.setdefault(job.run, job):
            one, other = labels([owners[job.run], job])
            raise RunError(
                f"two jobs of the sweep share the run folder {job.run} ({one!r} and {other!r}): leave name= out of a "
                "sweep, and sweep over settings that change the outcome"
            )


def missing(sweep: Sweep, jobs: Sequence[Job], failures: dict[int, str], force: bool, dry: bool) -> list[Job]:
    """Jobs that are neither finished nor under way; unless ``dry`` what is known of them is forgotten."""
    now = {job.number: job for job in sweep.jobs()}
    pending = []
    for job in {job.number: job for job in jobs}.values():  # Optuna may suggest the same twice
        known = now[job.number]
        if known.active:
            print(f"job {job.number} is {known.state} already (SLURM {known.slurm})", file=sys.stderr)
        elif known.state != "finished" or force:
            pending.append(job)
            if not dry:
                sweep.forget(job)
    for job in pending:
        if job.number in failures:
            sweep.note(job.number, state="failed", failure=[failures[job.number]])
    sweep.save()
    return [job for job in pending if job.number not in failures]


def local(work: Work) -> None:
    """A process per job, ``launcher.parallel`` at a time.

    Ctrl-C and SIGTERM let the jobs that run save and end; the same sweep goes on with them afterwards.
    """
    sweep, running, stop = work.sweep, list[subprocess.Popen[bytes]](), threading.Event()
    guard = threading.Lock()

    def started(process: subprocess.Popen[bytes]) -> None:
        with guard:
            running.append(process)
            if stop.is_set():
                process.terminate()

    def one(job: Job) -> Job:
        if not stop.is_set():
            # A session of its own: Ctrl-C reaches the job once, from here, and not from the terminal as well.
            task.run(sweep, job, started, start_new_session=True, pass_fds=(work.handle,))
        return sweep.recorded(job.number)

    def end(*_: Any) -> None:
        with guard:
            stop.set()
            for process in running:
                if process.poll() is None:
                    process.terminate()

    with _handled(end), progress.Jobs(len(work.jobs)) as bar, ThreadPoolExecutor(work.launcher.parallel) as pool:
        names = dict(zip((j.number for j in work.jobs), labels(work.jobs), strict=True)) if work.jobs else {}
        for future in as_completed([pool.submit(one, job) for job in work.jobs]):
            bar.ended(future.result(), names[future.result().number])
    if stop.is_set():
        print(f"stopped; the same command goes on (vsrbench report sweep={sweep.folder})", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def _handled(handler: Callable[..., None]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def basic(work: Work) -> None:
    """One after the other in this process; what goes wrong in one is noted and the next begins."""
    for number, (job, name) in enumerate(zip(work.jobs, labels(work.jobs) if work.jobs else [], strict=True), 1):
        print(f"{number}/{len(work.jobs)} {name}", flush=True)
        clock, said, code = time.monotonic(), [], 0
        work.sweep.note(job.number, state="running", attempts=1, started=time.time(), failure=[])
        try:
            work.run(work.configurations[job.number])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            said = [str(ended.__cause__ or ended)]
        except Exception as error:  # whatever one job does, the others get their turn
            traceback.print_exc()
            code, said = 1, [f"{type(error).__name__}: {error}"]
        task.record_end(work.sweep, job, code, round(time.monotonic() - clock, 1), said)
        if code in task.STOPPED:
            raise SystemExit(code)


def slurm(work: Work) -> None:
    """Submit, or print what would be submitted; wait for the end where somebody needs the results."""
    from vsrbench.cluster import slurm as cluster

    cluster.submit(work.sweep, work.jobs, work.configurations)
    if not work.launcher.dry and work.waits:
        progress.wait(work.sweep, {job.number for job in work.jobs})


def objective(cfg: "DictConfig", job: Job) -> float | tuple[float, ...] | None:
    """What ``optimise.metrics`` came to; None where the job has no such values."""
    if job.state != "finished" or job.result is None or "optimise" not in cfg:
        return None
    values = [job.result.get(name, job.result.get(name.removeprefix("val/"))) for name in cfg.optimise.metrics]
    if None in values:
        known = ", ".join(sorted(job.result)) or "no numbers"
        print(f"no {json.dumps(list(cfg.optimise.metrics))} in {job.run}: it has {known}", file=sys.stderr)
        return None
    return values[0] if len(values) == 1 else tuple(v for v in values if v is not None)
