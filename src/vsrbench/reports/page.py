"""The demo's page: one HTML file that holds everything, readable without a network, scripts or colours."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from vsrbench.evaluation.results import notes
from vsrbench.pictures import busiest, busiest_row, over_time, zoom
from vsrbench.reports import curve, findings, pictures
from vsrbench.reports.rows import (
    CONSISTENCY,
    PSNR_Y,
    QUALITY,
    SECONDS,
    SHARPNESS,
    SSIM_Y,
    Row,
    best,
    check_equal_terms,
    shown,
)

CROP = 64  # pixels of a crop's side and of a slice's width
ZOOM = 3
SLICE_ZOOM = 6  # height of one moment in a slice
COLUMNS = (PSNR_Y, SSIM_Y, CONSISTENCY, SHARPNESS, SECONDS)


@dataclass(frozen=True)
class Film:
    """An upscaled video: the two files, and (what, before, after) facts about them."""

    source: Path
    result: Path
    facts: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Content:
    """What the page shows.

    rows: evaluations, simplest first. subject: the row that is judged against those before it. tuned: the row
    that is judged against the subject. truth: folder of ground truth, ``<clip>/<frame>.png``. training: run
    folder whose metrics.csv holds the loss. commands: (what, command). remarks: what else a reader must know.
    """

    rows: Sequence[Row]
    subject: Row
    tuned: Row
    truth: Path
    training: Path
    film: Film
    commands: Sequence[tuple[str, str]]
    remarks: Sequence[str] = ()


def render(content: Content) -> str:
    """The page as HTML text. Raises RunError for rows that cannot be compared and for files that are absent."""
    rows = list(content.rows)
    check_equal_terms(rows)
    losses = curve.read_losses(content.training / "metrics.csv")
    simpler = rows[: rows.index(content.subject)]
    first = rows[0].result
    return _template().render(
        verdict=findings.verdict(content.subject, simpler),
        comparisons=[findings.comparison(content.subject, other) for other in simpler]
        + [findings.comparison(content.tuned, content.subject)],
        measures=len(QUALITY),
        columns=COLUMNS,
        lines=table(rows),
        notes=sorted({note for row in rows for note in notes(row.result)}),
        remarks=content.remarks,
        clips=[clip_view(clip, rows, content.truth) for clip in first["data"]["clips"]],
        zoom=ZOOM,
        curve=curve.draw(losses),
        drawing=curve,
        trend=findings.trend([loss for _, loss in losses]),
        film=film_view(content.film),
        commands=content.commands,
        first=first,
        parameters=[(row.label, row.result["cost"]["parameters"]) for row in rows],
        measured=measured(rows),
    )


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("vsrbench.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("demo.html.j2")


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line per row: its label and (text, is best) cells in the order of COLUMNS."""
    marked = {m.name: best([row.means[m.name] for row in rows], m) for m in COLUMNS}
    return [
        {"label": row.label, "cells": [(shown(row.means[m.name], m), n in marked[m.name]) for m in COLUMNS]}
        for n, row in enumerate(rows)
    ]


def clip_view(clip: str, rows: Sequence[Row], truth: Path) -> dict[str, Any]:
    """The pictures of one clip: the middle frame, and for every row a crop of it and a slice over time.

    Place and row are where the ground truth has the most detail: chosen by rule, for all methods alike.
    """
    real = pictures.read_frames(truth / clip)
    middle = len(real) // 2
    y, x = busiest(real[middle], CROP)
    line = busiest_row(real[middle], y, CROP)
    marked = pictures.framed(real[middle], y, x, CROP, line)

    def views(label: str, frames: np.ndarray, caption: str) -> dict[str, str]:
        crop = zoom(frames[middle, y : y + CROP, x : x + CROP], ZOOM)
        profile = over_time(frames[:, :, x : x + CROP], line, SLICE_ZOOM, ZOOM)
        return {
            "label": label,
            "crop": pictures.data_uri(crop),
            "slice": pictures.data_uri(profile),
            "caption": caption,
        }

    shown_rows = [views(row.label, pictures.read_frames(row.frames(clip)), _caption(row, clip)) for row in rows]
    return {
        "name": clip,
        "frames": len(real),
        "middle": middle,
        "whole": pictures.data_uri(marked, "jpeg"),
        "views": [*shown_rows, views("ground truth", real, "")],
    }


def _caption(row: Row, clip: str) -> str:
    values = row.clips[clip]
    return f"{shown(values[PSNR_Y.name], PSNR_Y)} dB, sharpness {shown(values[SHARPNESS.name], SHARPNESS)}"


def film_view(film: Film) -> dict[str, Any]:
    return {
        "source": pictures.file_uri(film.source, "video/mp4"),
        "result": pictures.file_uri(film.result, "video/mp4"),
        "facts": film.facts,
    }


def measured(rows: Sequence[Row]) -> str:
    """The day on which the newest of the results was written, UTC."""
    newest = max((row.folder / "result.json").stat().st_mtime for row in rows)
    return time.strftime("%Y-%m-%d", time.gmtime(newest))
