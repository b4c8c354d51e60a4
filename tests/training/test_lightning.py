"""Lightning as its users know it: any argument of the Trainer, own callbacks and loggers, from the command line."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning as pl
from omegaconf import OmegaConf

from training_fakes import FakeModule, tiny_arguments, trained
from vsrbench import config
from vsrbench.command_line import home
from vsrbench.errors import ConfigError, RunError
from vsrbench.training import names
from vsrbench.training.loggers import read_metrics
from wandb_reader import offline_runs, read

LR = ("+callbacks.x._target_=pytorch_lightning.callbacks.LearningRateMonitor", "+callbacks.x.logging_interval=step")


def test_callback_profiler_and_three_loggers_in_one_command(tmp_path: Path) -> None:
    """The command as a user types it, on the sample data."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    short = ["data.workers=0", "trainer=cpu", "trainer.max_steps=2", "validation.clips=1", "validation.frames=2"]
    lightning = [*LR, "trainer.profiler=simple", "trainer.log_every_n_steps=1", "logger=[csv,tensorboard,wandb]"]
    command = ["-m", "vsrbench.train", "method=basicvsrpp", "size=tiny", "data=sample", f"runs={tmp_path}", "name=run"]
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "NETRC": str(tmp_path / "netrc")}
    done = subprocess.run(
        [sys.executable, *command, *short, *lightning], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "Profiler Report" in done.stdout + done.stderr
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    rate = next(key for key in rows[0] if key.startswith("lr-Adam"))
    assert {row["step"] for row in rows if row[rate]} == {"0", "1"}
    assert [row["step"] for row in rows if row[names.PSNR_Y]] == ["2"]
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))
    (run,) = offline_runs(tmp_path / "run")
    assert {rate, names.LOSS, names.PSNR_Y} <= read(run).scalars


def test_every_argument_of_the_trainer_has_its_own_name() -> None:
    ours = set(OmegaConf.load(home() / "conf" / "trainer" / "auto.yaml")) - {"defaults", "_target_"}
    theirs = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    # groups, and what belongs to the run folder
    assert theirs - ours == {
        "callbacks",
        "logger",
        "default_root_dir",
        "enable_checkpointing",
        "use_distributed_sampler",
    }
    assert ours <= theirs


def test_arguments_reach_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[pl.Trainer] = []
    monkeypatch.setattr(FakeModule, "on_fit_start", lambda self: seen.append(self.trainer), raising=False)
    own = "trainer.profiler={_target_: pytorch_lightning.profilers.SimpleProfiler, filename: report}"
    trained(
        tmp_path, "trainer.limit_val_batches=1", "trainer.gradient_clip_val=0.5", "trainer.detect_anomaly=true",
        "trainer.num_sanity_val_steps=1", own, f"+trainer.profiler.dirpath={tmp_path}",
        "trainer.strategy={_target_: pytorch_lightning.strategies.SingleDeviceStrategy, device: cpu}",
    )  # fmt: skip
    (trainer,) = seen
    assert (trainer.limit_val_batches, trainer.gradient_clip_val) == (1, 0.5)
    assert (tmp_path / "fit-report.txt").is_file()
    assert len(list((tmp_path / "run" / "samples").glob("*_val_0.png"))) == 3, "nothing of the sanity check"


def test_validation_comes_when_lightnings_interval_says_so(tmp_path: Path) -> None:
    """In batches, of which two make a step here."""
    folder = trained(
        tmp_path, "train.effective_batch=4", "trainer.val_check_interval=6", "trainer.check_val_every_n_epoch=null"
    )
    assert [row["step"] for row in read_metrics(folder / "metrics.csv") if row[names.PSNR_Y]] == ["3", "6"]


def test_accumulation_is_told_from_the_effective_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, "trainer.accumulate_grad_batches=3", "trainer.max_steps=1")
    assert "effective batch 6 = 2 x 1 device(s) x 3 accumulated" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"accumulate_grad_batches=3: an effective batch of 4 .*effective_batch=6"):
        trained(tmp_path, "trainer.accumulate_grad_batches=3", "train.effective_batch=4", name="other")


def test_a_callback_may_end_training_and_any_of_ours_may_be_left_out(tmp_path: Path) -> None:
    stop = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=1", "optimiser.lr=0")
    folder = trained(tmp_path, *stop, "callbacks.samples=null", "~callbacks.progress", "~callbacks.model_card")
    result = result_of(folder)
    assert (result["steps"], result["ended"]) == (4, "the trainer or a callback")
    assert not (folder / "samples").exists() and not (folder / "README.md").exists()
    bare = trained(tmp_path, "~callbacks.checkpoint", "trainer.max_steps=2", name="bare")
    assert not (bare / "checkpoints").exists() and result_of(bare)["steps"] == 2


def result_of(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())


def test_what_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.x.*NoSuchThing cannot be imported"):
        trained(tmp_path, "+callbacks.x._target_=pytorch_lightning.callbacks.NoSuchThing")
    with pytest.raises(ConfigError, match=r"no setting callbacks\.x\.nosuch: callbacks\.x has logging_interval"):
        trained(tmp_path, *LR, "+callbacks.x.nosuch=1")
    with pytest.raises(ConfigError, match=r"did you mean trainer\.profiler\?"):
        trained(tmp_path, "+trainer.profilr=simple")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("trainer.gradient_clip=1", "trainer.gradient_clip_val=1"),
        ("trainer.log_every=5", "trainer.log_every_n_steps=5"),
        ("trainer.compile=true", "compile=true"),
        ("trainer.checkpointing=true", "gradient_checkpointing=true"),
        ("logger.project=mine", "logger.wandb.project=mine"),
    ],
)
def test_an_old_spelling_is_answered_with_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(ConfigError) as told:
        config.compose([*tiny_arguments(tmp_path), old])
    names = [text.partition("=")[0] for text in (old, new)]
    assert str(told.value) == f"{names[0]} is now {names[1]}: write {new}"


def test_a_run_folder_of_the_old_layout_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_steps=2")
    settings = OmegaConf.load(folder / "config.yaml")
    del settings.trainer["_target_"]
    OmegaConf.save(settings, folder / "config.yaml")
    with pytest.raises(RunError, match=r"earlier version.*name=NEW ckpt_path=.*run"):
        trained(tmp_path, "trainer.max_steps=4")


def test_mlflow_gets_curves_and_settings_in_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Fake(pl.loggers.CSVLogger):
        """What stands for Lightning's logger, which needs a package that is not installed here."""

        def __init__(self, save_dir: str, experiment_name: str, run_name: str, tracking_uri: None) -> None:
            super().__init__(save_dir, name=experiment_name, version=run_name)
            self.rows: list[Any] = []
            made.append((save_dir, experiment_name, run_name))

        def log_hyperparams(self, params: Any = None) -> None:
            made.append(params["method"]["name"])

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            made.append(step)

    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    sys.modules["mlflow"].__spec__ = pytest.__spec__  # as of an installed package
    monkeypatch.setattr(pl.loggers, "MLFlowLogger", Fake)
    trained(tmp_path, "logger=mlflow", "trainer.max_steps=1")
    assert made == [(f"{tmp_path}/run/mlruns", "vsrbench", "run"), "fake", 1, 1]
    assert (tmp_path / "run" / "metrics.csv").is_file()


def test_absent_mlflow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"logger=mlflow needs the package mlflow: pip install mlflow"):
        trained(tmp_path, "logger=mlflow")
