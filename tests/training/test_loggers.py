import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from training_fakes import fake_clip, trained
from vsrbench import config
from vsrbench.config import compose
from vsrbench.errors import ConfigError, RunError
from vsrbench.runs import Run
from vsrbench.training import names
from vsrbench.training.loggers import CSVLogger, build_loggers, log_media, log_summary, log_table, read_metrics
from vsrbench.training.media import show


def test_columns_grow_and_absent_values_are_empty(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_metrics({"b": 2.5}, 1)
    assert read_metrics(tmp_path / "metrics.csv") == [
        {"step": "1", "a": "1", "b": ""},
        {"step": "1", "a": "", "b": "2.5"},
    ]


def test_rows_behind_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = CSVLogger(tmp_path)
    for step in range(1, 6):
        logger.log_metrics({"a": step}, step)
    CSVLogger(tmp_path, step=3).log_metrics({"a": 40}, 4)
    assert [row["a"] for row in read_metrics(path)] == ["1", "2", "3", "40"]
    logger = CSVLogger(tmp_path, step=0)
    assert len(read_metrics(path)) == 4, "nothing is dropped before training starts"
    logger.save()
    assert read_metrics(path) == []


def test_half_written_last_row_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n1,2,3\n2,")
    CSVLogger(tmp_path, step=9).log_metrics({"a": 5, "b": 6}, 3)
    assert [row["step"] for row in read_metrics(path)] == ["1", "3"]


def test_a_row_with_values_too_many_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n1,2\n2,3,4\n3,5\n")
    CSVLogger(tmp_path, step=9).log_metrics({"a": 5}, 4)
    assert [row["step"] for row in read_metrics(path)] == ["1", "3", "4"]


@pytest.mark.parametrize("content", [b"step,a\nx,1\n", b"\xff\xfe\x00", b"a,b\n1,2\n"])
def test_a_file_of_metrics_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(RunError, match=r"metrics\.csv .*remove it: training goes on"):
        read_metrics(tmp_path / "metrics.csv")


def test_a_logger_that_cannot_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("mine")
    cfg = compose(["logger=tensorboard", "size=tiny"])
    with pytest.raises(ConfigError, match=r"logger\.tensorboard writes into .*tensorboard, which is a file"):
        build_loggers(cfg, Run(tmp_path), {})


def test_tensorboard_gets_scalars_pictures_and_moving_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trained(tmp_path, "logger=tensorboard", "trainer.max_steps=2")
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert {names.LOSS, names.PSNR_Y} <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {f"{key}/val/0" for key in names.MEDIA}
    (moving,) = events.Images(f"{names.VIDEO}/val/0")
    with Image.open(io.BytesIO(moving.encoded_image_string)) as picture:
        assert picture.format == "GIF"
    assert set(names.TRAINING_COST) <= set(events.Tags()["scalars"])


def test_absent_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        trained(tmp_path, "logger=tensorboard")


def test_media_and_tables_go_nowhere_without_a_logger_for_them(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    clip = fake_clip("a")
    shown = [show(clip, clip.hr, tmp_path / "samples", 1)]
    before = sorted(tmp_path.rglob("*"))
    log_media([logger], shown, 1)
    log_table([logger], names.VALIDATION_TABLE, [{"clip": "a", names.PSNR_Y: 1.0}], 1, shown)
    log_summary([logger], {names.PARAMETERS: 3}, 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_csv_alone_is_the_default(tmp_path: Path) -> None:
    assert set(config.compose(["method=dgaf"]).logger) == {"csv"}
