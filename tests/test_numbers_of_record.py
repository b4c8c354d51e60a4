"""Recorded numbers do not move: sections that take minutes are slow tests; the comparison itself is tested here."""

import json
from pathlib import Path

import pytest

from numbers_of_record import differences, measure

RECORDED = Path(__file__).with_name("recorded_numbers.json")
TOLERANCE = 2e-3  # other processors round otherwise, and 20 steps of training enlarge that


@pytest.mark.slow
@pytest.mark.parametrize("section", ["recordings", "cost", "training", "sample"])
def test_no_number_moved(section: str) -> None:
    numbers = dict(measure([section], None))
    assert numbers
    assert differences(json.loads(RECORDED.read_text()), numbers, TOLERANCE) == []


@pytest.mark.slow
def test_no_number_of_real_video_moved(shared: Path) -> None:
    numbers = dict(measure(["vid4"], str(shared / "material" / "vid4")))
    assert differences(json.loads(RECORDED.read_text()), numbers, TOLERANCE) == []


def test_a_number_that_moved_is_named() -> None:
    before = json.loads(RECORDED.read_text())
    assert differences(before, before, 0.0) == []
    name = "sample/dgaf/psnr_y"
    assert differences(before, before | {name: before[name] + 0.2}, TOLERANCE)[0].startswith(name)
    weights = "training/tiny/dgaf/guide"
    other = before[weights] | {"sha256": "0"}
    assert len(differences(before, before | {weights: other}, 0.0)) == 1
    assert differences(before, before | {weights: other}, TOLERANCE) == []
    fewer = {key: value for key, value in before.items() if key != name}
    assert differences(before, fewer, 0.0) == [f"{name}: not measured any more"]
