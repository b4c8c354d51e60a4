"""The demo's page: one HTML file that holds everything, readable without a network, scripts or colours.

Its rows are evaluations on equal terms; every word of comparison on it is decided by their numbers.
"""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vsrbench.errors import RunError
from vsrbench.evaluation.results import load, notes
from vsrbench.evaluation.values import NOT_APPLICABLE, Value
from vsrbench.pictures import busiest, busiest_row, over_time, zoom
from vsrbench.reports import charts, crops, drawing
from vsrbench.reports.html import environment
from vsrbench.reports.tables import best, shown
from vsrbench.training.names import LOSS

OUTCOMES = {1: "better", 0: "the same", -1: "worse"}
CROP = 64  # pixels of a crop's side and of a slice's width
ZOOM = 3
SLICE_ZOOM = 6  # height of one moment in a slice


@dataclass(frozen=True)
class Measure:
    """How a value is shown and compared. better: 1 higher is better, -1 lower is better, 0 neither."""

    name: str
    title: str
    unit: str
    digits: int
    better: int


PSNR_Y = Measure("psnr_y", "PSNR-Y", "dB", 2, 1)
SSIM_Y = Measure("ssim_y", "SSIM-Y", "", 4, 1)
CONSISTENCY = Measure("consistency", "Consistency", "", 3, -1)
SHARPNESS = Measure("sharpness", "Sharpness", "", 2, 0)
SECONDS = Measure("seconds", "Seconds per frame", "", 2, -1)

QUALITY = (PSNR_Y, SSIM_Y, CONSISTENCY)
COLUMNS = (PSNR_Y, SSIM_Y, CONSISTENCY, SHARPNESS, SECONDS)


@dataclass(frozen=True)
class Row:
    """One method's evaluation.

    means, clips: values by measure name, over the set and per clip. folder: holds ``frames/<clip>/*.png``.
    """

    label: str
    folder: Path
    result: dict[str, Any]
    means: dict[str, Value]
    clips: dict[str, dict[str, Value]]

    def frames(self, clip: str) -> Path:
        return self.folder / "frames" / clip


def read_row(label: str, folder: Path) -> Row:
    """A run folder of ``eval``. Raises RunError where it is not finished or its result cannot be trusted."""
    path = folder / "result.json"
    if not path.is_file():
        raise RunError(f"no {path}: the evaluation of {label!r} is not finished, run it first")
    result = load(path)
    none: dict[str, Any] = {
        "mean": NOT_APPLICABLE,
        "clips": {c: {"mean": NOT_APPLICABLE} for c in result["data"]["clips"]},
    }
    metrics = {m.name: result["metrics"].get(m.name, none) for m in (*QUALITY, SHARPNESS)}
    means = {name: metric["mean"] for name, metric in metrics.items()}
    means[SECONDS.name] = result["cost"]["seconds_per_frame"]
    clips = {c: {name: metric["clips"][c]["mean"] for name, metric in metrics.items()} for c in result["data"]["clips"]}
    return Row(label, folder, result, means, clips)


def check_equal_terms(rows: Sequence[Row]) -> None:
    """Raise RunError where rows were evaluated under different protocols or on different frames."""
    first = rows[0]
    for row in rows[1:]:
        for what in (("protocol", "hash"), ("data", "set"), ("data", "split"), ("data", "clips")):
            here, there = (r.result[what[0]][what[1]] for r in (row, first))
            if here != there:
                raise RunError(
                    f"{row.folder} and {first.folder} cannot be in one table: {'.'.join(what)} is {here!r} and "
                    f"{there!r}; evaluate both under the same protocol and data"
                )


@dataclass(frozen=True)
class Video:
    """An upscaled video: the two files, and (what, before, after) facts about them."""

    source: Path
    result: Path
    facts: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Content:
    """What the page shows.

    rows: evaluations, simplest first. subject: the row that is evaluated against those before it. tuned: the row
    that is evaluated against the subject. truth: folder of ground truth, ``<clip>/<frame>.png``. training: run
    folder whose metrics.csv holds the loss. commands: (what, command). remarks: what else a reader must know.
    """

    rows: Sequence[Row]
    subject: Row
    tuned: Row
    truth: Path
    training: Path
    video: Video
    commands: Sequence[tuple[str, str]]
    remarks: Sequence[str] = ()


def render(content: Content) -> str:
    """The page as HTML text. Raises RunError for rows that cannot be compared and for files that are absent."""
    rows = list(content.rows)
    check_equal_terms(rows)
    losses = read_losses(content.training / "metrics.csv")
    simpler = rows[: rows.index(content.subject)]
    first = rows[0].result
    return (
        environment()
        .get_template("demo.html.j2")
        .render(
            verdict=verdict(content.subject, simpler),
            comparisons=[comparison(content.subject, other) for other in simpler]
            + [comparison(content.tuned, content.subject)],
            measures=len(QUALITY),
            columns=COLUMNS,
            lines=table(rows),
            notes=sorted({note for row in rows for note in notes(row.result)}),
            remarks=content.remarks,
            clips=[clip_view(clip, rows, content.truth) for clip in first["data"]["clips"]],
            zoom=ZOOM,
            curve=Markup(drawing.svg(charts.loss_curve(*zip(*losses, strict=True)))),
            trend=trend([loss for _, loss in losses]),
            video=video_view(content.video),
            commands=content.commands,
            first=first,
            parameters=[(row.label, row.result["cost"]["parameters"]) for row in rows],
            measured=measured(rows),
        )
    )


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line per row: its label and (text, is best) cells in the order of COLUMNS."""
    marked = {m.name: best([row.means[m.name] for row in rows], m.better, m.digits) for m in COLUMNS}
    return [
        {"label": row.label, "cells": [(shown(row.means[m.name], m.digits), n in marked[m.name]) for m in COLUMNS]}
        for n, row in enumerate(rows)
    ]


def clip_view(clip: str, rows: Sequence[Row], truth: Path) -> dict[str, Any]:
    """The pictures of one clip: the middle frame, and for every row a crop of it and a slice over time.

    Place and row are where the ground truth has the most detail: chosen by rule, for all methods alike.
    """
    real = crops.read_frames(truth / clip)
    middle = len(real) // 2
    y, x = busiest(real[middle], CROP)
    line = busiest_row(real[middle], y, CROP)
    marked = crops.framed(real[middle], y, x, CROP, line)

    def views(label: str, frames: np.ndarray, caption: str) -> dict[str, str]:
        crop = zoom(frames[middle, y : y + CROP, x : x + CROP], ZOOM)
        profile = over_time(frames[:, :, x : x + CROP], line, SLICE_ZOOM, ZOOM)
        return {
            "label": label,
            "crop": crops.data_uri(crop),
            "slice": crops.data_uri(profile),
            "caption": caption,
        }

    shown_rows = [views(row.label, crops.read_frames(row.frames(clip)), _caption(row, clip)) for row in rows]
    return {
        "name": clip,
        "frames": len(real),
        "middle": middle,
        "whole": crops.data_uri(marked, "jpeg"),
        "views": [*shown_rows, views("ground truth", real, "")],
    }


def _caption(row: Row, clip: str) -> str:
    values = row.clips[clip]
    psnr, sharpness = (shown(values[m.name], m.digits) for m in (PSNR_Y, SHARPNESS))
    return f"{psnr} dB, sharpness {sharpness}"


def video_view(video: Video) -> dict[str, Any]:
    return {
        "source": crops.file_uri(video.source, "video/mp4"),
        "result": crops.file_uri(video.result, "video/mp4"),
        "facts": video.facts,
    }


def measured(rows: Sequence[Row]) -> str:
    """The day on which the newest of the results was written, UTC."""
    newest = max((row.folder / "result.json").stat().st_mtime for row in rows)
    return time.strftime("%Y-%m-%d", time.gmtime(newest))


def outcome(a: object, b: object, measure: Measure) -> int | None:
    """1 where ``a`` is better than ``b``, -1 where it is worse, None where one of them is no number.

    ours: 0 where both look the same at the digits that are shown; a reader cannot check finer differences.
    """
    if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        return None
    difference = measure.better * (round(a, measure.digits) - round(b, measure.digits))
    return (difference > 0) - (difference < 0)


def verdict(row: Row, others: Sequence[Row]) -> str:
    """In how many measures of quality a row is better than each of the others, as one sentence."""
    parts = []
    for other in others:
        outcomes = [outcome(row.means[m.name], other.means[m.name], m) for m in QUALITY]
        known = [o for o in outcomes if o is not None]
        same = f" (the same in {known.count(0)})" if 0 in known else ""
        parts.append(f"better than {other.label} in {known.count(1)} of {len(known)} measures{same}")
    return f"{row.label} is {', and '.join(parts)}."


def comparison(row: Row, other: Row) -> str:
    """One row against another, measure by measure: better or worse, by how much, in how many clips."""
    parts = [_part(row, other, m) for m in QUALITY]
    return f"{row.label} against {other.label}: {'; '.join(parts)}."


def _part(row: Row, other: Row, measure: Measure) -> str:
    a, b = row.means[measure.name], other.means[measure.name]
    result = outcome(a, b, measure)
    if result is None or not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        return f"{measure.title} cannot be compared"
    amount = "" if result == 0 else f" by {_unit(shown(abs(a - b), measure.digits), measure)}"
    per_clip = [outcome(row.clips[c][measure.name], other.clips[c][measure.name], measure) for c in row.clips]
    return f"{measure.title} {OUTCOMES[result]}{amount} (better in {per_clip.count(1)} of {len(per_clip)} clips)"


def _unit(text: str, measure: Measure) -> str:
    return f"{text} {measure.unit}".rstrip()


def trend(losses: Sequence[float]) -> str:
    """How the loss moved: the mean of the first and of the last sixth of the steps."""
    share = max(1, len(losses) // 6)
    first, last = sum(losses[:share]) / share, sum(losses[-share:]) / share
    change = "fell" if last < first else "rose" if last > first else "stayed"
    return f"The mean loss {change} from {first:.4g} (first {share} rows) to {last:.4g} (last {share})."


def read_losses(path: Path) -> list[tuple[int, float]]:
    """(step, loss) of a metrics.csv. Raises RunError where it is absent or holds no loss."""
    if not path.is_file():
        raise RunError(f"no {path}: train first")
    with path.open(newline="") as file:
        losses = [(int(row["step"]), float(row[LOSS])) for row in csv.DictReader(file) if row.get(LOSS)]
    if not losses:
        raise RunError(f"{path} holds no {LOSS}: train with a smaller trainer.log_every_n_steps")
    return losses
