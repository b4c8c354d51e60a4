"""Values of metrics and their means. A value is a number, "not_applicable" or {"unavailable": reason}."""

import math
from collections.abc import Sequence
from typing import TypeAlias

Value: TypeAlias = float | str | dict[str, str]

NOT_APPLICABLE = "not_applicable"


def unavailable(reason: str) -> Value:
    return {"unavailable": reason}


def number(value: float, what: str) -> Value:
    """A finite number as it is; NaN and infinity as unavailable, naming ``what`` ("psnr_y of city/0.png").

    ours: PSNR of a frame that equals the ground truth is infinite. It is neither capped (80 or 100 dB is an
    invented number that moves every mean) nor left out (the mean would evaluate the rest): the frame says so,
    and so does every mean that it belongs to.
    """
    if math.isnan(value):
        return unavailable(f"{what} is not a number")
    if math.isinf(value):
        return unavailable(f"{what} is infinite: the frame equals the ground truth, or the reference is flat")
    return value


def mean(values: Sequence[Value]) -> Value:
    """Mean of the numbers.

    "not_applicable" entries do not count, unless there are no others. One unavailable value makes the mean
    unavailable for that reason: a mean of what happens to be there would be another quantity.
    """
    counting = [value for value in values if value != NOT_APPLICABLE]
    if not counting:
        return NOT_APPLICABLE
    for value in counting:
        if isinstance(value, dict):
            return value
    return math.fsum(float(value) for value in counting if not isinstance(value, dict)) / len(counting)
