import json
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training_fakes import FakeMethod, FakeModule, same, trained
from vsrbench.config import compose
from vsrbench.errors import ConfigError, RunError, WeightsError
from vsrbench.training import names
from vsrbench.training.checkpoint import AtomicCheckpointIO, RunCheckpoint, resume_point
from vsrbench.weights.trained import checkpoint_file, load_trained, selection

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


def loaded(source: Path) -> dict[str, torch.Tensor]:
    method = FakeMethod()
    load_trained(method, str(source))
    return method.trained_state()


def test_a_run_hands_out_the_weights_that_it_was_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best by SSIM's minimum is another step than the last, so that the two differ."""
    monkeypatch.setattr(names, "HIGHER", ())
    run = ("ema.decay=0.9", "trainer.max_steps=3", "validation.every=1", "validation.metric=val/ssim_y")
    for weights in ("best", "last"):
        folder = trained(tmp_path / weights, *run, "validation.mode=min", f"checkpoint.weights={weights}")
        best, last = (torch.load(folder / f"checkpoints/{n}.ckpt", weights_only=True) for n in ("best", "last"))
        assert best["global_step"] == 1 and last["global_step"] == 3
        wanted = best["state_dict"] if weights == "best" else {**last["state_dict"], **last["ema"]["shadow"]}
        capsys.readouterr()
        for source in (folder, folder / "checkpoints"):
            assert same({key: loaded(source)[key] for key in wanted}, wanted)
        what = "best.ckpt of step 1, the best by val/ssim_y" if weights == "best" else (
            "last.ckpt of step 3, the last averaged weights"
        )  # fmt: skip
        assert f"ckpt_path={folder}: {what} (checkpoint.weights={weights})" in capsys.readouterr().out
        assert json.loads((folder / "result.json").read_text())["weights"] == f"checkpoints/{weights}.ckpt"
        card = (folder / "README.md").read_text()
        assert f"ckpt_path={weights}.ckpt" in card and f"weights of this run are those of `{weights}.ckpt`" in card
        assert "validation clips | fake: " in card


def test_runs_of_earlier_versions_hand_out_their_best_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path, "trainer.max_steps=2", "validation.every=1", "checkpoint.weights=last")
    for name in ("best.ckpt", "last.ckpt"):
        file = folder / "checkpoints" / name
        content = torch.load(file, weights_only=True)
        del content["vsrbench"]["weights"], content["vsrbench"]["validated"]
        torch.save(content, file)
    assert checkpoint_file(folder).name == "best.ckpt"
    chosen = selection(folder / "checkpoints" / "best.ckpt")
    assert chosen is not None and chosen["clips"] is None
    (folder / "checkpoints" / "best.ckpt").unlink()
    loaded(folder)
    assert "last.ckpt of step 2, the last weights (checkpoint.weights=best; there is no best.ckpt)" in (
        capsys.readouterr().out
    )


def test_a_best_checkpoint_says_which_clips_selected_it_and_a_last_one_that_none_did(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_steps=2", "validation.every=1")
    chosen = selection(folder / "checkpoints" / "best.ckpt")
    assert chosen is not None and chosen["set"] == "fake" and chosen["metric"] == "val/psnr_y" and chosen["clips"]
    assert selection(folder / "checkpoints" / "last.ckpt") is None


@pytest.mark.parametrize("method", ["adapter", "basicvsr", "basicvsrpp", "dgaf", "ldm", "sateco", "stablevsr"])
def test_size_paper_hands_out_the_last_weights(method: str) -> None:
    assert compose([f"method={method}", "size=paper"], verb="train").checkpoint.weights == "last"
    assert compose([f"method={method}", "size=tiny"], verb="train").checkpoint.weights == "best"


@pytest.mark.parametrize("size", ["tiny", "mini", "small", "paper"])
def test_a_gan_hands_out_the_last_weights_at_every_size(size: str) -> None:
    assert compose(["method=videogigagan", f"size={size}"], verb="train").checkpoint.weights == "last"


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
    monkeypatch.setattr(
        FakeMethod, "upscale", lambda self, clip, noise, **_: torch.zeros_like(clip.lr).repeat(1, 1, 1, 2, 2)
    )
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
