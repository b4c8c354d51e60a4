"""The frames of a method, or of other software, under one or more protocols: scores, conformance and results."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from vsrbench.config import build
from vsrbench.data.sources import Source
from vsrbench.errors import DataError
from vsrbench.evaluation import outputs, results
from vsrbench.evaluation.frames import find
from vsrbench.evaluation.predict import make_frames
from vsrbench.evaluation.protocol import Protocol
from vsrbench.evaluation.scoring import Expected, metric_settings, score
from vsrbench.metrics.perceptual import SMALL
from vsrbench.metrics.scorer import NOTHING_VISIBLE, Scorer
from vsrbench.progress import Bars
from vsrbench.published import quote
from vsrbench.runs import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(cfg: "DictConfig", run: Run, protocols: list[Protocol]) -> list[dict[str, Any]]:
    """The result under each protocol. Clips that an interrupted call of the same run completed are used again.

    Raises DataError for data without clips and for frames that cannot be evaluated, ConfigError for clips that a
    protocol does not evaluate, RunError for clips that could not be made.
    """
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    data, split = build(cfg.data), protocols[0].split
    sources, origin = data.clips(split), results.origin(settings, weights(cfg), weights_selection(cfg))
    if not sources:
        raise DataError(f"data={cfg.data.set} has no clips to evaluate: set data.splits.{split}")
    coverage = data.coverage(split)
    for protocol in protocols:
        protocol.complete(coverage)  # clips that it does not evaluate are an error before any work
    with Bars() as bars:
        if cfg.predictions is not None:
            frames, cost = Path(cfg.predictions).expanduser(), outputs.foreign_cost()
            outputs.link_foreign(run, find(frames, sources, protocols[0]), sources)
        else:
            frames, cost = run.frames, make_frames(cfg, split, run, sources, origin, bars)
        return _results(settings, protocols, frames, sources, coverage, cost, origin, bars)


def weights(cfg: "DictConfig") -> dict[str, str] | None:
    """File and hash of the trained weights; None where there are none (bicubic, foreign frames)."""
    file = _weights_file(cfg)
    return None if file is None else results.fingerprint(file)


def weights_selection(cfg: "DictConfig") -> dict[str, Any] | None:
    """What chose the trained weights among the steps of their run, see ``weights.trained.selection``."""
    file = _weights_file(cfg)
    if file is None:
        return None
    from vsrbench.weights.trained import selection

    return selection(file)


def _weights_file(cfg: "DictConfig") -> Path | None:
    from vsrbench.weights.choice import trained_source

    source = None if cfg.predictions is not None else trained_source(cfg)
    if not source:
        return None
    from vsrbench.weights.trained import checkpoint_file

    return checkpoint_file(Path(source).expanduser())


def _results(
    settings: dict[str, Any],
    protocols: list[Protocol],
    frames: Path,
    sources: list[Source],
    coverage: dict[str, Any],
    cost: dict[str, Any],
    origin: dict[str, Any],
    bars: Bars,
) -> list[dict[str, Any]]:
    """One result per protocol, in their order. Arguments as ``results.assemble`` and ``scoring.score`` take them."""
    method = None if settings["predictions"] is not None else settings["method"]["name"]
    expected = Expected(truth=method == "gt", bicubic=method == "bicubic")
    quoted, row, device = quote(settings["published"]), bars.row(), settings["inference"]["device"]
    scores = [score(frames, sources, protocol, device, row, expected) for protocol in protocols]
    return [
        results.assemble(settings, protocol, values, coverage, cost, origin, quoted)
        for protocol, values in zip(protocols, scores, strict=True)
    ]


def needs_rescoring(protocol: Protocol, result: dict[str, Any]) -> bool:
    """Whether metrics had no weights then and have them now; the frames on disk are evaluated again for them."""
    names = now_available([protocol], [result])
    if names:
        print(f"evaluated before without {', '.join(names)}, which can be computed now: the frames are evaluated again")
    return bool(names)


def now_available(protocols: list[Protocol], earlier: list[dict[str, Any]]) -> list[str]:
    """Metrics without a number in these results, for want of a file or package that is here now."""
    names = []
    for protocol, result in zip(protocols, earlier, strict=True):
        missing = [name for name, metric in result["metrics"].items() if _never_had_a_value(metric)]
        names += [n for n in missing if n not in Scorer(missing, metric_settings(protocol)).unavailable]
    return list(dict.fromkeys(names))


def _never_had_a_value(metric: dict[str, Any]) -> bool:
    """Unavailable everywhere for one reason; a single frame without a number (infinite PSNR) has its own, and
    frames that are too small for the metric, or move too far, will not change."""
    values = [value for clip in metric["clips"].values() for value in clip["frames"]]
    alike = isinstance(metric["mean"], dict) and all(value == metric["mean"] for value in values)
    return alike and not any(reason in metric["mean"]["unavailable"] for reason in (SMALL, NOTHING_VISIBLE))
