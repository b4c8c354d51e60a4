"""From what users type to what Hydra's sweepers get, and the whole way through a command in this process."""

import json
from pathlib import Path
from typing import Any

import pytest

from training_fakes import tiny_arguments
from vsrbench import config, experiments
from vsrbench.cluster.manifest import Sweep
from vsrbench.command_line import expand_arguments, home, sweep_arguments
from vsrbench.errors import ConfigError
from vsrbench.runs import run_folder
from vsrbench.training import names


def arguments(*typed: str, verb: str = "train") -> list[str]:
    return sweep_arguments(expand_arguments(list(typed), verb), verb)


def name(*typed: str, verb: str = "train") -> str:
    [named] = [a for a in arguments(*typed, verb=verb) if a.startswith("sweep=")]
    return named


def test_a_single_run_is_left_alone() -> None:
    assert arguments("method=dgaf", "launcher=local") == ["method=dgaf", "launcher=local"]


def test_the_same_sweep_has_the_same_name_wherever_it_runs() -> None:
    one = name("-m", "method=dgaf,stablevsr", "seed=1,2")
    assert one == name("seed=1,2", "method=dgaf,stablevsr", "--multirun", "launcher=slurm", "launcher.gpus=4")
    assert one == name("-m", "method=dgaf,stablevsr", "seed=1,2", "runs=elsewhere", "force=true")
    assert one != name("-m", "method=dgaf,stablevsr", "seed=1,2,3")
    assert one != name("-m", "method=dgaf,stablevsr", "seed=1,2", verb="eval")
    assert name("-m", "seed=1,2", "sweep=mine") == "sweep=mine"


def test_slurm_and_optuna_make_a_sweep_of_any_command() -> None:
    for typed in ("launcher=slurm", "launcher=slurm_dry", "sweeper=optuna"):
        assert "--multirun" in arguments("method=dgaf", typed)
        assert "--multirun" not in arguments("method=dgaf", typed, "-m"), "once is enough"


def test_the_sweepers_settings_are_hydras() -> None:
    made = arguments("-m", "sweeper=optuna", "sweeper.n_trials=3", "method=dgaf")
    assert {"hydra/sweeper=vsrbench_optuna", "hydra.sweeper.n_trials=3"} <= set(made)


def test_an_extra_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsrbench.command_line._installed", lambda module: False)
    with pytest.raises(ConfigError, match="needs the extra `sweep`"):
        arguments("-m", "sweeper=optuna")


def test_every_launcher_composes_and_changes_no_run() -> None:
    before = run_folder(config.compose(["method=dgaf"]), "train")
    for file in (home() / "conf" / "launcher").glob("*.yaml"):
        cfg = config.compose(["method=dgaf", f"launcher={file.stem}", "sweep=x"])
        assert run_folder(cfg, "train") == before and cfg.launcher.kind == file.stem.removesuffix("_dry")


def test_every_objective_is_stated_with_its_direction() -> None:
    for file in (home() / "conf" / "method").glob("*.yaml"):
        optimise = config.compose([f"method={file.stem}"], verb="eval").optimise
        assert len(optimise.metrics) == len(optimise.directions) > 0
        assert set(optimise.directions) <= {"maximize", "minimize"}
        assert set(optimise.metrics) <= set(names.VALIDATION)


# --- commands, with all jobs in this process -------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, runs: Path, *typed: str, verb: str = "train") -> tuple[int, list[Any]]:
    """Exit code, and the configurations that were run. Results depend on the learning rate."""
    seen: list[Any] = []

    def run(cfg: Any) -> None:
        seen.append(cfg)
        if cfg.seed == 13:
            raise RuntimeError("thirteen")
        folder = run_folder(cfg, verb)
        folder.mkdir(parents=True, exist_ok=True)
        quality = 30 - (cfg.optimiser.lr - 0.3) ** 2
        (folder / "result.json").write_text(json.dumps({"metrics": {"val/psnr_y": quality}}))

    monkeypatch.setattr("sys.argv", [verb, *tiny_arguments(runs)[:-1], *typed, "launcher=basic"])
    try:
        config.launch(run, verb)
    except SystemExit as ended:
        return int(ended.code or 0), seen
    return 0, seen


def test_a_grid_with_a_failing_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, seen = command(monkeypatch, tmp_path, "-m", "seed=1,13", "optimiser.lr=0.1,0.2")
    assert code == 1 and [(c.seed, c.optimiser.lr) for c in seen] == [(1, 0.1), (1, 0.2), (13, 0.1), (13, 0.2)]
    code, seen = command(monkeypatch, tmp_path, "-m", "seed=1,13", "optimiser.lr=0.1,0.2")
    assert code == 1 and {c.seed for c in seen} == {13}
    assert {c.sweep for c in seen} == {next((tmp_path / "sweeps").iterdir()).name}, "jobs know their sweep"


def test_a_pattern_of_experiments_runs_each_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = experiments.names(home() / "conf" / "experiments", "dgaf/t3_*")
    monkeypatch.setattr("sys.argv", ["eval", "-m", "experiments=dgaf/t3_*", f"runs={tmp_path}", "launcher=basic"])
    seen: list[Any] = []
    config.launch(seen.append, "eval")
    assert [cfg.published.row for cfg in seen] == ["case 1", "case 2", "case 3", "case 4 (ours)"] and len(rows) == 4
    [folder] = (tmp_path / "sweeps").iterdir()
    assert [job.overrides for job in Sweep.open(folder).jobs()] == [[f"experiments={row}"] for row in rows]


def test_a_pattern_that_matches_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["eval", "-m", "experiments=dgaf/t9_*"])
    with pytest.raises(SystemExit) as ended:
        config.launch(lambda cfg: None, "eval")
    assert ended.value.code == 2 and "experiments=dgaf/t9_* matches no file" in capsys.readouterr().err


def test_optuna_goes_on_from_the_manifest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    study = ["sweeper=optuna", "optimiser.lr=interval(0.0,1.0)"]
    code, first = command(monkeypatch, tmp_path, *study, "sweeper.n_trials=3")
    assert code == 0 and len(first) == 3
    code, more = command(monkeypatch, tmp_path, *study, "sweeper.n_trials=5")
    assert code == 0 and len(more) == 2, "the first three are suggested again and found finished"
    [folder] = (tmp_path / "sweeps").iterdir()
    jobs = Sweep.open(folder).jobs()
    best = max(jobs, key=lambda job: job.result["val/psnr_y"] if job.result else 0.0)
    told = (folder / "optimization_results.yaml").read_text()
    assert f"best_value: {best.result and best.result['val/psnr_y']}" in told


def test_optuna_survives_failing_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    code, _ = command(monkeypatch, tmp_path, "sweeper=optuna", "sweeper.n_trials=4", "seed=choice(1,13)")
    states = [job.state for job in Sweep.open(next((tmp_path / "sweeps").iterdir())).jobs()]
    assert code == 0 and set(states) == {"finished", "failed"}


def test_hydras_own_launcher_with_several_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["-m", "hydra/launcher=basic", "seed=1,2", "trainer=ddp_sim"]
    monkeypatch.setattr("sys.argv", ["train", *tiny_arguments(tmp_path)[:-1], *typed])
    with pytest.raises(SystemExit) as ended:
        config.launch(lambda cfg: pytest.fail("started"), "train")
    assert ended.value.code == 2 and "launcher=local" in capsys.readouterr().err
