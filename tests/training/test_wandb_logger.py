"""What a W&B run holds, and that nothing that happens to W&B touches a training."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb

from training_fakes import FakeMethod, FakeModule, same, trained
from vsrbench.training import names
from vsrbench.training.wandb_login import has_wandb_key, mode
from vsrbench.weights.trained import load_trained
from wandb_reader import Logged, offline_runs, read


def log_out(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        patch.delenv(name, raising=False)
    patch.setenv("NETRC", str(folder / "netrc"))
    patch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def logged_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_out(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run with everything on."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        log_out(patch, runs)
        yield trained(runs, "logger=wandb", "ema.decay=0.9", "trainer.max_steps=4", "sweep=nightly", "tags=[paper]")


@pytest.fixture(scope="module")
def logged(folder: Path) -> Logged:
    (run,) = offline_runs(folder)
    return read(run)


def test_curves_have_the_optimiser_steps_as_their_axis(logged: Logged) -> None:
    assert {g for g, x in logged.axes.items() if x == names.STEP} == {"train/*", "val/*", "perf/*", "samples/*"}
    assert sorted(logged.values(names.LOSS)) == [1, 2, 3, 4]
    assert logged.values(names.STEP) == {n: n for n in (1, 2, 3, 4)}
    assert sorted(logged.values(names.PSNR_Y)) == sorted(logged.values(names.HOURS)) == [2, 4]


def test_scalars_are_those_of_metrics_csv(folder: Path, logged: Logged) -> None:
    columns = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert logged.scalars - {"_step", "_runtime", "_timestamp", names.STEP} == set(columns) - {"step"}


def test_pictures_videos_and_a_table_come_with_every_validation(folder: Path, logged: Logged) -> None:
    kinds = {names.STRIP: "images/separated", names.SLICE: "images/separated", names.VIDEO: "videos"}
    assert logged.kinds == {**kinds, names.VALIDATION_TABLE: "table-file"}
    media = offline_runs(folder)[0] / "files" / "media"
    assert len(list((media / "videos").rglob("*.mp4"))) == 2
    assert len(list((media / "images").rglob("*.png"))) == 4
    table = max((media / "table").rglob("*.json"), key=lambda p: int(p.name.split("_")[1]))
    content = wandb.util.json.loads(table.read_text())
    assert content["columns"] == ["clip", names.PSNR_Y, names.SSIM_Y, names.CONSISTENCY, "strip"]
    assert [row[0] for row in content["data"]] == ["val/0", "val/1"]
    mean = sum(row[1] for row in content["data"]) / 2
    assert mean == pytest.approx(logged.values(names.PSNR_Y)[4])


def test_the_run_carries_configuration_origin_group_and_tags(logged: Logged) -> None:
    assert logged.config["method"]["name"] == "fake"
    assert logged.config["validation"]["metric"] == names.PSNR_Y
    assert logged.config["provenance"]["vsrbench"]
    assert logged.run["run_group"] == "nightly"
    assert logged.run["job_type"] == "train"
    assert set(logged.run["tags"]) == {"fake", "tiny", "paper"}


def test_cost_and_the_best_validation_are_in_the_summary(logged: Logged) -> None:
    assert {*names.TRAINING_COST, names.best(names.PSNR_Y), names.BEST_STEP} <= logged.summary.keys()
    assert logged.summary[names.PARAMETERS] > logged.summary[names.TRAINED_PARAMETERS] > 0


def test_the_best_weights_are_an_artifact_with_their_card(folder: Path, logged: Logged) -> None:
    (artifact,) = [a for a in logged.artifacts if a["type"] == "model"]
    files = {entry["path"]: entry for entry in artifact["manifest"]["contents"]}
    assert files.keys() == {"best.ckpt", "README.md", "config.yaml"}
    assert artifact["description"] == (folder / "README.md").read_text()
    kept = Path(files["best.ckpt"]["local_path"])
    assert kept.is_relative_to(folder) and os.path.samefile(kept, folder / "checkpoints" / "best.ckpt")


def test_of_the_last_weights_no_optimiser_is_uploaded(logged_out: None, tmp_path: Path) -> None:
    folder = trained(tmp_path, "logger=wandb", "checkpoint.weights=last", "ema.decay=0.5", "trainer.max_steps=2")
    (artifact,) = [a for a in read(offline_runs(folder)[0]).artifacts if a["type"] == "model"]
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    content = torch.load(files["last.ckpt"], weights_only=True)
    whole = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert whole.keys() - content.keys() >= {"optimizer_states", "callbacks", "loops"}
    assert content.keys() == {"state_dict", "ema", "stage", "frozen", "global_step", "vsrbench"}
    uploaded, kept = FakeMethod(), FakeMethod()
    load_trained(uploaded, str(files["last.ckpt"]))
    load_trained(kept, str(folder))
    assert same(uploaded.trained_state(), kept.trained_state())
    assert not same(uploaded.trained_state(), content["state_dict"])


def test_an_interrupted_run_goes_on_as_the_same_one(
    logged_out: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FakeModule, "signal_at", 2)
        with pytest.raises(SystemExit, match="143"):
            trained(tmp_path, "logger=wandb")
    assert f"upload to W&B: wandb sync {tmp_path}/run/wandb/offline-run-*" in capsys.readouterr().out
    trained(tmp_path, "logger=wandb")
    first, second = (read(run) for run in offline_runs(tmp_path / "run"))
    assert first.run["run_id"] == second.run["run_id"]
    assert [*first.values(names.LOSS), *second.values(names.LOSS)] == [1, 2, 3, 4, 5, 6]
    assert not first.artifacts or all(a["type"] != "model" for a in first.artifacts)
    trained(tmp_path, "logger=wandb", "force=true")
    anew = read(offline_runs(tmp_path / "run")[-1])
    assert anew.run["run_id"] != first.run["run_id"]


def weights(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The weights of a training that knows nothing of W&B."""
    return weights(trained(tmp_path_factory.mktemp("plain")))


class Broken:
    """A W&B run that works for some calls and then raises at everything."""

    id = "broken"

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __getattr__(self, name: str) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ConnectionResetError("connection lost")
        return lambda *args, **kwargs: None


@pytest.mark.parametrize("calls", [0, 5, 8])
def test_a_logger_whose_calls_raise_changes_nothing(
    calls: int,
    plain: dict[str, Any],
    logged_out: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(wandb, "init", lambda **settings: Broken(calls))
    folder = trained(tmp_path, "logger=wandb")
    assert same(weights(folder), plain)
    assert (folder / "result.json").is_file() and (folder / "README.md").is_file()
    assert capsys.readouterr().out.count("W&B stopped (ConnectionResetError: connection lost)") == 1


def test_wandbs_process_killed_in_the_middle_changes_nothing(
    plain: dict[str, Any],
    logged_out: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = FakeModule.losses

    def killing(self: FakeModule, *args: Any) -> dict[str, torch.Tensor]:
        if self.batches == 3:
            for process in own_wandb_processes():
                os.kill(process, signal.SIGKILL)
        return real(self, *args)

    monkeypatch.setattr(FakeModule, "losses", killing)
    folder = trained(tmp_path, "logger=wandb")
    assert same(weights(folder), plain)
    assert (folder / "result.json").is_file()
    assert capsys.readouterr().out.count("W&B stopped") == 1


def own_wandb_processes() -> list[int]:
    """wandb-core, where this process started it."""
    command = ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [int(line.split()[0]) for line in lines if "wandb-core" in line]
    assert found
    return found


def test_a_dead_network_means_offline(
    logged_out: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modes = []

    def init(**settings: Any) -> Broken:
        modes.append(settings["mode"])
        if settings["mode"] == "online":
            raise wandb.errors.CommError("no route to host")
        return Broken(1000)

    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setattr(wandb, "init", init)
    trained(tmp_path, "logger=wandb", "trainer.max_steps=1")
    assert modes == ["online", "offline"]
    assert "W&B cannot be reached (no route to host): logging offline in" in capsys.readouterr().out


def test_login_is_looked_for_where_wandb_looks(
    logged_out: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert has_wandb_key() and mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_wandb_key()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert has_wandb_key()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode() == "disabled"


def test_no_weights_are_uploaded_where_that_is_not_wanted(logged_out: None, tmp_path: Path) -> None:
    folder = trained(tmp_path, "logger=wandb", "logger.wandb.checkpoint=false", "trainer.max_steps=1")
    assert [a for a in read(offline_runs(folder)[0]).artifacts if a["type"] == "model"] == []
    assert not (folder / "wandb" / "checkpoints").exists()
