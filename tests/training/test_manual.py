"""Methods with manual optimisation accumulate and clip themselves, and a run of theirs is a run like any other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training_fakes import FakeModule, same, trained
from vsrbench.errors import TrainingError
from vsrbench.nn.ema import EMA
from vsrbench.training.loggers import read_metrics
from vsrbench.types import Clip

SETTINGS = ("train.effective_batch=4", "ema.decay=0.9", "trainer.gradient_clip_val=0.05", "trainer.max_steps=4")


def by_hand(self: FakeModule, batch: Clip, batch_idx: int) -> None:
    """What Lightning does by itself for one optimiser."""
    terms = self.losses(batch, self.noise)
    self.terms = {name: value.detach() for name, value in terms.items()}
    self.observed = {"brightness": batch.lr.mean()}
    self.manual_backward(torch.stack(list(terms.values())).sum() / self.accumulate)
    if (batch_idx + 1) % self.accumulate == 0:
        assert self.gradient_clip_val is not None
        torch.nn.utils.clip_grad_norm_(self.method.learner.parameters(), self.gradient_clip_val)
        optimiser: Any = self.optimizers()
        optimiser.step()
        optimiser.zero_grad()


@pytest.fixture
def manual(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(FakeModule, "training_step", by_hand)
    monkeypatch.setattr(FakeModule, "automatic_optimization", False)
    return monkeypatch


def content(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def automatic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("automatic"), *SETTINGS)


def test_a_run_by_hand_equals_lightnings_own(
    automatic: Path, tmp_path: Path, manual: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path, *SETTINGS)
    for key in ("state_dict", "ema", "optimizer_states", "global_step", "vsrbench"):
        assert same(content(folder)[key], content(automatic)[key]), key
    ours, theirs = (read_metrics(f / "metrics.csv") for f in (folder, automatic))
    assert [row["train/loss"] for row in ours] == [row["train/loss"] for row in theirs]
    assert "4 = 2 x 1 device(s) x 2 accumulated" in capsys.readouterr().out


def test_it_goes_on_within_a_step_like_any_other(automatic: Path, tmp_path: Path, manual: pytest.MonkeyPatch) -> None:
    manual.setattr(FakeModule, "crash_at", 5)  # in the middle of step 3
    with pytest.raises(RuntimeError, match="power failure"):
        trained(tmp_path, *SETTINGS)
    manual.setattr(FakeModule, "crash_at", -1)
    assert content(tmp_path / "run")["global_step"] == 2
    folder = trained(tmp_path, *SETTINGS)
    for key in ("state_dict", "ema", "optimizer_states", "global_step"):
        assert same(content(folder)[key], content(automatic)[key]), key


def test_what_a_method_observes_is_logged_and_numbers_that_are_none_are_left_out(
    tmp_path: Path, manual: pytest.MonkeyPatch
) -> None:
    plain = by_hand

    def sometimes(self: FakeModule, batch: Clip, batch_idx: int) -> None:
        plain(self, batch, batch_idx)
        if batch_idx // self.accumulate == 1:
            self.terms = {"pixel": torch.tensor(float("nan")), "mean": torch.tensor(1.0)}
        self.skipped = {"pixel": 1}

    manual.setattr(FakeModule, "training_step", sometimes)
    folder = trained(tmp_path, *SETTINGS, "validation.every=0")
    rows = [row for row in read_metrics(folder / "metrics.csv") if row["train/lr"]]
    assert all(0 < float(row["train/brightness"]) < 1 for row in rows)
    assert all(0 <= float(row["train/ema_distance"]) < 1 for row in rows)
    assert [bool(row["train/loss"]) for row in rows] == [True, False, True, True]
    assert rows[1]["train/loss_mean"] == "1" and not rows[1]["train/loss_pixel"]
    assert '"skipped": {\n' in (folder / "result.json").read_text()


def test_an_average_may_leave_out_what_only_training_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def averaged_state(self: FakeModule) -> dict[str, Tensor]:
        return {key: value for key, value in self.trained_state().items() if key.endswith("weight")}

    monkeypatch.setattr(FakeModule, "averaged_state", averaged_state)
    stored = content(trained(tmp_path, *SETTINGS))
    assert stored["ema"]["shadow"].keys() == {"learner.weight"}
    assert stored["state_dict"].keys() == {"learner.weight", "learner.bias"}


def test_a_loss_that_is_not_finite_still_ends_a_run_with_one_optimiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeModule, "broken_at", 2)
    with pytest.raises(TrainingError, match="loss term 'pixel' is nan"):
        trained(tmp_path, *SETTINGS)


def test_distance_from_the_average_is_relative() -> None:
    values = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0]), "count": torch.tensor(7)}
    average = EMA(0.9, values)
    assert average.distance(values) == 0
    assert average.distance({**values, "b": torch.tensor([9.0])}) == pytest.approx(1)
