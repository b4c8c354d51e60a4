from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training_fakes import FakeMethod, FakeSource, fake_clip, trained
from vsrbench.errors import DataError
from vsrbench.training import names
from vsrbench.training.loggers import read_metrics
from vsrbench.training.validation import measures, read_clip, strip
from vsrbench.types import Clip


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
        read_clip(Source("007"), 2)


def test_strip_shows_bicubic_output_and_truth_of_the_middle_frame() -> None:
    clip = fake_clip("a", frames=3)
    output = torch.zeros_like(clip.hr)
    picture = strip(clip, output)
    width = clip.hr.shape[-1]
    assert picture.shape == (width, 3 * width, 3)
    assert picture.dtype == np.uint8
    assert (picture[:, width : 2 * width] == 0).all()
    assert (picture[:, 2 * width :] == np.floor(clip.hr[0, 1].permute(1, 2, 0).numpy() * 255 + 0.5)).all()


def test_runs_every_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_steps=5", "validation.strips=2")
    measured = [row["step"] for row in read_metrics(folder / "metrics.csv") if row[names.PSNR_Y]]
    assert measured == ["2", "4", "5"]
    strips = sorted(path.name for path in (folder / "samples").iterdir())
    assert strips == [f"step_00000{n}_val_{clip}.png" for n in (2, 4, 5) for clip in (0, 1)]
    assert Image.open(folder / "samples" / strips[0]).size == (3 * 24, 24)


def test_sees_averaged_weights_in_eval_mode_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def upscale(self: FakeMethod, clip: Clip, *args: object, **kwargs: object) -> torch.Tensor:
        seen.append((self.training, self.learner.weight.clone()))
        return self._frames(clip.lr).clamp(0, 1)

    monkeypatch.setattr(FakeMethod, "upscale", upscale)
    with_it = trained(tmp_path, "ema.decay=0.9", "validation.every=1", name="with")
    ends = torch.load(with_it / "checkpoints" / "last.ckpt", weights_only=True)
    assert not any(training for training, _ in seen)
    assert torch.equal(seen[-1][1], ends["ema"]["shadow"]["learner.weight"])
    without = trained(tmp_path, "validation.every=0", name="without")
    plain = torch.load(without / "checkpoints" / "last.ckpt", weights_only=True)
    assert torch.equal(ends["state_dict"]["learner.weight"], plain["state_dict"]["learner.weight"])
