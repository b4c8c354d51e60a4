import subprocess
import sys

from vsrbench.data.check import report

SPLITS = {"train": None, "test": {"partition": "reds4", "frames": 2}}


def test_names_what_is_missing_and_the_expected_tree(make_tree, settings) -> None:
    root = make_tree({"train_sharp/000": 100, "train_sharp/011": 5}, size=(8, 8))
    lines, complete = report(settings("reds", root), SPLITS)
    text = "\n".join(lines)
    assert not complete
    assert "test (reds4): 2 clips, 105 frames, LR made from HR" in text
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
