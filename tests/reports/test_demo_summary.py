from pathlib import Path

import pytest

from vsrbench.reports.demo import CONSISTENCY, PSNR_Y, Row, comparison, outcome, trend, verdict


def row(label: str, psnr: object, ssim: object = 0.8, consistency: object = 1.0, clips: tuple = ()) -> Row:
    means = {"psnr_y": psnr, "ssim_y": ssim, "consistency": consistency}
    per_clip = {str(n): {**means, "psnr_y": value} for n, value in enumerate(clips or (psnr,))}
    return Row(label, Path(), {}, means, per_clip)


@pytest.mark.parametrize(("a", "b"), [(27.0, 26.0), (26.0, 27.0), (27.001, 27.002)])
def test_an_outcome_turns_round_with_its_arguments(a: float, b: float) -> None:
    assert outcome(a, b, PSNR_Y) == -outcome(b, a, PSNR_Y)
    assert outcome(a, b, CONSISTENCY) in (0, -outcome(a, b, PSNR_Y), -1, 1)


def test_lower_is_better_where_the_measure_says_so() -> None:
    assert outcome(1.0, 2.0, CONSISTENCY) == 1 and outcome(1.0, 2.0, PSNR_Y) == -1


def test_what_looks_the_same_is_called_the_same() -> None:
    assert outcome(27.001, 27.002, PSNR_Y) == 0
    text = comparison(row("A", 27.001), row("B", 27.002))
    assert "PSNR-Y the same (better in 0 of 1 clips)" in text


def test_the_words_follow_the_numbers() -> None:
    good, bad = row("A", 27.5, 0.9, 0.5, clips=(28.0, 27.0)), row("B", 27.1, 0.8, 0.9, clips=(27.0, 27.2))
    assert comparison(good, bad).startswith(
        "A against B: PSNR-Y better by 0.40 dB (better in 1 of 2 clips); SSIM-Y better"
    )
    assert comparison(bad, good).startswith(
        "B against A: PSNR-Y worse by 0.40 dB (better in 1 of 2 clips); SSIM-Y worse"
    )
    assert verdict(good, [bad]) == "A is better than B in 3 of 3 measures."
    assert verdict(bad, [good]) == "B is better than A in 0 of 3 measures."


def test_values_that_are_no_numbers_are_not_compared() -> None:
    a, b = row("A", "not_applicable"), row("B", {"unavailable": "infinite"})
    assert "PSNR-Y cannot be compared" in comparison(a, b)
    assert verdict(a, [b]) == "A is better than B in 0 of 2 measures (the same in 2)."


def test_the_trend_is_read_from_the_losses() -> None:
    falling = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert trend(falling).startswith("The mean loss fell from 1 ")
    assert trend(falling[::-1]).startswith("The mean loss rose from 0.5 ")
    assert trend([0.5]).startswith("The mean loss stayed")
