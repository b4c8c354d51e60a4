"""Scoring frames on disk against the data's ground truth, two frames in memory at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vsrbench.data.sources import Source
from vsrbench.errors import DataError
from vsrbench.evaluation import frames as reading
from vsrbench.evaluation.motion import consistency, warping_errors
from vsrbench.evaluation.protocol import TEMPORAL, WARPING, Protocol
from vsrbench.evaluation.values import NOT_APPLICABLE, Value, mean, number, unavailable
from vsrbench.metrics.frame import luma, psnr, quantise, sharpness, ssim
from vsrbench.metrics.perceptual import Perceptual, create
from vsrbench.types import Progress

Nets: TypeAlias = dict[str, Perceptual | str]


@dataclass
class ClipScores:
    """values: {metric: one value per frame that counts, or per pair of them for temporal metrics}.

    flow: the motion behind consistency, "exact", "dis" or "not_applicable". warnings: lines for people.
    """

    values: dict[str, list[Value]]
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
) -> Scores:
    """Judge ``<folder>/<clip>/<frame>.png`` under a protocol; ``sources`` are the clips of its split.

    device: where metrics are computed; "auto" is a GPU where there is one.

    Raises DataError for whatever is missing, stray, of another size or format (``frames.find``, ``read``),
    and for frames that are copies of the ground truth. Names and sizes are checked and
    metrics made before any work.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    files = reading.find(folder, sources, protocol.frames)
    for source in sources:
        reading.check_sizes(source, files[source.name])
    nets = create(protocol.perceptual, device)
    if progress is not None:
        progress.start(sum(len(found) for found in files.values()), "scoring")
    advance = progress.advance if progress is not None else lambda: None
    clips = {s.name: score_clip(s, files[s.name], protocol, nets, device, advance) for s in sources}
    return Scores(
        metrics={name: _summary(name, clips, protocol) for name in (*protocol.metrics, *protocol.perceptual)},
        flow={name: clip.flow for name, clip in clips.items()},
        warnings=[line for clip in clips.values() for line in clip.warnings],
    )


def score_clip(
    source: Source,
    files: dict[int, Path],
    protocol: Protocol,
    nets: Nets,
    device: str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> ClipScores:
    """Judge one clip, front to back. files: {frame number: file}. Raises DataError as ``score`` does."""
    scores = ClipScores({name: [] for name in (*protocol.metrics, *protocol.perceptual)})
    copies = 0
    following: Tensor | None = None
    warping = [name for name in protocol.metrics if name in WARPING]
    for n in sorted(files):
        clip = source.read(n, min(n + 2, source.frames)).to(device)
        out = reading.read(files[n]).to(device) if following is None else following
        truth = None if clip.hr is None else quantise(clip.hr[0, 0])
        for name, value in _frame_values(out, truth, protocol, nets, files[n]).items():
            scores.values[name].append(value)
        flat = _constant(out)
        if flat:
            scores.warnings.append(f"{source.name}/{files[n].name}: the frame has a single colour")
        copies += int(truth is not None and not flat and out.equal(truth))
        following = reading.read(files[n + 1]).to(device) if n + 1 in files else None
        if following is not None and "consistency" in protocol.metrics:
            value, scores.flow = consistency(out / 255, following / 255, clip, protocol.consistency_flow)
            scores.values["consistency"].append(value)
        if following is not None and warping:
            for name, value in warping_errors(out / 255, following / 255, clip, warping).items():
                scores.values[name].append(value)
        advance()
    if files and copies == len(files):
        raise DataError(
            f"every frame of {files[min(files)].parent} equals the ground truth of {source.name}: "
            "give the folder of the method's output"
        )
    return scores


def _frame_values(out: Tensor, truth: Tensor | None, protocol: Protocol, nets: Nets, path: Path) -> dict[str, Value]:
    """All values of one frame by itself. out, truth: uint8 (3,H,W)."""
    where = f"{path.parent.name}/{path.name}"
    values: dict[str, Value] = {}
    for name in protocol.metrics:
        if name in TEMPORAL:
            continue
        values[name] = NOT_APPLICABLE
        if truth is not None:
            values[name] = number(_paired(name, out, truth, protocol.crop), f"{name} of {where}")
    for name, net in nets.items():
        if isinstance(net, str):
            values[name] = unavailable(net)
        elif net.reference and truth is None:
            values[name] = NOT_APPLICABLE
        else:
            value = net(out / 255, None if truth is None else truth / 255)
            values[name] = number(value, f"{name} of {where}")
    return values


def _paired(name: str, out: Tensor, truth: Tensor, crop: int) -> float:
    if name == "sharpness":
        return float(sharpness(luma(out), luma(truth), crop))
    metric, channel = name.split("_")
    if channel == "y":
        out, truth = luma(out), luma(truth)
    function = {"psnr": psnr, "ssim": ssim}[metric]
    return float(function(out, truth, crop))


def _constant(frame: Tensor) -> bool:
    """True for a frame of a single colour: a black frame is a fault more often than a picture."""
    return bool((frame == frame[:, :1, :1]).all())


def _summary(name: str, clips: dict[str, ClipScores], protocol: Protocol) -> dict[str, Any]:
    per_clip: dict[str, dict[str, Any]] = {
        clip: {"mean": mean(s.values[name]), "frames": s.values[name]} for clip, s in clips.items()
    }
    if protocol.averaging == "clips":
        total = mean([entry["mean"] for entry in per_clip.values()])
    else:
        total = mean([value for s in clips.values() for value in s.values[name]])
    return {"mean": total, "clips": per_clip}
