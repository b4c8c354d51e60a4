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
    (source,) = find(Settings.of({"set": "folder", "root": str(root), "scale": 4}, degradation), ALL).sources
    assert source.lr_files is None  # made, not taken from another degradation's


def test_deep_frames_of_the_user_are_rounded(tmp_path, settings) -> None:
    import cv2

    for n in range(2):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((16, 16, 3), 1000 * n, dtype=np.uint16))
    (source,) = find(settings("folder", tmp_path), ALL).sources
    assert (source.read(1, 2).hr * 255).round().unique().tolist() == [round(1000 / 257)]
