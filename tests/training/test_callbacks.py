import signal
from pathlib import Path

import pytest
import torch

from training_fakes import FakeMethod, FakeModule, trained
from vsrbench.errors import TrainingError
from vsrbench.training import names
from vsrbench.training.loggers import read_metrics
from vsrbench.types import Clip


def rows(folder: Path) -> list[dict[str, str]]:
    return [row for row in read_metrics(folder / "metrics.csv") if row[names.LOSS]]


def test_terms_are_logged_apart_and_do_not_depend_on_the_split(tmp_path: Path) -> None:
    whole = rows(trained(tmp_path, "train.batch=4", name="whole"))
    split = rows(trained(tmp_path, "train.batch=1", "train.effective_batch=4", name="split"))
    assert [row["step"] for row in split] == [str(n) for n in range(1, 7)]
    for a, b in zip(whole, split, strict=True):
        for key in (names.LOSS, names.loss("pixel"), names.loss("mean")):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-4)
        assert float(a[names.LOSS]) == pytest.approx(float(a[names.loss("pixel")]) + float(a[names.loss("mean")]))


def test_rows_come_at_the_asked_interval(tmp_path: Path) -> None:
    assert [row["step"] for row in rows(trained(tmp_path, "trainer.log_every_n_steps=3"))] == ["3", "6"]


def test_step_time_leaves_validation_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def slow(self: FakeMethod, clip: Clip, *args: object, **kwargs: object) -> torch.Tensor:
        clock[0] += 1000
        return torch.zeros_like(clip.lr).repeat(1, 1, 1, 2, 2)

    monkeypatch.setattr("vsrbench.training.callbacks.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(FakeMethod, "upscale", slow)
    assert {row[names.STEP_SECONDS] for row in rows(trained(tmp_path))} == {"0"}


def test_time_and_learning_rate_are_logged(tmp_path: Path) -> None:
    row = rows(trained(tmp_path))[-1]
    assert float(row[names.LEARNING_RATE]) == 0.01
    assert 0 < float(row[names.DATA_SECONDS]) < float(row[names.STEP_SECONDS])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_give_their_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(FakeModule, "signal_at", 2)
    monkeypatch.setattr(FakeModule, "signal_number", number)
    with pytest.raises(SystemExit) as stopped:
        trained(tmp_path, "checkpoint.every=0")
    assert stopped.value.code == 128 + number
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert not (tmp_path / "run" / "result.json").exists()
    assert "the same command goes on" in capsys.readouterr().out
    assert signal.getsignal(number) == before


def test_loss_that_is_not_finite_names_step_and_term_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeModule, "broken_at", 3)
    with pytest.raises(TrainingError, match=r"'pixel' is nan at step 3 .*#6"):
        trained(tmp_path)
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 3
    assert all(torch.isfinite(v).all() for v in content["state_dict"].values())
