import json
import math

import pytest

from vsrbench.analysis.report import gain, loss, mean, plain
from vsrbench.analysis.warping import factor_values, mean_loss


def test_mean_of_nested_records() -> None:
    assert mean([{"a": 1.0, "b": {"c": 2.0}}, {"a": 3.0, "b": {"c": 4.0}}]) == {"a": 2.0, "b": {"c": 3.0}}
    assert mean([{"a": math.inf}, {"a": 1.0}]) == {"a": math.inf}


def test_percentages() -> None:
    assert gain(1.2, 1.0) == pytest.approx(20) and loss(0.8, 1.0) == pytest.approx(20)
    assert loss(1.0, 1.0) == 0


def test_percentages_that_do_not_exist_say_why() -> None:
    assert gain(1.0, 0.0) == loss(1.0, 0.0) == "undefined: the reference is zero"
    assert gain(math.inf, 1.0) == "undefined: one of the two is infinite"


def test_what_reaches_json() -> None:
    assert json.dumps(plain({"a": (1.0, math.inf)}), allow_nan=False) == '{"a": [1.0, "infinite: the two are equal"]}'
    with pytest.raises(ValueError, match="no number"):
        plain({"a": [math.nan]})


def test_mean_over_the_three_operators() -> None:
    before = {"canny": 1.0, "sobel": 0.5, "laplacian": 0.2, "highpass": 9.0}
    after = {"canny": 0.9, "sobel": 0.4, "laplacian": 0.14, "highpass": 1.0}
    assert mean_loss(after, before) == pytest.approx((10 + 20 + 30) / 3)
    assert mean_loss(after, {**before, "canny": 0.0}) == "undefined: the reference is zero"
    found = factor_values({"original": before, "warped": after, "rescaled": before})
    assert found["reduction_percent"] == 0 and found["reduction_direct_percent"] == pytest.approx(20)
    assert found["edge"]["original"] == pytest.approx(1.7 / 3)
