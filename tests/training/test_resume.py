"""A run that was stopped and went on equals one that never stopped."""

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from training_fakes import FakeModule, same, trained
from vsrbench import config, train
from vsrbench.errors import DataError
from vsrbench.training.loggers import read_metrics
from vsrbench.training.resume import Stream, random_states, restore_random_states, rewind

# Four samples per step in two batches, five steps per epoch, average and learning rate that move.
SETTINGS = (
    "train.effective_batch=4",
    "ema.decay=0.9",
    "+schedule._target_=torch.optim.lr_scheduler.StepLR",
    "+schedule._partial_=true",
    "+schedule.step_size=2",
    "trainer.max_steps=8",
)


def content(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def curve(folder: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in read_metrics(folder / "metrics.csv")]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("whole"), *SETTINGS)


def assert_equal_runs(a: Path, b: Path) -> None:
    ours, theirs = content(a), content(b)
    for key in ("state_dict", "ema", "optimizer_states", "lr_schedulers", "global_step", "random", "vsrbench", "loops"):
        assert same(ours[key], theirs[key]), key
    assert ours["callbacks"]["RunCheckpoint"]["best"] == theirs["callbacks"]["RunCheckpoint"]["best"]
    assert curve(a) == curve(b)


def test_raised_max_steps(unbroken: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path, *SETTINGS, "trainer.max_steps=4", "validation.every=4")
    trained(tmp_path, *SETTINGS, "validation.every=2")
    assert same(content(folder)["state_dict"], content(unbroken)["state_dict"])
    assert same(content(folder)["ema"], content(unbroken)["ema"])


@pytest.mark.parametrize("batch", [4, 5, 10, 11])
def test_terminated_within_a_step_and_at_its_end(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(FakeModule, "signal_at", batch)
    with pytest.raises(SystemExit) as stopped:
        trained(tmp_path, *SETTINGS)
    assert stopped.value.code == 128 + signal.SIGTERM
    monkeypatch.undo()
    assert_equal_runs(trained(tmp_path, *SETTINGS), unbroken)


def test_killed_between_checkpoints(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModule, "crash_at", 11)  # in step 6
    with pytest.raises(RuntimeError, match="power failure"):
        trained(tmp_path, *SETTINGS, "checkpoint.every=3")
    assert content(tmp_path / "run")["global_step"] == 3
    monkeypatch.undo()
    assert_equal_runs(trained(tmp_path, *SETTINGS, "checkpoint.every=3"), unbroken)


def test_other_split_of_the_effective_batch(unbroken: Path, tmp_path: Path) -> None:
    trained(tmp_path, *SETTINGS, "trainer.max_steps=3")
    folder = trained(tmp_path, *SETTINGS, "train.batch=1")
    for key, value in content(unbroken)["state_dict"].items():
        assert torch.allclose(content(folder)["state_dict"][key], value, atol=1e-5)


def test_unset_effective_batch_is_kept(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_steps=2", "train.batch=4")
    trained(tmp_path, "trainer.max_steps=4", "train.batch=2")
    assert content(folder)["vsrbench"]["effective_batch"] == 4


def test_stream_goes_on_over_epochs_and_repeats_what_it_is_told() -> None:
    class Data:
        def train_dataloader(self) -> list[int]:
            return [1, 2, 3]

    everything = iter(Stream(Data()))
    assert [next(everything) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]
    first = iter(Stream(Data(), only=2))
    assert [next(first) for _ in range(5)] == [1, 2, 1, 2, 1]


def test_data_without_a_batch_is_an_error_not_an_endless_wait() -> None:
    class Data:
        def train_dataloader(self) -> list[int]:
            return []

    with pytest.raises(DataError, match=r"lower train\.batch"):
        next(iter(Stream(Data())))


def test_rewind_says_within_the_epoch() -> None:
    loop: dict = {"epoch_loop.batch_progress": {"is_last_batch": True}, "epoch_progress": {}}
    rewind(loop, 6)
    assert loop["epoch_loop.batch_progress"]["total"]["ready"] == 6
    assert loop["epoch_loop.batch_progress"]["is_last_batch"] is False
    assert loop["epoch_progress"]["current"] == {"ready": 1, "started": 1, "processed": 0, "completed": 0}


def test_random_states_survive_a_safe_file(tmp_path: Path) -> None:
    torch.save(random_states(), tmp_path / "states")
    draws = random.random(), np.random.rand(), torch.rand(1)
    restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert draws == (random.random(), np.random.rand(), torch.rand(1))


def test_real_method_on_the_sample_data(tmp_path: Path) -> None:
    def go(name: str, steps: int) -> Path:
        recipe = ["train.effective_batch=2", "ema.decay=0.9", "data.workers=0", "trainer.accelerator=cpu"]
        short = ["validation.clips=1", "validation.frames=2", "checkpoint.every=1", f"trainer.max_steps={steps}"]
        command = ["method=dgaf", "size=tiny", "data=sample", f"runs={tmp_path}", f"name={name}", *recipe, *short]
        train.run(config.compose(command))
        return tmp_path / name

    whole = go("whole", 3)
    go("parts", 1)
    parts = go("parts", 3)
    for key in ("state_dict", "ema", "optimizer_states"):
        assert same(content(parts)[key], content(whole)[key]), key
