"""Scoring frames on disk against the data's ground truth, a few frames in memory at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsrbench import config
from vsrbench.data.sources import Source
from vsrbench.errors import ConfigError, DataError
from vsrbench.evaluation import frames as reading
from vsrbench.evaluation.matching import Frame
from vsrbench.evaluation.protocol import Protocol
from vsrbench.evaluation.values import NOT_APPLICABLE, Value, mean, number, unavailable
from vsrbench.metrics.catalog import METRICS
from vsrbench.metrics.frame import quantise
from vsrbench.metrics.scorer import ClipScorer, Outcome, Scorer, Settings
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip, Progress

AT_ONCE = 8  # frames that are read and evaluated together
CHECKED = 4  # frames of a clip that are checked for faults that leave its numbers plausible
SLIGHT = 1.0  # grey levels: frames that are nearer to bicubic interpolation are that, rounded otherwise
MARGIN = 0.98  # an error counts as smaller below this share: on still scenes neighbours differ by noise alone
STEPS = {"down": (1, 0), "up": (-1, 0), "right": (0, 1), "left": (0, -1)}


@dataclass(frozen=True)
class Expected:
    """What is known about frames beforehand. truth: they are the ground truth itself; bicubic: interpolated LR."""

    truth: bool = False
    bicubic: bool = False


@dataclass
class ClipScores:
    """values: {metric: one value per frame that counts, per pair of them, or one for the clip}.

    flow: the motion behind metrics of the scene's flow: "exact", the estimator's name, or "not_applicable".
    warnings: lines for people.
    """

    values: dict[str, list[Value]] = field(default_factory=dict)
    flow: str = NOT_APPLICABLE
    warnings: list[str] = field(default_factory=list)


@dataclass
class Scores:
    """metrics: {name: {mean, clips: {clip: {mean, frames}}}} as in result.json; flow: {clip: motion}."""

    metrics: dict[str, Any]
    flow: dict[str, str]
    warnings: list[str]


def score(
    folder: Path,
    sources: list[Source],
    protocol: Protocol,
    device: str = "cpu",
    progress: Progress | None = None,
    expected: Expected = Expected(),
) -> Scores:
    """Evaluate the frames of a folder under a protocol; ``sources`` are the clips of its split.

    device: where metrics are computed; "auto" is a GPU where there is one.

    Raises DataError for whatever is missing, stray, of another size or format (``frames.find``, ``read``), and for
    frames that are unexpected copies of the ground truth. Names and sizes are checked and metrics made before any
    work.
    """
    device = config.device(device)
    predicted = reading.find(folder, sources, protocol)
    for source in sources:
        reading.check_sizes(source, predicted.files[source.name])
        _check_window(source, protocol)
    scorer = Scorer(protocol.metrics, metric_settings(protocol), device=device)
    if progress is not None:
        progress.start(sum(len(files) for files in predicted.files.values()), f"scoring, {protocol.id}")
    advance = progress.advance if progress is not None else lambda count: None
    clips = {
        s.name: _score_clip(scorer, s, predicted.files[s.name], protocol, device, advance, expected) for s in sources
    }
    of_set = scorer.set_values()
    return Scores(
        metrics={name: _summary(name, clips, protocol, of_set) for name in protocol.metrics},
        flow={name: clip.flow for name, clip in clips.items()},
        warnings=[*predicted.notes, *(line for clip in clips.values() for line in clip.warnings)],
    )


def metric_settings(protocol: Protocol) -> Settings:
    """The switches that the metrics themselves take."""
    names = ("crop", "channel", "scene_flow", "flow", "mask", "luma")
    return Settings(**{name: getattr(protocol, name) for name in names})


def _score_clip(
    scorer: Scorer,
    source: Source,
    files: Mapping[int, Frame],
    protocol: Protocol,
    device: str,
    advance: Callable[[int], None],
    expected: Expected,
) -> ClipScores:
    """Evaluate one clip, front to back. Raises DataError as ``score`` does."""
    clip, scores, copies = scorer.clip(), ClipScores(), 0
    for start, stop, overlap in _batches(sorted(files)):
        data = _window(source.read(start, stop), protocol.window).to(device)
        out = torch.stack([reading.pixels(files[n]) for n in range(start, stop)]).to(device)
        out = _centre(out, protocol.window, source.scale)
        truth = None if data.hr is None else quantise(data.hr[0])
        clip.add(out, data, overlap)
        fresh = range(start + overlap, stop)
        flat = [n for n in fresh if _constant(out[n - start])]
        scores.warnings += [f"{source.name}/{files[n].path.name}: the frame has a single colour" for n in flat]
        if not scores.warnings and start == min(files) and not expected.truth:
            faults = sanity_warnings(out, data, truth, expected.bicubic)
            scores.warnings += [f"{source.name}: {line}" for line in faults]
        if truth is not None:
            copies += sum(bool(out[n - start].equal(truth[n - start])) for n in fresh if n not in flat)
        advance(len(fresh))
    if files and copies == len(files) and not expected.truth:
        raise DataError(
            f"every frame of {files[min(files)].path.parent} equals the ground truth of {source.name}: "
            "give the folder of the method's output"
        )
    scores.values = _values(clip, scorer, source, files)
    estimated = protocol.flow if clip.motion == "estimated" else clip.motion
    scores.flow = estimated
    return scores


def _values(clip: ClipScorer, scorer: Scorer, source: Source, files: Mapping[int, Frame]) -> dict[str, list[Value]]:
    """The clip's values in the form of results; each says what it is a value of where it is not finite."""
    labels = {"frame": [files[n].label for n in sorted(files)], "clip": [source.name]}
    labels["pair"] = labels["frame"]
    values: dict[str, list[Value]] = {}
    for name, outcomes in clip.finish().items():
        places = labels[METRICS[name].kind]
        values[name] = [_value(o, f"{name} of {where}") for o, where in zip(outcomes, places, strict=False)]
    return values


def _value(outcome: Outcome, what: str) -> Value:
    if outcome is None:
        return NOT_APPLICABLE
    return unavailable(outcome) if isinstance(outcome, str) else number(outcome, what)


def _batches(numbers: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(start, stop, overlap) of runs of consecutive frames, ``AT_ONCE`` new ones at a time.

    overlap: 1 where the first frame is the last of the batch before, so that every pair of neighbours is in one batch.
    """
    first = 0
    for n, last in enumerate(numbers):
        if n + 1 == len(numbers) or numbers[n + 1] != last + 1:
            for start in range(numbers[first], last + 1, AT_ONCE):
                overlap = int(start > numbers[first])
                yield start - overlap, min(start + AT_ONCE, last + 1), overlap
            first = n + 1


def _check_window(source: Source, protocol: Protocol) -> None:
    sides = [source.scale * n for n in source.size]
    if protocol.window is not None and (min(sides) < protocol.window or protocol.window % source.scale):
        raise ConfigError(
            f"protocol {protocol.id} evaluates centre squares of {protocol.window} pixels, {source.name} has "
            f"{sides[1]}x{sides[0]} at scale={source.scale}: set a smaller protocol.window, a multiple of the scale"
        )


def _window(clip: Clip, window: int | None) -> Clip:
    """The centre square of a clip, ``window`` HR pixels to a side; all of it for None."""
    if window is None:
        return clip
    parts = {"lr": _centre(clip.lr, window // clip.scale, 1)}
    if clip.hr is not None:
        parts["hr"] = _centre(clip.hr, window, clip.scale)
    for name in ("flow_forward", "flow_backward", "occlusion"):
        if (value := getattr(clip, name)) is not None:
            parts[name] = _centre(value, window // clip.scale, 1)
    return replace(clip, **parts)  # type: ignore[arg-type]


def _centre(frames: Tensor, window: int | None, scale: int) -> Tensor:
    """The centre square of (...,H,W); it begins at a multiple of ``scale``, so that LR and HR have one grid."""
    if window is None:
        return frames
    top, left = ((side // scale - window // scale) // 2 * scale for side in frames.shape[-2:])
    return frames[..., top : top + window, left : left + window].contiguous()


def _constant(frame: Tensor) -> bool:
    """True for a frame of a single colour: a black frame is a fault more often than a picture."""
    return bool((frame == frame[:, :1, :1]).all())


def _summary(
    name: str, clips: dict[str, ClipScores], protocol: Protocol, of_set: Mapping[str, Outcome]
) -> dict[str, Any]:
    if METRICS[name].kind == "set":
        none: dict[str, Any] = {clip: {"mean": NOT_APPLICABLE, "frames": []} for clip in clips}
        return {"mean": _value(of_set[name], name), "clips": none}
    per_clip: dict[str, dict[str, Any]] = {
        clip: {"mean": mean(s.values[name]), "frames": s.values[name]} for clip, s in clips.items()
    }
    if protocol.averaging == "clips" or METRICS[name].kind == "clip":
        total = mean([entry["mean"] for entry in per_clip.values()])
    else:
        total = mean([value for s in clips.values() for value in s.values[name]])
    return {"mean": total, "clips": per_clip}


def sanity_warnings(out: Tensor, clip: Clip, truth: Tensor | None, bicubic: bool) -> list[str]:
    """Faults that consecutive frames of one clip seem to have, as lines without the clip's name.

    out: uint8 (N,3,H,W). clip: the same frames of the data. truth: uint8 (N,3,H,W) or None. bicubic: whether the
    frames are expected to be bicubic interpolation of LR. These faults lower a number without making it implausible;
    one is reported only where every frame shows it.
    """
    out = out[:CHECKED].float()
    warnings = []
    if not bicubic and _is_bicubic(out[0], clip):
        warnings.append("the frames are bicubic interpolation of LR: is this the method's output?")
    if truth is None:
        return warnings
    truth = truth[: len(out)].float()
    error = _error(out, truth)
    if (_error(out.flip(1), truth) < MARGIN * error).all():
        warnings.append("red and blue look swapped: write RGB, not BGR")
    for offset, word in ((1, "late"), (-1, "early")):
        if len(out) > 2 and _is_offset(out, truth, error, offset):
            warnings.append(f"each frame is nearer to its neighbour in the ground truth: they look one frame {word}")
    for word, (down, right) in STEPS.items():
        if (_shifted_error(out, truth, down, right) < MARGIN * _shifted_error(out, truth, 0, 0)).all():
            warnings.append(f"the frames look shifted {word} by a pixel: align pixel centres, pad at the far side")
    return warnings


def _error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean((1, 2, 3))


def _is_bicubic(out: Tensor, clip: Clip) -> bool:
    enlarged = imresize(clip.lr[0, 0], clip.scale).clamp(0, 1) * 255
    return bool((out - enlarged).abs().mean() < SLIGHT)


def _is_offset(out: Tensor, truth: Tensor, error: Tensor, offset: int) -> bool:
    """True where frame t of the output is nearer to frame t - offset (late: 1) of the ground truth, for every t."""
    ours, theirs = (out[1:], truth[:-1]) if offset > 0 else (out[:-1], truth[1:])
    own = error[1:] if offset > 0 else error[:-1]
    return bool((_error(ours, theirs) < MARGIN * own).all())


def _shifted_error(out: Tensor, truth: Tensor, down: int, right: int) -> Tensor:
    """Error against the ground truth moved by so many pixels, over the pixels that every move leaves."""
    moved = torch.roll(truth, (down, right), (2, 3))
    return _error(out[..., 1:-1, 1:-1], moved[..., 1:-1, 1:-1])
