from dataclasses import replace

import pytest
import torch

from vsrbench.data.degradations import Bicubic
from vsrbench.data.finder import find
from vsrbench.data.paths import Paths
from vsrbench.data.photos import album
from vsrbench.data.samples import ClipSamples, PhotoSamples, Recipe
from vsrbench.errors import ConfigError, DataError
from vsrbench.types import Clip

RECIPE = Recipe(crop=8, frames=3, batch=2, flip=True, flip_vertical=True, time_reversal=True, stride=(1, 2))


@pytest.fixture
def clips(make_tree, settings):
    root = make_tree({"train_sharp/000": 6, "train_sharp/001": 4})
    return find(settings("reds", root), {"partition": ["000", "001"]}).sources


@pytest.fixture
def photos(make_tree):
    return album(make_tree({"": 2}, size=(80, 90)))


def samples(kind: str, clips, photos, recipe: Recipe = RECIPE, seed: int = 1):
    if kind == "photos":
        return PhotoSamples(photos, Paths(things=0.5), recipe, seed, 4, Bicubic())
    return ClipSamples(clips, recipe, seed, every_frame=kind == "frames")


def same(one: Clip, other: Clip) -> bool:
    return one.name == other.name and one.lr.equal(other.lr) and one.hr.equal(other.hr) and one.index.equal(other.index)


@pytest.mark.parametrize("kind", ["frames", "clips", "photos"])
def test_a_sample_depends_on_seed_and_number_alone(kind: str, clips, photos) -> None:
    ones, others = samples(kind, clips, photos), samples(kind, clips, photos)
    forward = [ones[k] for k in range(25)]
    backward = [others[k] for k in reversed(range(25))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert not all(same(forward[k], samples(kind, clips, photos, seed=2)[k]) for k in range(5))


@pytest.mark.parametrize("kind", ["frames", "clips", "photos"])
def test_a_sample_is_a_pair_that_knows_where_it_comes_from(kind: str, clips, photos) -> None:
    drawn = [samples(kind, clips, photos)[k] for k in range(40)]
    for k, sample in enumerate(drawn):
        assert sample.lr.shape == (1, 3, 3, 8, 8)
        assert sample.hr.shape == (1, 3, 3, 32, 32)
        assert sample.name[0].endswith(f"#{k}")
        (steps,) = {tuple(row.diff().tolist()) for row in sample.index}
        assert steps in {(1, 1), (2, 2), (-1, -1), (-2, -2)}
    assert len({tuple(s.index[0].diff().tolist()) for s in drawn}) == 4
    assert all((s.flow_forward is not None) == (kind == "photos") for s in drawn)


def test_crops_show_the_frames_that_they_name(clips) -> None:
    """Every sample is found in its source, mirrored or not, at one place in LR and HR."""
    data = ClipSamples(clips, Recipe(crop=8, frames=3, batch=1, flip=False), 3, every_frame=True)
    frames = {s.name: s.read(0, s.frames) for s in clips}
    for k in range(12):
        sample = data[k]
        whole = frames[sample.name[0].split("#")[0]]
        position = int(sample.index[0, 0])
        patches = whole.lr[0, position].unfold(1, 8, 1).unfold(2, 8, 1)
        match = (patches == sample.lr[0, 0][:, None, None]).all(-1).all(-1).all(0).nonzero()
        assert len(match) == 1
        y, x = match[0].tolist()
        assert sample.hr[0, 0].equal(whole.hr[0, position][:, 4 * y : 4 * y + 32, 4 * x : 4 * x + 32])


def test_an_epoch_counts_frames_or_clips(clips, photos) -> None:
    assert len(samples("frames", clips, photos)) == 10
    assert len(samples("clips", clips, photos)) == 2
    assert len(samples("clips", clips, photos, Recipe(8, 3, 2, samples_per_epoch=7))) == 7
    assert len({samples("photos", clips, photos)[k].name[0].split("#")[0] for k in range(10)}) == 2


def test_every_frame_starts_a_sample_where_it_can(clips, photos) -> None:
    data = samples("frames", clips, photos, Recipe(8, 3, 2, stride=(1,)))
    starts = {(s.name[0].split("#")[0], int(s.index[0, 0])) for s in map(data.__getitem__, range(10))}
    assert starts == {("000", n) for n in range(4)} | {("001", n) for n in range(2)}


def test_samples_of_clips_start_at_any_frame_and_lie_at_any_place(clips, photos) -> None:
    """The last frame and the last row and column included: 3 of 6 and 5 frames, 11 of 12 x 16 pixels."""
    data = samples("clips", clips, photos, Recipe(11, 3, 2))
    found = [data[k] for k in range(60)]
    starts = {(s.name[0].split("#")[0], int(s.index.min())) for s in found}
    assert starts == {(clip.name, n) for clip in clips for n in range(clip.frames - 2)}
    places = [data._window(clips[0], (0, 0, k)) for k in range(120)]
    assert {(place.y, place.x) for place in places} == {(y, x) for y in range(2) for x in range(6)}


def test_clips_that_cannot_give_samples(clips, photos) -> None:
    assert {s.name for s in samples("clips", clips, photos, Recipe(8, 5, 2)).sources} == {"000"}
    with pytest.raises(DataError, match=r"spans 7 frames, the longest clip has 6"):
        samples("clips", clips, photos, Recipe(8, 7, 2))
    with pytest.raises(DataError, match=r"train.crop=13 is larger than the LR frames of clip 00.: 16x12"):
        samples("clips", clips, photos, Recipe(13, 3, 2))[0]


def test_training_needs_ground_truth(make_tree, settings) -> None:
    blind = find(settings("folder", make_tree({"LR/a": 3})), {"partition": "all"}).sources
    with pytest.raises(DataError, match=r"training needs HR frames, clip a has none"):
        ClipSamples(blind, RECIPE, 1, every_frame=True)


def test_recipes_are_checked() -> None:
    good = {"crop": 8, "frames": 3, "batch": 2, "stride": [1, 2], "effective_batch": None}
    assert Recipe.of(good) == Recipe(8, 3, 2, stride=(1, 2))
    for key, value in [
        ("crop", 0),
        ("frames", None),
        ("batch", 1.5),
        ("stride", [0]),
        ("stride", 2),
        ("stride", ["x"]),
        ("samples_per_epoch", 0),
        ("pool", 1.5),
    ]:
        with pytest.raises(ConfigError, match=f"train.{key}="):
            Recipe.of({**good, key: value})


def test_rendered_pairs_fit_each_other(clips, photos) -> None:
    data = PhotoSamples(photos, Paths(), Recipe(8, 2, 1, flip=False), 1, 4, Bicubic())
    sample = data[0]
    hr = (sample.hr[0] * 255).round().to(torch.uint8)
    assert (sample.lr[0] * 255).round().to(torch.uint8).equal(Bicubic()(hr, 4))


@pytest.mark.parametrize("kind", ["frames", "clips", "photos"])
def test_a_pool_of_samples_comes_again_and_again(kind: str, clips, photos) -> None:
    pooled = samples(kind, clips, photos, replace(RECIPE, pool=3))
    ever_new = samples(kind, clips, photos)
    for k in range(8):
        assert same(pooled[k], ever_new[k % 3])


def test_a_pool_has_a_sample_at_least() -> None:
    with pytest.raises(ConfigError, match=r"train\.pool=0: give a whole number from 1, or null"):
        Recipe.of({"crop": 8, "frames": 3, "batch": 2, "pool": 0})


def test_centre_crops_are_the_middle_of_the_frame(clips, photos) -> None:
    still = replace(RECIPE, flip=False, flip_vertical=False, time_reversal=False)
    drawn = samples("clips", clips, photos, replace(still, centre_crop=True))
    for number in range(8):
        clip = drawn[number]
        source = next(s for s in clips if clip.name[0].startswith(f"{s.name}#"))
        whole = source.load(clip.index[0].tolist())
        top, left = (side // 2 - 4 for side in source.size)
        assert clip.lr.equal(whole.lr[..., top : top + 8, left : left + 8])
        assert clip.hr.equal(whole.hr[..., 4 * top : 4 * top + 32, 4 * left : 4 * left + 32])
    with pytest.raises(ConfigError, match=r"train\.centre_crop=true"):
        samples("photos", clips, photos, replace(RECIPE, centre_crop=True))
