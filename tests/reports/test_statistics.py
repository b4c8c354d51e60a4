"""Statistics on constructed values with known answers."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsrbench.errors import RunError
from vsrbench.reports.statistics import (
    frames_of,
    holm,
    interval,
    mean,
    over_seeds,
    paired,
    sentence,
    sign_flip,
)

numbers = st.floats(-10, 10, allow_nan=False)


def clips(count: int, shift: float = 0.0, frames: int = 5) -> dict[str, list[float]]:
    random = np.random.default_rng(3)
    return {f"c{n}": list(n + random.normal(size=frames) * 0.01 + shift) for n in range(count)}


def test_a_mean_counts_clips_and_not_frames() -> None:
    assert mean({"long": [0.0] * 99, "short": [1.0]}) == 0.5


def test_an_interval_holds_the_mean_and_has_no_width_for_equal_values() -> None:
    assert interval({"a": [2.0, 2.0], "b": [2.0]}) == (2.0, 2.0)
    values = clips(6)
    low, high = interval(values)
    assert low < mean(values) < high


def test_clips_and_not_frames_make_an_interval_narrow() -> None:
    few, many_frames, many_clips = clips(4), clips(4, frames=500), clips(4) | {f"d{n}": [1.5] for n in range(60)}
    width = [high - low for low, high in map(interval, (few, many_frames, many_clips))]
    assert width[1] > 0.8 * width[0] and width[2] < 0.5 * width[0]


def test_the_interval_covers_a_known_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        values = {str(n): [v] for n, v in enumerate(random.normal(size=25))}
        low, high = interval(values, draws=400, seed=trial)
        hits += low <= 0 <= high
    assert 85 <= hits <= 99


@pytest.mark.parametrize(("count", "p"), [(1, 1.0), (2, 0.5), (4, 0.125), (6, 0.03125), (8, 2**-7)])
def test_the_smallest_p_of_so_many_clips(count: int, p: float) -> None:
    assert sign_flip([1.0 + n for n in range(count)]) == p
    found = paired(clips(count, 0.5), clips(count))
    assert found.p == found.smallest == p and found.difference == pytest.approx(0.5)


@given(st.lists(numbers, min_size=1, max_size=8))
def test_a_test_does_not_depend_on_who_is_first(differences: list[float]) -> None:
    p = sign_flip(differences)
    assert 0 < p <= 1 and sign_flip([-d for d in differences]) == p


@given(st.lists(numbers, min_size=2, max_size=7))
def test_counted_signs_are_every_assignment(differences: list[float]) -> None:
    sums = [abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    limit = abs(sum(differences))
    near = [abs(s - limit) < 1e-9 * max(1.0, limit) for s in sums]  # ties within rounding may count or not
    more = sum(s > limit and not tie for s, tie in zip(sums, near, strict=True))
    assert more / len(sums) <= sign_flip(differences) <= (more + sum(near)) / len(sums)


def test_drawn_signs_agree_with_counted_ones() -> None:
    differences = list(np.random.default_rng(1).normal(0.45, 1, size=16))
    counted = [sum(s) for s in np.array(np.meshgrid(*[(-d, d) for d in differences])).reshape(16, -1).T]
    exact = np.mean(np.abs(counted) >= abs(sum(differences)) - 1e-12)
    assert sign_flip(differences) == pytest.approx(exact, abs=0.01)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_a_correction_never_helps(values: list[float]) -> None:
    assert all(after >= before for before, after in zip(values, holm(values), strict=True))


def test_four_clips_cannot_support_a_claim() -> None:
    found = paired(clips(4, 3.0), clips(4))
    assert not found.decidable
    assert sentence(found, found.p, 1).startswith("4 clips cannot support a claim")


def test_sentences() -> None:
    found = paired(clips(8, 0.5), clips(8))
    assert sentence(found, found.p, 1).startswith("better: p = 0.00781")
    assert sentence(found, found.p, -1).startswith("worse")
    assert sentence(found, 0.2, 1) == "no claim: p = 0.2 after Holm's correction"


def test_runs_on_other_clips_are_not_compared() -> None:
    with pytest.raises(RunError, match="c3 is not in both"):
        paired(clips(4), clips(3))
    with pytest.raises(RunError, match="any clip"):
        paired({}, {})


def test_seeds_are_averaged_before_clips_are_compared() -> None:
    joined, spread = over_seeds([{"a": [1.0, 3.0]}, {"a": [4.0]}])
    assert joined == {"a": [3.0]} and spread == pytest.approx(math.sqrt(2))
    assert over_seeds([{"a": [1.0]}])[1] == 0.0
    with pytest.raises(RunError, match="same clips"):
        over_seeds([{"a": [1.0]}, {"b": [1.0]}])


def test_numbers_are_taken_from_a_result() -> None:
    entry: dict[str, Any] = {"mean": 2.0, "frames": [1.0, 3.0, "not_applicable"]}
    result = {"metrics": {"psnr_y": {"clips": {"a": entry, "b": {"mean": {"unavailable": "x"}, "frames": []}}}}}
    assert frames_of(result, "psnr_y") == {"a": [1.0, 3.0]}
    result["metrics"]["psnr_y"]["clips"]["b"] = {"mean": 7.0, "frames": []}
    assert frames_of(result, "psnr_y")["b"] == [7.0]
    with pytest.raises(RunError, match="the result has no fid; it has psnr_y"):
        frames_of(result, "fid")
