import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vsrbench.data.check import report
from vsrbench.data.trees import SETS, load_list

SPLITS = {"train": None, "test": {"partition": "reds4", "frames": 2}}


def test_names_what_is_missing_and_the_expected_tree(make_tree, settings) -> None:
    root = make_tree({"train_sharp/000": 100, "train_sharp/011": 5}, size=(8, 8))
    lines, complete = report(settings("reds", root), SPLITS)
    text = "\n".join(lines)
    assert not complete
    assert "test (reds4): 2 of 4 clips, 105 of 400 frames, LR made from HR" in text
    assert "absent: 015, 020" in text
    assert "cut short: 011 (5 of 100)" in text
    assert "frames of 8x8; the data set's are 1280x720" in text
    assert "train_sharp_bicubic/X4" in text


def test_broken_data_are_part_of_the_report(make_tree, settings) -> None:
    root = make_tree({"train_sharp/000": 5})
    (root / "train_sharp/000/00000003.png").unlink()
    lines, complete = report(settings("reds", root), SPLITS)
    assert not complete
    assert "00000003.png is missing" in "\n".join(lines)


def test_complete_data(settings) -> None:
    lines, complete = report(settings("sample"), {"train": {"partition": "train"}, "test": {"partition": "test"}})
    assert complete
    assert "photographs" in lines[1]


def test_the_command_says_by_its_exit_code(make_tree) -> None:
    root = make_tree({"train_sharp/000": 5})
    command = [sys.executable, "-m", "vsrbench.data", "check", "data=reds", f"data.root={root}"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 1, told.stderr
    assert "absent: 011, 015, 020" in told.stdout


ALL = {"test": {"partition": "all", "frames": 2}}


@pytest.mark.parametrize("name", SETS)
def test_without_a_root_partitions_and_the_expected_tree_are_shown(settings, name: str) -> None:
    lines, complete = report(settings(name), {"test": {"partition": "all"}})
    assert not complete
    assert "give data.root=DIR to see what of it is there" in lines
    assert any(frame in lines[-1] for frame in ("00000000.png", "0000.png", "im1.png"))
    counts = {
        "reds": "reds4: 4 clips, 400 frames",
        "vimeo": "videogigagan_test: 7824 clips, 54768 frames",
        "vid4": "all: 4 clips, 171 frames",
        "udm10": "videogigagan_test: 10 clips, 320 frames",
        "videolq": "dgaf_test: 50 clips",
    }
    assert counts[name] in lines


def test_a_complete_set_has_all_its_clips_and_frames(make_tree, settings) -> None:
    root = make_tree({f"GT/{clip}": 32 for clip in load_list("udm10")["clips"]}, size=(8, 8), name="{:04d}.png")
    lines, complete = report(settings("udm10", root), ALL)
    assert complete
    assert "test (all): 10 of 10 clips, 320 of 320 frames, LR made from HR" in lines
    assert "  frames of 8x8; the data set's are 1272x720" in lines


def test_clips_of_unpublished_length_are_counted(make_tree, settings) -> None:
    root = make_tree({"000": 3, "001": 5}, size=(4, 6))
    lines, complete = report(settings("videolq", root, lr="disk"), ALL)
    assert not complete
    assert "test (all): 2 of 50 clips, 8 frames, LR without HR" in lines
    assert "  lengths are not published: a clip of up to 100 frames counts as complete" in lines


def test_lr_of_another_degradation_is_pointed_out(make_tree, settings) -> None:
    root = make_tree({"city/truth": 2})
    make_tree({"city/blur4": 2}, size=(12, 16))
    text = "\n".join(report(settings("vid4", root), ALL)[0])
    assert f"{root}/city/blur4 holds LR frames of blur_down_duf, and there are none of bicubic" in text
    text = "\n".join(report(settings("vid4", root, lr="made"), ALL)[0])
    assert f"LR of other degradations, not used with bicubic: {root}/city/blur4 (blur_down_duf)" in text
    assert "LR made from HR" in text


def test_every_file_is_looked_at(make_tree, settings) -> None:
    """Headers and ends of all frames: another size, another kind, a download that broke off."""
    root = make_tree({"GT/city": 34}, size=(16, 16)) / "GT/city"
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise[:8]).save(root / "00000003.png")
    Image.fromarray(noise).convert("RGBA").save(root / "00000005.png")
    (root / "00000007.png").write_bytes((root / "00000006.png").read_bytes()[:-20])
    (root / "00000009.png").write_text("<html>not found</html>")
    text = "\n".join(report(settings("vid4", root.parents[1]), {"test": {"partition": "city"}})[0])
    assert f"broken: {root}/00000003.png is 16x8, the clip's first frame is 16x16" in text
    assert f"broken: {root}/00000005.png is RGB with alpha" in text
    assert f"broken: {root}/00000007.png: it is cut off" in text
    assert f"broken: cannot read {root}/00000009.png" in text
    assert text.count("broken:") == 4


def test_many_broken_files_are_counted(make_tree, settings) -> None:
    root = make_tree({"GT/city": 34}, size=(16, 16))
    for n in range(20):
        (root / f"GT/city/{n + 10:08d}.png").write_bytes(b"")
    lines, complete = report(settings("vid4", root), {"test": {"partition": "city"}})
    assert not complete
    assert "  broken: 12 more files" in lines
