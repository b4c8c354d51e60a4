"""Jobs of a sweep as SLURM arrays, by way of submitit: the script, and submitting it.

The script starts ``vsrbench.cluster.task`` rather than a pickled function: it can be read, submitted by hand, and
started again after code has changed.
"""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vsrbench.cluster.manifest import Job, Sweep
from vsrbench.compat import sbatch_script, submit_command
from vsrbench.errors import ConfigError, RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig

SAME = ("partition", "account", "qos", "constraint", "exclude", "gres")  # called the same here and there


def submit(sweep: Sweep, jobs: Sequence[Job], configurations: dict[int, "DictConfig"]) -> None:
    """Submit the jobs, or print their scripts (``launcher.dry``); ids of the queue go into the manifest.

    Raises ConfigError where there is no SLURM or no submitit, RunError where sbatch refuses.
    """
    if not jobs:
        return
    launcher = next(iter(configurations.values())).launcher
    check(launcher)
    for numbers, resources in groups(jobs, configurations):
        for job in numbers:
            job.arguments = [*job.arguments, *devices(resources, sweep.verb)]
        sweep.save()
        for start in range(0, len(numbers), launcher.array):
            part = numbers[start : start + launcher.array]
            (sweep.folder / "slurm").mkdir(exist_ok=True)  # SLURM makes no folder, and drops jobs whose log has none
            if launcher.dry:
                print(script(sweep, [job.number for job in part], resources))
            else:
                _submit(sweep, part, resources)


def check(launcher: "DictConfig") -> None:
    """Raise ConfigError where this machine cannot do what is asked."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise ConfigError("launcher=slurm needs the extra `sweep`: pip install 'vsrbench[sweep]'") from error
    for name, value in launcher.items():
        lines: list[Any] = [value] if isinstance(value, str) else [*value] if name == "extra" else []
        if any(not line.isprintable() for line in lines):
            raise ConfigError(f"launcher.{name!s}={value!r}: one line of plain text, it becomes a line of the script")
    if not launcher.dry and not (shutil.which("sbatch") and shutil.which("srun")):
        raise ConfigError(
            "launcher=slurm: there is no sbatch and srun here; call this on a login node of the cluster, "
            "use launcher=slurm_dry to see the script, or launcher=local"
        )


def groups(jobs: Sequence[Job], configurations: dict[int, "DictConfig"]) -> list[tuple[list[Job], dict[str, Any]]]:
    """Jobs that ask for the same resources, together: they can be one array."""
    groups: dict[str, tuple[list[Job], dict[str, Any]]] = {}
    for job in jobs:
        directives = resources(configurations[job.number])
        groups.setdefault(json.dumps(directives, sort_keys=True), ([], directives))[0].append(job)
    return list(groups.values())


def resources(cfg: "DictConfig") -> dict[str, Any]:
    """What one job asks for, under submitit's names. Raises ConfigError for several tasks where one does the work."""
    from omegaconf import OmegaConf

    launcher: Any = OmegaConf.to_container(cfg.launcher, resolve=True)
    tasks, distributed = launcher["tasks"], cfg.verb in ("train", "compare")
    if not distributed and (tasks or 1) * launcher["nodes"] != 1:
        raise ConfigError(
            f"launcher.tasks={tasks} launcher.nodes={launcher['nodes']}: {cfg.verb} is one task on one node; "
            "inference.devices=N shares an evaluation out over the task's devices"
        )
    if tasks is None and distributed:
        tasks = launcher["gpus"] or (cfg.trainer.devices if isinstance(cfg.trainer.devices, int) else 1)
    directives = {
        "job_name": launcher["name"],
        "time": launcher["minutes"],
        "nodes": launcher["nodes"],
        "ntasks_per_node": tasks or 1,
        "cpus_per_task": launcher["cpus"],
        "gpus_per_node": launcher["gpus"],
        "mem": None if launcher["memory_gb"] is None else f"{launcher['memory_gb']}GB",
        "array_parallelism": launcher["parallel"],
        "wckey": None,
        "setup": list(launcher["setup"]) or None,
        # One rank that fails ends the others, which would wait for it for ever.
        "srun_args": ["--kill-on-bad-exit=1"],
        "additional_parameters": {
            "signal": f"USR2@{launcher['signal_seconds']}",
            "requeue" if launcher["requeues"] else "no-requeue": True,
            **{key.lstrip("-"): value or True for key, _, value in (e.partition("=") for e in launcher["extra"])},
        },
    }
    return directives | {name: launcher[name] for name in SAME}


def devices(directives: dict[str, Any], verb: str) -> list[str]:
    """Settings that make the trainer use what SLURM gives: as many devices as tasks on each node."""
    if verb not in ("train", "compare"):
        return []
    return [f"trainer.devices={directives['ntasks_per_node']}", f"trainer.num_nodes={directives['nodes']}"]


def command(sweep: Sweep, numbers: Sequence[int]) -> str:
    """What every task of the array starts; its own number is the one at its place in the array."""
    parts = [sys.executable, "-u", "-m", "vsrbench.cluster.task", str(sweep.folder), *map(str, numbers)]
    return shlex.join(parts)


def script(sweep: Sweep, numbers: Sequence[int], directives: dict[str, Any]) -> str:
    """The sbatch script, as submitit writes it."""
    many = len(numbers) if len(numbers) > 1 else None
    return sbatch_script(command(sweep, numbers), sweep.folder / "slurm", map_count=many, **directives)


def _submit(sweep: Sweep, jobs: Sequence[Job], directives: dict[str, Any]) -> None:
    from submitit.core.utils import FailedJobError
    from submitit.slurm.slurm import SlurmExecutor

    executor = SlurmExecutor(sweep.folder / "slurm")
    executor.update_parameters(**directives)
    if len(jobs) > 1:
        executor.parameters["map_count"] = len(jobs)
    try:
        submitted = submit_command(executor, command(sweep, [job.number for job in jobs]))
    except FailedJobError as error:
        raise RunError(f"sbatch refuses: {error}; launcher=slurm_dry shows the script") from error
    for place, job in enumerate(jobs):
        job.slurm = f"{submitted.job_id}_{place}" if len(jobs) > 1 else submitted.job_id
        print(f"job {job.number} submitted: {job.slurm}", file=sys.stderr)
    sweep.save()
