"""Numbers of a configuration below their least."""

import pytest

from vsrbench.errors import ConfigError
from vsrbench.nn.limits import check_least

LEAST = {"heads": 1, "depth": 0, "widths": 1, "weight": 0.0}


def test_what_fits_and_what_is_absent_passes() -> None:
    check_least("method", {"heads": 1, "depth": 0, "widths": [8, 1], "weight": 0, "other": -1}, LEAST)
    check_least("method", {"heads": None, "widths": [], "weight": 0.5}, LEAST)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 0}, r"method.x.heads=0: use a whole number from 1$"),
        ({"heads": 1.5}, r"heads=1.5: use a whole number from 1$"),
        ({"heads": "two"}, r"heads=two: use a whole number from 1$"),
        ({"heads": True}, r"heads=True: use a whole number from 1$"),
        ({"depth": -1}, r"depth=-1: use a whole number from 0$"),
        ({"widths": [8, 0]}, r"widths=\[8, 0\]: use a whole number from 1 for each"),
        ({"weight": -0.5}, r"weight=-0.5: use 0 or more$"),
    ],
)
def test_what_is_too_small_or_no_number_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_least("method.x", settings, LEAST)
