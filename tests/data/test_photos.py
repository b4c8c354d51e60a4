import numpy as np
import pytest
from PIL import Image

from vsrbench.data.finder import find
from vsrbench.data.paths import Paths, random_scene
from vsrbench.data.photos import album
from vsrbench.data.renderer import render
from vsrbench.data.sampling import generator
from vsrbench.data.trees import load_list
from vsrbench.errors import ConfigError, DataError


@pytest.fixture
def photographs(make_tree):
    root = make_tree({"": 3}, size=(120, 160), name="photo{}.png")
    make_tree({"validation": 2}, size=(200, 210), name="held{}.jpg")
    return root


def test_an_album_lists_one_folder_without_its_subfolders(photographs) -> None:
    pictures = album(photographs)
    assert [pictures.stem(n) for n in range(len(pictures))] == ["photo0", "photo1", "photo2"]
    assert pictures[1] is pictures[1]
    with pytest.raises(DataError, match=r"no photographs"):
        album(photographs.joinpath("none").mkdir() or photographs / "none")
    with pytest.raises(DataError, match=r"no folder"):
        album(photographs / "absent")


def test_random_paths_stay_inside_and_differ(photographs) -> None:
    """Whatever is drawn can be rendered; photographs hardly larger than the frame make the path slower."""
    pictures = album(photographs)
    seen = set()
    for key in range(60):
        scene = random_scene(pictures, key % 3, (112, 128), range(3), Paths(things=0.5), generator(key))
        assert render(scene, range(3), (112, 128), 4).hr.shape == (3, 3, 112, 128)
        seen.add(scene.camera)
    assert len(seen) == 60


def test_a_photograph_smaller_than_the_frame(photographs) -> None:
    with pytest.raises(DataError, match=r"photo0.png has 160x120 pixels, too few for frames of 256x256"):
        random_scene(album(photographs), 0, (256, 256), [0], Paths(), generator(0))


def test_ranges_are_checked() -> None:
    assert Paths.of({"zoom": [1, 2]}).zoom == (1, 2)
    with pytest.raises(ConfigError, match=r"data.motion has the keys shift, zoom"):
        Paths.of({"speed": 3})
    with pytest.raises(ConfigError, match=r"zoom"):
        Paths.of({"zoom": [2, 1]})
    for key, value in [("zoom", [1]), ("zoom", ["a", "b"]), ("shift", -3), ("spin", "x")]:
        with pytest.raises(ConfigError, match=rf"data\.motion\.{key}="):
            Paths.of({key: value})


def test_sample_photographs_are_in_one_partition_only() -> None:
    book = load_list("sample")
    used = {"train": set(book["train"]["photos"])}
    for part in ("val", "test"):
        clips = book[part]["clips"].values()
        used[part] = {c["photo"] for c in clips} | {c["thing"]["photo"] for c in clips if "thing" in c}
    assert not used["train"] & used["test"]
    assert not used["train"] & used["val"]
    assert not used["val"] & used["test"]


@pytest.mark.parametrize("partition", ["val", "test"])
def test_sample_clips_have_flow_and_any_range_can_be_read(settings, partition: str) -> None:
    for source in find(settings("sample"), {"partition": partition}).sources:
        whole = source.read(0, source.frames)
        part, window = source.read(2, 4), whole.window(2, 4)
        assert whole.hr.shape == (1, source.frames, 3, 192, 320)
        assert part.lr.equal(window.lr)
        assert part.flow_forward.equal(window.flow_forward)
        assert part.occlusion.equal(window.occlusion)
        assert part.index.tolist() == [[2, 3]]
        assert 0.1 < whole.flow_forward.abs().max() < 8
        assert whole.occlusion.float().mean() < 0.25


def test_sample_at_other_scales_and_sizes(settings) -> None:
    (source, *_) = find(settings("sample", frame_size=[128, 160], scale=8), {"partition": "test"}).sources
    assert source.size == (16, 20)
    assert source.read(0, 2).lr.shape[-2:] == (16, 20)
    with pytest.raises(ConfigError, match=r"multiples of scale=4"):
        find(settings("sample", frame_size=[130, 160]), {"partition": "test"})
    with pytest.raises(DataError, match=r"no partition 'tset': it has train, val, test"):
        find(settings("sample"), {"partition": "tset"})


def test_a_users_photographs(photographs, settings) -> None:
    reading = settings("photos", photographs, frame_size=[96, 96])
    assert len(find(reading, {"partition": "."}).photos) == 3
    clips = find(reading, {"partition": "validation"}).sources
    assert [c.name for c in clips] == ["held0", "held1"]
    assert clips[0].read(1, 3).lr.equal(clips[0].read(0, 3).window(1, 3).lr)
    assert not np.array_equal(clips[0].read(0, 1).lr, clips[1].read(0, 1).lr)
    with pytest.raises(DataError, match=r"no folder .*test.*data.splits.val=null"):
        find(reading, {"partition": "test"})


def test_a_broken_photograph_is_named(photographs) -> None:
    (photographs / "photo1.png").write_bytes((photographs / "photo1.png").read_bytes()[:900])
    with pytest.raises(DataError, match=r"photo1.png"):
        album(photographs)[1]
    Image.new("RGBA", (8, 8)).save(photographs / "photo2.png")
    with pytest.raises(DataError, match=r"photo2.png is RGB with alpha"):
        album(photographs)[2]
