import math

import pytest

from vsrbench.evaluation.values import NOT_APPLICABLE, mean, number, unavailable


def test_mean_of_numbers():
    assert mean([1.0, 2.0, 6.0]) == 3.0


def test_what_does_not_apply_does_not_count():
    assert mean([NOT_APPLICABLE, 2.0]) == 2.0
    assert mean([NOT_APPLICABLE, NOT_APPLICABLE]) == mean([]) == NOT_APPLICABLE


def test_one_unavailable_value_makes_the_mean_unavailable():
    assert mean([1.0, unavailable("no weights"), 3.0]) == {"unavailable": "no weights"}


@pytest.mark.parametrize(("value", "word"), [(math.inf, "infinite"), (math.nan, "not a number")])
def test_numbers_that_are_not_finite_become_a_reason(value, word):
    reason = number(value, "psnr_y of a/0.png")
    assert isinstance(reason, dict) and "psnr_y of a/0.png" in reason["unavailable"] and word in reason["unavailable"]


def test_a_finite_number_stays():
    assert number(26.1, "x") == 26.1
