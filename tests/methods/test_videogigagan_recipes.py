"""The trainings of VideoGigaGAN and BasicVSR++ on the papers' data sets, on trees of a few clips."""

from pathlib import Path
from typing import Any

import pytest
import torch

import latent
from conftest import Tree
from vsrbench import train
from vsrbench.config import compose
from vsrbench.diffusion.noise import Noise
from vsrbench.methods.videogigagan.module import VideoGigaGANModule
from vsrbench.training.loggers import read_metrics
from vsrbench.types import Clip


@pytest.mark.parametrize(
    ("recipe", "data", "degradation", "frames", "mirror", "steps", "reversal"),
    [
        ("videogigagan/reds_bi", "reds", "bicubic", 10, None, 100_000, True),
        ("videogigagan/vimeo_bi", "vimeo", "bicubic", 7, 10, 100_000, True),
        ("videogigagan/vimeo_bd", "vimeo", "blur_down", 7, 10, 100_000, True),
        ("basicvsrpp/reds_bi", "reds", "bicubic", 30, False, 600_000, False),
        ("basicvsrpp/vimeo_bi", "vimeo", "bicubic", 7, True, 300_000, False),
        ("basicvsrpp/vimeo_bd", "vimeo", "blur_down", 7, True, 300_000, False),
    ],
)
def test_recipes(
    recipe: str, data: str, degradation: str, frames: int, mirror: Any, steps: int, reversal: bool
) -> None:
    given = [f"method={recipe.partition('/')[0]}", "size=paper", f"recipe={recipe}"]
    cfg = compose(given)
    assert (cfg.data.set, cfg.data.degradation.name) == (data, degradation)
    assert (cfg.train.frames, cfg.method.mirror) == (frames, mirror)
    assert (cfg.trainer.max_steps, cfg.train.time_reversal) == (steps, reversal)
    if recipe == "videogigagan/reds_bi":
        assert cfg.data.splits.train.partition == "videogigagan_train"
    assert compose([*given, "train.frames=3"]).train.frames == 3


def numbered(frames: int, hr: bool = False) -> Clip:
    """Frame t is t / 10 everywhere."""
    lr = torch.arange(frames).view(1, -1, 1, 1, 1).expand(-1, -1, 3, 16, 16) / 10
    large = lr.repeat(1, 1, 1, 4, 4) if hr else None
    return Clip(lr.clone(), large, ["a"], torch.arange(frames)[None], 4)


@pytest.mark.parametrize(
    ("frames", "mirror", "order"),
    [
        (7, 10, [0, 1, 2, 3, 4, 5, 6, 6, 5, 4]),
        (2, 7, [0, 1, 1, 0, 0, 1, 1]),
        (7, 7, [0, 1, 2, 3, 4, 5, 6]),
        (3, None, [0, 1, 2]),
        (1, 10, [0]),
    ],
)
def test_short_clips_go_on_in_reverse(frames: int, mirror: int | None, order: list[int]) -> None:
    made = latent.method("videogigagan", f"method.mirror={'null' if mirror is None else mirror}")
    seen = made.pad_time(numbered(frames, hr=True))
    assert seen.index.tolist() == [order]
    for tensor in (seen.lr, seen.hr):
        assert torch.allclose(tensor[0, :, 0, 0, 0], torch.tensor(order) / 10)


def test_a_mirrored_clip_is_upscaled_as_its_longer_self() -> None:
    made = latent.method("videogigagan", "method.mirror=5", "method.chunk=10")
    clip = numbered(3)
    both = made.pad_time(clip)
    found = made.upscale(clip, Noise(0))
    made.mirror = None
    assert found.shape[1] == 3
    assert torch.equal(found, made.upscale(both, Noise(0))[:, :3])
    long = numbered(6)
    plain = made.upscale(long, Noise(0))
    made.mirror = 5
    assert torch.equal(plain, made.upscale(long, Noise(0)))


def vimeo(make_tree: Tree) -> Path:
    """Septuplets as they are downloaded: two to train on, one to test on."""
    clips = {f"sequences/00001/000{n}": 7 for n in (1, 2, 3)}
    root = make_tree(clips, size=(64, 112), name="im{}.png", first=1)
    (root / "sep_trainlist.txt").write_text("00001/0001\n00001/0002\n")
    (root / "sep_testlist.txt").write_text("00001/0003\n")
    return root


@pytest.mark.parametrize("recipe", ["vimeo_bi", "vimeo_bd"])
def test_both_stages_train_on_vimeo(
    recipe: str, make_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of docs/videogigagan.md; the video stage sees ten frames of the seven."""
    judged: list[int] = []
    plain = VideoGigaGANModule.output_terms

    def terms(self: VideoGigaGANModule, frames: Any, hr: Any, logits: Any) -> Any:
        judged.append(frames.shape[1])
        return plain(self, frames, hr, logits)

    monkeypatch.setattr(VideoGigaGANModule, "output_terms", terms)
    common = [
        "method=videogigagan", "size=tiny", f"recipe=videogigagan/{recipe}", f"data.root={vimeo(make_tree)}",
        "data.workers=0", "train.crop=8", "train.effective_batch=1", "trainer.accelerator=cpu", "trainer.max_steps=2",
        "trainer.log_every_n_steps=1", "validation.strips=0", f"runs={tmp_path}",
    ]  # fmt: skip
    train.run(compose([*common, "stage=image", "name=image"]))
    train.run(compose([*common, "stage=video", "name=video", f"ckpt_path={tmp_path / 'image'}"]))
    assert judged == [1, 1, 10, 10]
    rows = read_metrics(tmp_path / "video" / "metrics.csv")
    assert [float(row["train/loss_pixel"]) > 0 for row in rows if row["train/loss_pixel"]] == [True, True]
    assert (tmp_path / "video" / "result.json").is_file()


def test_basicvsrpp_trains_on_vimeo(make_tree: Tree, tmp_path: Path) -> None:
    train.run(
        compose([
            "method=basicvsrpp", "size=tiny", "recipe=basicvsrpp/vimeo_bd", f"data.root={vimeo(make_tree)}",
            "data.workers=0", "train.crop=8", "train.effective_batch=1", "trainer.accelerator=cpu",
            "trainer.max_steps=1", "validation.strips=0", f"runs={tmp_path}", "name=run",
        ])
    )  # fmt: skip
    assert (tmp_path / "run" / "result.json").is_file()
