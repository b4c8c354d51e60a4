"""launcher=slurm without SLURM: what is asked for, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vsrbench.cluster import slurm
from vsrbench.cluster.manifest import Sweep
from vsrbench.cluster.sweep import launch
from vsrbench.config import compose
from vsrbench.errors import ConfigError

Composed = Callable[..., list]


def printed(composed: list, capsys: pytest.CaptureFixture[str]) -> list[str]:
    launch(composed, [], lambda cfg: None, waits=False)
    return capsys.readouterr().out.splitlines()


def asked(lines: list[str]) -> set[str]:
    return {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}


def test_a_sweep_is_one_array(composed: Composed, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = [
        "launcher.nodes=2", "launcher.gpus=4", "launcher.cpus=8", "launcher.memory_gb=120", "launcher.minutes=600",
        "launcher.partition=a100", "launcher.account=vision", "launcher.parallel=5",
        "launcher.setup=[module load cuda]", 'launcher.extra=["mail-type=END","--exclusive"]',
    ]  # fmt: skip
    lines = printed(composed(["seed=1"], ["seed=2"], ["seed=3"], "launcher=slurm_dry", *settings), capsys)
    assert lines[0] == "#!/bin/bash"
    folder = tmp_path / "sweeps" / "s"
    assert asked(lines) == {
        "--array=0-2%3", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=8", "--mem=120GB",
        "--time=600", "--partition=a100", "--account=vision", "--signal=USR2@180", "--requeue", "--open-mode=append",
        "--job-name=vsrbench-train", "--mail-type=END", "--exclusive", f"--output={folder}/slurm/%A_%a_0_log.out",
        f"--error={folder}/slurm/%A_%a_0_log.err",
    }  # fmt: skip
    assert "module load cuda" in lines
    [start] = [line for line in lines if line.startswith("srun ")]
    assert start.endswith(f"-u -m vsrbench.cluster.task {folder} 0 1 2") and "--kill-on-bad-exit=1" in start


def test_what_is_printed_can_be_submitted(
    composed: Composed, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The manifest and the folder of the logs, which sbatch does not make, are there; the jobs know their devices."""
    printed(composed(["seed=1"], "launcher=slurm_dry", "launcher.nodes=2", "launcher.gpus=4"), capsys)
    assert (tmp_path / "sweeps" / "s" / "slurm").is_dir()
    [job] = Sweep.open(tmp_path / "sweeps" / "s").jobs()
    assert job.state == "pending" and not job.active
    assert job.arguments[-2:] == ["trainer.devices=4", "trainer.num_nodes=2"]
    assert not [a for a in job.arguments if a.startswith("launcher")]


def test_a_dry_run_forgets_nothing(composed: Composed, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed(composed(["seed=1"], "launcher=slurm_dry"), capsys)
    sweep = Sweep.open(tmp_path / "sweeps" / "s")
    sweep.note(0, state="failed", failure=["why"])
    assert printed(composed(["seed=1"], "launcher=slurm_dry"), capsys)[0] == "#!/bin/bash"
    assert sweep.recorded(0).failure == ["why"]


def test_a_single_job_is_no_array(composed: Composed, capsys: pytest.CaptureFixture[str]) -> None:
    assert not [a for a in asked(printed(composed(["seed=1"], "launcher=slurm_dry"), capsys)) if "--array" in a]


def test_tasks_are_devices(composed: Composed) -> None:
    def tasks(*what: str) -> int:
        [(_, cfg)] = composed(["launcher=slurm", *what])
        return slurm.resources(cfg)["ntasks_per_node"]

    assert tasks() == 1
    assert tasks("trainer=ddp_sim") == 2
    assert tasks("trainer=ddp", "launcher.gpus=8") == 8
    assert tasks("launcher.gpus=8", "launcher.tasks=1") == 1


@pytest.mark.parametrize("setting", ["launcher.tasks=2", "launcher.nodes=2"])
def test_an_evaluation_is_one_task(setting: str) -> None:
    cfg = compose(["method=bicubic", "data=sample", "launcher=slurm", setting], verb="eval")
    with pytest.raises(ConfigError, match=rf"{setting}.*: eval is one task on one node; inference\.devices=N"):
        slurm.resources(cfg)
    slurm.resources(compose(["method=dgaf", "data=sample", "launcher=slurm", setting], verb="train"))


def test_jobs_that_ask_for_something_else_are_another_array(
    composed: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(composed(["seed=1"], ["seed=2", "trainer=ddp_sim"], ["seed=3"], "launcher=slurm_dry"), capsys)
    one, other = [line.split() for line in lines if line.startswith("srun ")]
    assert one[-2:] == ["0", "2"] and other[-2].endswith("/s") and other[-1] == "1"


def test_long_sweeps_are_split(composed: Composed, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = composed(*([f"seed={n}"] for n in range(5)), "launcher=slurm_dry", "launcher.array=2")
    arrays = [a for line in printed(jobs, capsys) for a in [line] if "--array=" in a]
    assert arrays == ["#SBATCH --array=0-1%2"] * 2


def test_no_requeue_on_request(composed: Composed, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(printed(composed(["seed=1"], "launcher=slurm_dry", "launcher.requeues=0"), capsys))
    assert "--no-requeue" in told and "--requeue" not in told


def test_without_slurm(
    composed: Composed, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        launch(composed(["seed=1"], "launcher=slurm"), [], lambda cfg: None, waits=False)
    assert ended.value.code == 2 and "use launcher=slurm_dry to see the script" in capsys.readouterr().err


def test_nothing_can_be_suggested_without_results(composed: Composed, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        launch(composed(["seed=1"], "launcher=slurm_dry"), [], lambda cfg: None, waits=True)
    assert "use launcher=slurm" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    ['launcher.name="x\n#SBATCH --uid=0"', 'launcher.partition="x\nrm y"', 'launcher.extra=["a\nb"]'],
)
def test_no_setting_brings_a_line_of_its_own(setting: str) -> None:
    cfg = compose(["method=bicubic", "launcher=slurm_dry", setting], "eval")
    with pytest.raises(ConfigError, match=r"launcher\..*one line of plain text"):
        slurm.check(cfg.launcher)
