"""The same frames under one or more protocols: scores, conformance and results."""

from pathlib import Path
from typing import Any

from vsrbench.data.sources import Source
from vsrbench.evaluation import results
from vsrbench.evaluation.protocol import Protocol
from vsrbench.evaluation.scoring import Expected, score
from vsrbench.evaluation.scoring import settings as settings_of
from vsrbench.metrics.perceptual import SMALL
from vsrbench.metrics.scorer import NOTHING_VISIBLE, Scorer
from vsrbench.progress import Bars
from vsrbench.published import quote


def judge(
    settings: dict[str, Any],
    protocols: list[Protocol],
    frames: Path,
    sources: list[Source],
    coverage: dict[str, Any],
    cost: dict[str, Any],
    made_with: dict[str, Any],
    bars: Bars,
) -> list[dict[str, Any]]:
    """One result per protocol, in their order. Arguments as ``results.assemble`` and ``scoring.score`` take them.

    Raises ConfigError for clips that a protocol does not judge, DataError as ``scoring.score`` does.
    """
    quoted, row, expected = quote(settings["published"]), bars.row(), _expected(settings)
    device = settings["inference"]["device"]
    scores = [score(frames, sources, protocol, device, row, expected) for protocol in protocols]
    return [
        results.assemble(settings, protocol, found, coverage, cost, made_with, quoted)
        for protocol, found in zip(protocols, scores, strict=True)
    ]


def judged_again(protocol: Protocol, found: dict[str, Any]) -> bool:
    """Whether metrics had no weights then and have them now; the frames on disk are judged again for them."""
    names = now_available([protocol], [found])
    if names:
        print(f"evaluated before without {', '.join(names)}, which can be computed now: the frames are judged again")
    return bool(names)


def now_available(protocols: list[Protocol], found: list[dict[str, Any]]) -> list[str]:
    """Metrics without a number in these results, for want of a file or package that is here now."""
    names = []
    for protocol, result in zip(protocols, found, strict=True):
        missing = [name for name, metric in result["metrics"].items() if _never_had_a_value(metric)]
        names += [n for n in missing if n not in Scorer(missing, settings_of(protocol)).unavailable]
    return list(dict.fromkeys(names))


def _never_had_a_value(metric: dict[str, Any]) -> bool:
    """Unavailable everywhere for one reason; a single frame without a number (infinite PSNR) has its own, and
    frames that are too small for the metric, or move too far, will not change."""
    values = [value for clip in metric["clips"].values() for value in clip["frames"]]
    alike = isinstance(metric["mean"], dict) and all(value == metric["mean"] for value in values)
    return alike and not any(told in metric["mean"]["unavailable"] for told in (SMALL, NOTHING_VISIBLE))


def _expected(settings: dict[str, Any]) -> Expected:
    name = None if settings["predictions"] is not None else settings["method"]["name"]
    return Expected(truth=name == "gt", bicubic=name == "bicubic")
