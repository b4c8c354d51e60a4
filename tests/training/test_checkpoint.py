import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training_fakes import FakeMethod, FakeModule, same, trained
from vsrbench.errors import ConfigError, RunError, WeightsError
from vsrbench.training import names
from vsrbench.training.checkpoint import AtomicCheckpointIO, RunCheckpoint, resume_point
from vsrbench.weights.trained import load_trained

BIG = {"state_dict": {"w": torch.zeros(1_000_000)}}


@pytest.fixture
def small_files() -> None:
    """Files may not grow beyond 100 kB, as on a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_full_disk_leaves_the_old_checkpoint(tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "global_step": 1}, path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=str(path)):
        AtomicCheckpointIO().save_checkpoint(BIG, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/last\.ckpt"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "file" / "last.ckpt")


def test_truncated_checkpoint_is_named_with_the_remedy(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_steps=1")
    last = folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"last\.ckpt is truncated.*delete it"):
        trained(tmp_path, "trainer.max_steps=2")


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_foreign_files_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(RunError, match=r"last\.ckpt"):
        resume_point(tmp_path)
    with pytest.raises(WeightsError, match=r"last\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


def test_checkpoints_hold_the_trained_part_only(tmp_path: Path) -> None:
    folder = trained(tmp_path, "ema.decay=0.5", "trainer.max_steps=2")
    for name in ("last.ckpt", "best.ckpt"):
        content = torch.load(folder / "checkpoints" / name, weights_only=True)
        assert set(content["state_dict"]) == {"learner.weight", "learner.bias"}


def test_best_holds_what_validation_saw_and_is_preferred(tmp_path: Path) -> None:
    folder = trained(tmp_path, "ema.decay=0.9", "trainer.max_steps=2", "validation.metric=val/ssim_y")
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert same(best["state_dict"], last["ema"]["shadow"])
    assert not same(best["state_dict"], last["state_dict"])
    for source in (folder, folder / "checkpoints" / "last.ckpt"):
        method = FakeMethod()
        load_trained(method, str(source))
        assert same(dict(method.trained_state()), last["ema"]["shadow"])


TRAINER: Any = SimpleNamespace(callbacks=[], is_global_zero=True, fast_dev_run=False)


def offered(tmp_path: Path, mode: str, *values: float) -> RunCheckpoint:
    checkpoints = RunCheckpoint(1, names.PSNR_Y, mode)
    checkpoints.folder = tmp_path
    for step, value in enumerate(values):
        checkpoints.offer(TRAINER, FakeModule(FakeMethod()), {names.PSNR_Y: value}, step)
    return checkpoints


def test_best_is_replaced_by_better_values_only(tmp_path: Path) -> None:
    assert offered(tmp_path, "max", 30, 29, 31, float("nan"), 31).best == {
        "metric": names.PSNR_Y,
        "value": 31,
        "step": 2,
    }
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 2
    assert offered(tmp_path, "min", 30, 29, 31).best["step"] == 1


def test_best_value_survives_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(tmp_path, "trainer.max_steps=2")
    before = (folder / "checkpoints" / "best.ckpt").read_bytes()
    monkeypatch.setattr(FakeMethod, "upscale", lambda self, clip, noise, **_: torch.zeros_like(clip.hr))
    trained(tmp_path, "trainer.max_steps=4")
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == before


def test_unknown_mode_and_metric_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"validation\.mode"):
        RunCheckpoint(1, names.PSNR_Y, "highest")
    module = FakeModule(FakeMethod())
    with pytest.raises(ConfigError, match="val/consistency is not measured"):
        RunCheckpoint(1, names.CONSISTENCY, "min").offer(TRAINER, module, {names.PSNR_Y: 1.0}, 0)
    with pytest.raises(ConfigError, match=r"validation\.metric=val/psnr"):
        trained(tmp_path, "validation.metric=val/psnr")
