import pytest

from vsrbench.errors import RunError
from vsrbench.reports.tables import comparison

VALUES = {"psnr_y": 26.0, "consistency": 0.5}


def test_two_methods(make_run) -> None:
    told = comparison([make_run("dgaf", {**VALUES, "psnr_y": 27.0})], [make_run("ldm", VALUES)])
    assert "**Against diffusion baseline**" in told and "+1.00 [+1.00, +1.00]" in told
    assert "2 clips cannot support a claim" in told


def test_many_clips_support_one(make_run) -> None:
    clips = {f"clip{n}": 4 for n in range(10)}
    better = {clip: 27.0 + n / 10 for n, clip in enumerate(clips)}
    told = comparison(
        [make_run("dgaf", {"psnr_y": better}, clips=clips)], [make_run("ldm", {"psnr_y": 26.0}, clips=clips)]
    )
    assert "better: p = 0.00195 after Holm's correction, 10 clips" in told


def test_several_seeds_are_one_side(make_run) -> None:
    a = [make_run(f"s{n}", {**VALUES, "psnr_y": 26.0 + n}, settings={"seed": n}, method="dgaf") for n in (1, 3)]
    assert "± 1.41 over 2 seeds" in comparison(a, [make_run("ldm", VALUES)])


def test_the_same_method_twice_is_told_apart(make_run) -> None:
    told = comparison([make_run("one", VALUES, method="dgaf")], [make_run("two", VALUES, method="dgaf")])
    assert "DGAF-VSR (one)" in told and "Against DGAF-VSR (two)" in told


def test_unequal_terms_and_mixed_sides_are_refused(make_run) -> None:
    first, second = make_run("dgaf", VALUES), make_run("ldm", VALUES, protocol={"hash": "f" * 16})
    with pytest.raises(RunError, match="cannot be compared"):
        comparison([first], [second])
    with pytest.raises(RunError, match="seed alone; here are diffusion baseline, DGAF-VSR"):
        comparison([first, make_run("ldm2", VALUES, method="ldm")], [make_run("bicubic", VALUES)])
