import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from training_fakes import FakeMethod, FakeModule, FakeSource, fake_clip, trained
from vsrbench.data.datamodule import ValidationClips
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, DataError, WeightsError
from vsrbench.training import names
from vsrbench.training.loggers import read_metrics
from vsrbench.training.validation import check_metrics, lpips_network, measures
from vsrbench.types import Clip
from vsrbench.weights.trained import checkpoint_file, load_trained


def test_measures_are_perfect_for_the_ground_truth_and_finite_otherwise() -> None:
    clip = fake_clip("a", frames=3)
    perfect = measures(clip, clip.hr)
    assert perfect[names.SSIM_Y] == 1
    assert perfect[names.PSNR_Y] == float("inf")
    assert perfect[names.CONSISTENCY] < 1e-6
    darker = measures(clip, clip.hr * 0.9)
    assert 15 < darker[names.PSNR_Y] < 40


def test_consistency_needs_exact_motion() -> None:
    clip = fake_clip("a")
    unknown = Clip(clip.lr, clip.hr, clip.name, clip.index, clip.scale)
    assert names.CONSISTENCY not in measures(unknown, clip.hr)


def test_clip_without_ground_truth_is_named() -> None:
    class Source(FakeSource):
        def read(self, start: int, stop: int) -> Clip:
            clip = super().read(start, stop)
            return Clip(clip.lr, None, clip.name, clip.index, clip.scale)

    with pytest.raises(DataError, match="clip 007 has no ground truth"):
        ValidationClips([Source("007")], 2)[0]


def test_runs_every_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_steps=5", "validation.strips=2")
    measured = [row["step"] for row in read_metrics(folder / "metrics.csv") if row[names.PSNR_Y]]
    assert measured == ["2", "4", "5"]
    written = {path.name for path in (folder / "samples").iterdir()}
    endings = (".png", "_slice.png", ".mp4")
    assert written == {f"step_00000{n}_val_{clip}{end}" for n in (2, 4, 5) for clip in (0, 1) for end in endings}
    assert Image.open(folder / "samples" / "step_000002_val_0.png").size == (3 * 24, 24)


def test_without_validation_clips_the_last_weights_are_what_training_leaves(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_steps=2", "validation.clips=0")
    result = json.loads((folder / "result.json").read_text())
    assert (result["best"], result["metrics"], result["steps"]) == (None, {}, 2)
    assert checkpoint_file(folder) == folder / "checkpoints" / "last.ckpt"
    card = (folder / "README.md").read_text()
    assert "there were no validation clips" in card and "ckpt_path=last.ckpt" in card and "best.ckpt" not in card


def test_sees_averaged_weights_in_eval_mode_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def upscale(self: FakeMethod, clip: Clip, *args: object, **kwargs: object) -> torch.Tensor:
        seen.append((self.training, self.learner.weight.clone()))
        return self.frames(clip.lr).clamp(0, 1)

    monkeypatch.setattr(FakeMethod, "upscale", upscale)
    with_it = trained(tmp_path, "ema.decay=0.9", "validation.every=1", name="with")
    ends = torch.load(with_it / "checkpoints" / "last.ckpt", weights_only=True)
    assert not any(training for training, _ in seen)
    assert torch.equal(seen[-1][1], ends["ema"]["shadow"]["learner.weight"])
    without = trained(tmp_path, "validation.every=0", name="without")
    plain = torch.load(without / "checkpoints" / "last.ckpt", weights_only=True)
    assert torch.equal(ends["state_dict"]["learner.weight"], plain["state_dict"]["learner.weight"])


class Fixed(torch.nn.Module):
    """A distance that is known: the mean absolute difference."""

    def forward(self, output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        assert output.shape == truth.shape and output.shape[0] == 1
        return (output - truth).abs().mean()


def test_lpips_is_the_mean_of_what_its_network_says_of_the_frames() -> None:
    clip = fake_clip("a", frames=3)
    assert names.LPIPS not in measures(clip, clip.hr)
    assert measures(clip, clip.hr, Fixed())[names.LPIPS] == 0
    black = measures(clip, torch.zeros_like(clip.hr), Fixed())[names.LPIPS]
    assert black == pytest.approx((clip.hr * 255 + 0.5).floor().div(255).mean().item())


def test_lpips_without_its_weights_is_refused_and_never_stood_in_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "none"))
    assert lpips_network([names.PSNR_Y]) is None
    with pytest.raises(WeightsError, match=r"vgg16-397923af\.pth"):
        trained(tmp_path, f"validation.metrics=[{names.PSNR_Y},{names.LPIPS}]")


def test_metrics_are_those_that_were_asked_for(tmp_path: Path) -> None:
    folder = trained(tmp_path, f"validation.metrics=[{names.SSIM_Y}]", f"validation.metric={names.SSIM_Y}")
    found = {key for row in read_metrics(folder / "metrics.csv") for key in row if key.startswith("val/")}
    assert found == {names.SSIM_Y}


def test_unknown_and_unmeasured_metrics_are_named() -> None:
    with pytest.raises(ConfigError, match="no val/psnr; use some of val/psnr_y"):
        check_metrics(["val/psnr"], "val/psnr", "max")
    with pytest.raises(ConfigError, match=r"validation.metric=val/lpips: use one of val/psnr_y \(validation.metrics"):
        check_metrics([names.PSNR_Y], names.LPIPS, "min")


@pytest.mark.parametrize(("metric", "wrong", "right"), [("val/loss", "max", "min"), ("val/psnr_y", "min", "max")])
def test_the_worst_value_of_a_metric_decides_nothing(metric: str, wrong: str, right: str) -> None:
    check_metrics([metric], metric, right)
    with pytest.raises(ConfigError, match=f"validation.mode={wrong} takes the worst {metric}: set .*mode={right}"):
        check_metrics([metric], metric, wrong)


LOSS = (
    "validation.metrics=[val/psnr_y,val/loss]",
    "validation.metric=val/loss",
    "validation.mode=min",
    "train.frames=2",
)


def test_the_stage_s_loss_is_measured_on_validation_clips_and_may_decide_and_stop(tmp_path: Path) -> None:
    """The centre 8 x 8 of 12 x 12 LR pixels, the first frames; a run that learns nothing ends by it."""
    folder = trained(tmp_path, *LOSS, "validation.every=1", "trainer.max_steps=3", "validation.clips=1")
    losses = [float(row["val/loss"]) for row in read_metrics(folder / "metrics.csv") if row.get("val/loss")]
    result = json.loads((folder / "result.json").read_text())
    assert len(losses) == 3 and result["best"]["step"] == 1 + losses.index(min(losses))
    method = FakeMethod()
    load_trained(method, str(folder))
    clip = fake_clip("val/0", 3).window(0, 2)
    middle = replace(
        clip, lr=clip.lr[..., 2:10, 2:10], hr=clip.hr[..., 4:20, 4:20], flow_forward=None, flow_backward=None,
        occlusion=None,
    )  # fmt: skip
    expected = sum(FakeModule(method).losses(middle, Noise(0)).values())
    assert min(losses) == pytest.approx(expected.item(), rel=1e-6)
    stop = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=1", "optimiser.lr=0")
    still = trained(tmp_path, *LOSS, *stop, "validation.every=1", "validation.clips=1", name="still")
    assert json.loads((still / "result.json").read_text())["steps"] == 2


def test_a_loss_of_clips_shorter_than_a_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"val/loss needs 2 frames of a clip.*val/0 there are 1: .*frames=2"):
        trained(tmp_path, *LOSS, "validation.frames=1")
