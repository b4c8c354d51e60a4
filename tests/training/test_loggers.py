import sys
from pathlib import Path

import numpy as np
import pytest
import wandb

from training_fakes import trained
from vsrbench import config
from vsrbench.errors import ConfigError
from vsrbench.training import names
from vsrbench.training.loggers import CsvLogger, has_wandb_key, log_pictures, read_metrics, wandb_logger


def test_columns_grow_and_absent_values_are_empty(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "metrics.csv")
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_metrics({"b": 2.5}, 1)
    assert read_metrics(tmp_path / "metrics.csv") == [
        {"step": "1", "a": "1", "b": ""},
        {"step": "1", "a": "", "b": "2.5"},
    ]


def test_rows_behind_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = CsvLogger(path)
    for step in range(1, 6):
        logger.log_metrics({"a": step}, step)
    CsvLogger(path, step=3).log_metrics({"a": 40}, 4)
    assert [row["a"] for row in read_metrics(path)] == ["1", "2", "3", "40"]
    CsvLogger(path, step=0)
    assert read_metrics(path) == []


def test_half_written_last_row_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n1,2,3\n2,")
    CsvLogger(path, step=9).log_metrics({"a": 5, "b": 6}, 3)
    assert [row["step"] for row in read_metrics(path)] == ["1", "3"]


@pytest.fixture
def no_wandb_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_wandb_key_is_found_where_wandb_looks(
    no_wandb_login: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_wandb_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert has_wandb_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_wandb_key()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert has_wandb_key()


def test_wandb_without_a_key_runs_offline_with_scalars_and_strips(
    no_wandb_login: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        folder = trained(tmp_path, "logger=wandb", "trainer.max_steps=2")
    finally:
        wandb.finish()
    assert "no W&B API key found: logging offline" in capsys.readouterr().out
    (offline,) = (folder / "wandb").glob("offline-run-*")
    assert len(list(offline.glob("files/media/images/samples/strip*.png"))) == 1
    assert (folder / "metrics.csv").is_file()


def test_wandb_without_a_network_goes_offline(
    no_wandb_login: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dead(**settings: object) -> None:
        raise wandb.errors.CommError("no route to host")

    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setattr(wandb, "init", dead)
    logger = wandb_logger(tmp_path, "run", {"tags": []}, "vsrbench", None, None)
    assert logger._offline
    assert "no route to host" in capsys.readouterr().out


def test_tensorboard_gets_scalars_and_strips(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trained(tmp_path, "logger=tensorboard", "trainer.max_steps=2")
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert {names.LOSS, names.PSNR_Y} <= set(events.Tags()["scalars"])
    assert any(tag.startswith(names.STRIP) for tag in events.Tags()["images"])


def test_absent_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        trained(tmp_path, "logger=tensorboard")


def test_pictures_go_nowhere_without_a_logger_for_them(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "metrics.csv")
    before = sorted(tmp_path.iterdir())
    log_pictures([logger], {"clip": np.zeros((2, 6, 3), np.uint8)}, 1)
    assert sorted(tmp_path.iterdir()) == before


def test_csv_alone_is_the_default(tmp_path: Path) -> None:
    assert config.compose(["method=dgaf"]).logger._target_ is None
