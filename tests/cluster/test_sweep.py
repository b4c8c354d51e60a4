import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vsrbench import config
from vsrbench.cluster import sweep as sweeps
from vsrbench.cluster.manifest import Sweep
from vsrbench.cluster.sweep import launch, objective

Composed = Callable[..., list]


def never(cfg: object) -> None:
    raise AssertionError("not in this process")


def states(tmp_path: Path) -> list[str]:
    return [job.state for job in Sweep.open(tmp_path / "sweeps" / "s").jobs()]


def starts(tmp_path: Path, number: int) -> list[str]:
    run = Sweep.open(tmp_path / "sweeps" / "s").recorded(number).run
    return Path(str(run), "starts").read_text().splitlines()


def kept() -> list[str]:
    return [f"hydra.searchpath=[file://{Path(__file__).parents[1] / 'training_conf'}]"]


# --- a process per job -----------------------------------------------------------------------------


def test_a_failing_job_stops_no_other_and_the_same_sweep_runs_it_alone(
    jobs: Path, composed: Composed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three = composed(["seed=1"], ["seed=13"], ["seed=2"])
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            launch(three, kept(), never, waits=False)
        assert ended.value.code == 1
    assert states(tmp_path) == ["finished", "failed", "finished"]
    assert [len(starts(tmp_path, n)) for n in range(3)] == [1, 2, 1]
    assert starts(tmp_path, 0)[0].endswith("force=False sweep=s")
    failed = Sweep.open(tmp_path / "sweeps" / "s").recorded(1)
    assert failed.failure[-1] == "ValueError: thirteen" and "what led to it" in failed.failure
    told = capsys.readouterr().out
    assert "3 jobs, 2 finished, 1 failed" in told and "ValueError: thirteen" in told
    assert told.splitlines()[-1] == str(tmp_path / "sweeps" / "s")


def test_force_runs_all_again(jobs: Path, composed: Composed, tmp_path: Path) -> None:
    launch(composed(["seed=1"]), kept(), never, waits=False)
    launch(composed(["seed=1"], "force=true"), kept(), never, waits=False)
    assert [line.split()[1] for line in starts(tmp_path, 0)] == ["force=False", "force=True"]


def test_jobs_side_by_side(jobs: Path, composed: Composed, tmp_path: Path) -> None:
    launch(composed(["seed=1"], ["seed=2"], "launcher.parallel=2"), kept(), never, waits=False)
    assert states(tmp_path) == ["finished"] * 2


DRIVER = """
import sys
from vsrbench import config
from vsrbench.cluster import sweep, task
task.command = lambda verb, job, restarted: [sys.executable, {script!r}, *job.arguments]
kept = {kept!r}
shared = ["method=fake", "data=fake", "size=tiny", "runs={runs}", "sweep=s"]
each = [[*shared, "seed=1"], [*shared, "seed=99"], [*shared, "seed=2"]]
sweep.launch([(job, config.compose([*kept, *job])) for job in each], kept, None, False)
"""


@pytest.fixture
def driver(jobs: Path, tmp_path: Path) -> list[str]:
    """A command that runs a sweep of three, whose second job waits to be stopped."""
    file = tmp_path / "driver.py"
    file.write_text(DRIVER.format(script=str(jobs), kept=kept(), runs=tmp_path))
    return [sys.executable, str(file)]


def waiting(tmp_path: Path) -> int:
    """Process id of the job that waits, once it does."""
    until = time.monotonic() + 60
    while True:
        manifest = tmp_path / "sweeps" / "s" / "manifest.json"
        run = Sweep.open(manifest.parent).plan[1].run if manifest.is_file() else None
        if run and Path(run, "starts").is_file() and Path(run, "starts").read_text():
            return int(Path(run, "starts").read_text().split()[0])
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_sweep_that_was_killed_goes_on(driver: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen(driver, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    child = waiting(tmp_path)
    process.kill()
    process.wait()
    assert states(tmp_path) == ["finished", "running", "pending"], "the job itself is still there"
    refused = subprocess.run(driver, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "is at work already" in refused.stderr
    os.kill(child, signal.SIGKILL)
    while Sweep.open(tmp_path / "sweeps" / "s").busy():
        time.sleep(0.02)
    assert states(tmp_path) == ["finished", "pending", "pending"]
    done = subprocess.run(driver, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert states(tmp_path) == ["finished"] * 3
    assert [len(starts(tmp_path, n)) for n in range(3)] == [1, 2, 1]


def test_sigterm_lets_the_running_job_save_and_starts_no_other(driver: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen(driver, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    waiting(tmp_path)
    process.terminate()
    _, told = process.communicate()
    assert process.returncode == 143 and "the same command goes on" in told
    assert states(tmp_path) == ["finished", "pending", "pending"]
    assert Sweep.open(tmp_path / "sweeps" / "s").recorded(1).note == "interrupted"


# --- what is refused -------------------------------------------------------------------------------


def refused(composed: list, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        launch(composed, kept(), never, waits=False)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_jobs_that_share_a_run_folder(composed: Composed, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = refused(composed(["seed=1"], ["seed=2"], "name=mine"), capsys)
    assert "share the run folder" in told and "'seed=1' and 'seed=2'" in told
    assert "share the run folder" in refused(composed(["trainer.max_steps=1"], ["trainer.max_steps=2"]), capsys)
    assert not (tmp_path / "sweeps" / "s" / "manifest.json").exists()


@pytest.mark.parametrize("trainer", ["trainer=ddp_sim", "trainer=ddp", "trainer.devices=2", "trainer.num_nodes=2"])
def test_several_devices_in_one_process(
    composed: Composed, capsys: pytest.CaptureFixture[str], trainer: str, tmp_path: Path
) -> None:
    told = refused(composed(["seed=1"], ["seed=2"], "launcher=basic", trainer), capsys)
    assert "every rank would run the whole sweep again" in told
    assert "launcher=local" in told and "launcher=slurm" in told and "trainer.devices=1" in told
    assert not list(tmp_path.glob("fake*"))


def test_a_job_that_cannot_be_composed_fails_alone(jobs: Path, composed: Composed, tmp_path: Path) -> None:
    both = composed(["seed=1"], ["seed=2"])
    both[1][1].inference.precision = "fp64"
    with pytest.raises(SystemExit) as ended:
        launch(both, kept(), never, waits=False)
    assert ended.value.code == 1
    assert states(tmp_path) == ["finished", "failed"]
    assert Sweep.open(tmp_path / "sweeps" / "s").recorded(1).failure == [
        "inference.precision=fp64: use auto, fp32, bf16 or fp16"
    ]


# --- all in this process ---------------------------------------------------------------------------


def test_the_basic_launcher_goes_on_after_any_failure(composed: Composed, tmp_path: Path) -> None:
    def run(cfg: object) -> None:
        seed = cfg.seed  # type: ignore[attr-defined]
        if seed == 1:
            raise RuntimeError("broken")
        if seed == 2:
            raise SystemExit(2) from ValueError("the user's")
        folder = sweeps.run_folder(cfg, "train")
        folder.mkdir()
        (folder / "result.json").write_text('{"metrics": {"val/psnr_y": 33.0}}')

    three = composed(["seed=1"], ["seed=2"], ["seed=3"], "launcher=basic")
    assert launch(three, kept(), run, waits=True) == [None, None, 33.0]
    assert states(tmp_path) == ["failed", "failed", "finished"]
    jobs = Sweep.open(tmp_path / "sweeps" / "s").jobs()
    assert jobs[0].failure == ["RuntimeError: broken"] and jobs[1].failure == ["the user's"]


def test_the_objective_is_what_the_configuration_names(
    jobs: Path, composed: Composed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [(overrides, cfg)] = composed(["seed=1"])
    assert launch([(overrides, cfg)], kept(), never, waits=True) == [30.01]
    [job] = Sweep.open(tmp_path / "sweeps" / "s").jobs()
    cfg.optimise.metrics = ["val/psnr_y", "steps"]
    assert objective(cfg, job) == (30.01, 6)
    cfg.optimise.metrics = ["val/lpips_alex"]
    assert objective(cfg, job) is None and "it has steps, val/psnr_y" in capsys.readouterr().err


def test_jobs_of_a_verb_without_run_folders_share_none_and_stay_finished(tmp_path: Path) -> None:
    words = [["task=flops", "method=bicubic", f"bench.height={height}"] for height in (8, 16)]
    sweep = Sweep(tmp_path / "s", verb="bench")
    jobs, refused = sweeps.enter(sweep, [(one, config.compose(one, "bench")) for one in words], [])
    assert not refused and [job.run for job in jobs] == [None, None]
    sweeps.refuse_shared_folders(jobs)
    sweep.save()
    sweep.note(0, state="finished")
    assert [job.state for job in sweep.jobs()] == ["finished", "pending"]
