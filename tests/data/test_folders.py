import numpy as np
import pytest

from vsrbench.data.catalog import Settings
from vsrbench.data.degradations import Bicubic, BlurDown
from vsrbench.data.finder import find
from vsrbench.errors import DataError

ALL = {"partition": "all"}


def test_a_folder_of_clips(make_tree, settings) -> None:
    root = make_tree({"b": 3, "a": 2})
    sources = find(settings("folder", root), ALL).sources
    assert [(s.name, s.frames, s.has_hr, s.size) for s in sources] == [
        ("a", 2, True, (12, 16)),
        ("b", 3, True, (12, 16)),
    ]
    assert [s.name for s in find(settings("folder", root), {"partition": ["b"]}).sources] == ["b"]
    with pytest.raises(DataError, match=r"no clip 'c': it has a, b"):
        find(settings("folder", root), {"partition": "c"})


def test_a_folder_of_frames_is_one_clip(make_tree, settings) -> None:
    root = make_tree({"": 3})
    for role, size in (("hr", (12, 16)), ("lr", (48, 64))):
        (source,) = find(settings("folder", root, role=role), ALL).sources
        assert (source.name, source.frames, source.size, source.has_hr) == (root.name, 3, size, role == "hr")
        assert (source.read(0, 1).hr is not None) == (role == "hr")


@pytest.mark.parametrize("clip", ["/x", ""])
def test_hr_with_lr(make_tree, settings, clip: str) -> None:
    root = make_tree({f"GT{clip}": 2})
    make_tree({f"LR{clip}": 2}, size=(12, 16))
    (source,) = find(settings("folder", root), ALL).sources
    assert source.name == (clip.strip("/") or root.name)
    assert source.lr_files is not None
    assert source.read(0, 2).hr.shape[-2:] == (48, 64)
    (made,) = find(settings("folder", root, lr="made"), ALL).sources
    assert made.lr_files is None


def test_lr_alone(make_tree, settings) -> None:
    root = make_tree({"BIx4/x": 2})
    (source,) = find(settings("folder", root), ALL).sources
    assert not source.has_hr
    with pytest.raises(DataError, match=r"data.lr=made does not fit .* no HR"):
        find(settings("folder", root, lr="made"), ALL)


def test_what_cannot_be_a_clip(make_tree, settings, tmp_path) -> None:
    with pytest.raises(DataError, match=r"no folder"):
        find(settings("folder", tmp_path / "absent"), ALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither frames nor clips"):
        find(settings("folder", tmp_path / "empty"), ALL)
    root = make_tree({"": 1, "a": 1})
    with pytest.raises(DataError, match=r"frames .*and folders"):
        find(settings("folder", root), ALL)


@pytest.mark.parametrize(
    ("degradation", "taken"), [(Bicubic(), "BIx4"), (BlurDown(), "BDx4"), (BlurDown("duf"), "blur4")]
)
def test_lr_folders_belong_to_one_degradation(make_tree, degradation, taken: str) -> None:
    root = make_tree({"GT/x": 2})
    for name in ("BIx4", "BDx4", "blur4"):
        make_tree({f"{name}/x": 2}, size=(12, 16))
    (source,) = find(Settings.of({"set": "folder", "root": str(root), "scale": 4}, degradation), ALL).sources
    assert source.lr_files.folder == str(root / taken / "x")
    for path in (root / taken / "x").iterdir():
        path.unlink()
    (root / taken / "x").rmdir()
    (root / taken).rmdir()
    with pytest.raises(DataError, match=r"smaller pictures of the same names .* not read: .* data\.lr=made"):
        find(Settings.of({"set": "folder", "root": str(root), "scale": 4}, degradation), ALL)
    node = {"set": "folder", "root": str(root), "scale": 4, "lr": "made"}
    assert find(Settings.of(node, degradation), ALL).sources[0].lr_files is None


def test_deep_frames_of_the_user_are_rounded(tmp_path, settings) -> None:
    import cv2

    for n in range(2):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((16, 16, 3), 1000 * n, dtype=np.uint16))
    (source,) = find(settings("folder", tmp_path), ALL).sources
    assert (source.read(1, 2).hr * 255).round().unique().tolist() == [round(1000 / 257)]


# --- trees as people lay them out ----------------------------------------------------------------

PAIRS = [
    ("GT/{}", "LQ/{}"), ("gt/{}", "lq/{}"), ("HR/{}", "LR/{}"), ("hr/{}", "lr/{}"), ("original/{}", "input/{}"),
    ("Truth/{}", "bix4/{}"), ("sharp/{}", "X4/{}"), ("target/{}", "LRx4/{}"), ("GT/{}", "matlabLRx4/{}"),
]  # fmt: skip


@pytest.mark.parametrize("clip", ["x", ""])
@pytest.mark.parametrize(("hr", "lr"), PAIRS)
def test_folders_that_people_name_so_are_read(make_tree, settings, hr: str, lr: str, clip: str) -> None:
    root = make_tree({hr.format(clip).rstrip("/"): 2})
    make_tree({lr.format(clip).rstrip("/"): 2}, size=(12, 16))
    (source,) = find(settings("folder", root), ALL).sources
    assert source.has_hr and source.lr_files is not None and source.size == (12, 16)


@pytest.mark.parametrize(
    ("name", "hr", "lr", "remedy"),
    [
        ("folder", "GT/{}", "Gaussian4xLR/{}", "data.lr=made"),
        ("folder", "GT/{}", "BDx4/{}", "choose the degradation"),
        ("vid4", "GT/{}", "LQ/{}", "rename it"),
        ("vid4", "GT/{}", "Gaussian4xLR/{}", "rename it"),
        ("vid4", "original/{}", "input/{}", "rename it"),
        ("vid4", "{}/truth", "{}/input", "rename it"),
        ("vid4", "GT/{}", "BDx4/{}", "choose their degradation"),
        ("udm10", "GT/{}", "BDx4/{}", "choose their degradation"),
    ],
)
def test_lr_that_is_not_read_is_never_made_without_a_word(
    make_tree, settings, name: str, hr: str, lr: str, remedy: str
) -> None:
    clip = "archwall" if name == "udm10" else "city"
    root = make_tree({hr.format(clip): 2}, name="{:04d}.png")
    make_tree({lr.format(clip): 2}, size=(12, 16), name="{:04d}.png")
    with pytest.raises(DataError, match=remedy):
        find(settings(name, root), {"partition": clip})
    assert find(settings(name, root, lr="made"), {"partition": clip}).sources[0].lr_files is None


def test_full_size_folders_beside_hr_are_left_alone(make_tree, settings) -> None:
    root = make_tree({"GT/x": 2, "train_blur/x": 2, "masks/x": 2})
    assert find(settings("folder", root), ALL).sources[0].lr_files is None


def test_two_spellings_of_one_name_are_refused(make_tree, settings) -> None:
    root = make_tree({"GT/x": 2, "gt/x": 2})
    with pytest.raises(DataError, match="two spellings"):
        find(settings("folder", root), ALL)


@pytest.mark.parametrize("deeper", ["vid4", "download/vid4", ".."])
def test_the_root_that_would_work_is_named(make_tree, settings, deeper: str) -> None:
    root = make_tree({"GT/city": 2} if deeper == ".." else {f"{deeper}/GT/city": 2}, name="{:08d}.png")
    given = root / "GT" / "city" if deeper == ".." else root
    with pytest.raises(DataError, match=r"did you mean data\.root=") as error:
        find(settings("vid4", given), {"partition": "city"})
    named = str(error.value).rpartition("data.root=")[2].rstrip("?")
    assert find(settings("vid4", named), {"partition": "city"}).sources


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_that_windows_saved_are_read(make_tree, settings, encoding: str) -> None:
    root = make_tree({"sequences/00001/0266": 7}, name="im{}.png", first=1)
    (root / "sep_testlist.txt").write_bytes("00001/0266\r\n".encode(encoding))
    assert find(settings("vimeo", root), {"partition": "sep_testlist"}).sources[0].name == "00001/0266"
