"""How sure a difference is: intervals over clips and frames, paired tests, and what few clips cannot support.

Frames of a clip resemble each other, so a clip is one observation however long it is: intervals draw whole clips first
(a cluster bootstrap), and tests compare clip means. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from vsrbench.errors import RunError

ALPHA = 0.05
DRAWS = 2**14  # assignments of signs: with up to 14 clips every one is counted, with more so many are drawn

Frames = Mapping[str, Sequence[float]]  # a metric's values by clip


@dataclass(frozen=True)
class Paired:
    """A metric of two runs on the same clips. difference: mean over clips of a - b; low, high: its interval; p: of the
    sign-flip test, two-sided; smallest: the smallest p that so many clips can give."""

    clips: int
    difference: float
    low: float
    high: float
    p: float
    smallest: float

    @property
    def decidable(self) -> bool:
        """False where no difference, however large, could be significant with so few clips."""
        return self.smallest <= ALPHA


def frames_of(result: Mapping[str, Any], metric: str) -> dict[str, list[float]]:
    """The numbers of a metric by clip, from the content of result.json; clips without any are left out.

    Metrics with one value per clip give that value. Raises RunError for a metric that the result does not hold.
    """
    if metric not in result["metrics"]:
        raise RunError(f"the result has no {metric}; it has {', '.join(result['metrics'])}")
    values = {}
    for clip, entry in result["metrics"][metric]["clips"].items():
        numbers = [float(v) for v in entry["frames"] if isinstance(v, int | float)]
        if not numbers and isinstance(entry["mean"], int | float):
            numbers = [float(entry["mean"])]
        if numbers:
            values[clip] = numbers
    return values


def mean(values: Frames) -> float:
    """Mean of clip means."""
    return float(np.mean([np.mean(v) for v in values.values()]))


def interval(values: Frames, level: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap of the mean of clip means: clips are drawn with replacement, then frames within each.

    With one clip only its frames vary, which says nothing about other clips.
    """
    if not values:
        raise RunError("there is no number to take an interval of")
    random = np.random.default_rng(seed)
    clips = [np.asarray(v, float) for v in values.values()]
    within = np.stack([c[random.integers(len(c), size=(draws, len(c)))].mean(axis=1) for c in clips], axis=1)
    indices = random.integers(len(clips), size=(draws, len(clips)))
    means = np.take_along_axis(within, indices, axis=1).mean(axis=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def paired(a: Frames, b: Frames, seed: int = 0) -> Paired:
    """Compare two runs clip by clip, frame by frame where both have the same frames.

    Raises RunError where they share no clip, or where one has clips that the other lacks.
    """
    if not a or a.keys() != b.keys():
        missing = sorted(a.keys() ^ b.keys())
        raise RunError(f"runs are compared on the same clips; {', '.join(missing) or 'any clip'} is not in both")
    differences = {clip: _differences(a[clip], b[clip]) for clip in a}
    low, high = interval(differences, seed=seed)
    means = [float(np.mean(d)) for d in differences.values()]
    return Paired(len(means), float(np.mean(means)), low, high, sign_flip(means, seed), 2.0 ** (1 - len(means)))


def _differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    if len(a) == len(b):
        return [x - y for x, y in zip(a, b, strict=True)]
    return [float(np.mean(a) - np.mean(b))]


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of "the mean difference is zero" where each difference is as likely of either sign (Fisher 1935).

    Exact for up to 14 differences, else from ``DRAWS`` random assignments, the observed one counted among them.
    """
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    test = stats.permutation_test(
        (np.asarray(differences, float),), np.mean, permutation_type="samples", vectorized=True, n_resamples=DRAWS,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979): reject where the corrected one is at most alpha."""
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return [float(p) for p in corrected]


def over_seeds(runs: Sequence[Frames]) -> tuple[dict[str, list[float]], float]:
    """Clip means averaged over runs that differ in their seed alone, and the standard deviation of the runs' means
    (nan-free: 0 for one run). Raises RunError where the runs have other clips."""
    if any(run.keys() != runs[0].keys() for run in runs):
        raise RunError("runs of several seeds must have the same clips")
    joined = {clip: [float(np.mean([np.mean(run[clip]) for run in runs]))] for clip in runs[0]}
    spread = float(np.std([mean(run) for run in runs], ddof=1)) if len(runs) > 1 else 0.0
    return joined, spread


def sentence(test: Paired, corrected: float, better: int) -> str:
    """What may be said. better: 1 where higher is better, -1 where lower is; corrected: p after Holm's correction."""
    if not test.decidable:
        return (
            f"{test.clips} clip{'s' * (test.clips > 1)} cannot support a claim: the smallest p that a sign-flip test "
            f"can give is {test.smallest:.3g}"
        )
    if corrected > ALPHA:
        return f"no claim: p = {corrected:.3g} after Holm's correction"
    word = "better" if test.difference * better > 0 else "worse"
    return f"{word}: p = {corrected:.3g} after Holm's correction, {test.clips} clips"
