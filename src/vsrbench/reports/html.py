"""The report on finished evaluations: one HTML file that holds every table, chart and picture; videos lie beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vsrbench.evaluation.results import notes
from vsrbench.reports import charts, crops, drawing, formats, tables
from vsrbench.reports.entries import Group
from vsrbench.reports.formats import Table
from vsrbench.runs import write_atomic

TRUTH = "ground truth"
CLIPS = 4  # clips whose pictures are shown
SMALL = 400  # pixels that maps and posters are wide at most inside the page; files beside it hold them whole


@dataclass(frozen=True)
class Motion:
    """Flow maps of a clip. source: who knows or estimated it; maps: (label, uint8 picture)."""

    source: str
    maps: Sequence[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Scene:
    """A clip to be shown. truth: its folder of ground truth frames, None without; motion, videos: where there are."""

    clip: str
    truth: Path | None = None
    motion: Motion | None = None
    videos: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A group and what is shown of it. against: label of the entry that the others are tested against; again: its
    frames are those of a part before, evaluated under another protocol."""

    group: Group
    scenes: Sequence[Scene] = ()
    against: str | None = None
    swept: str | None = None
    again: bool = False


def write(
    folder: Path,
    heading: str,
    parts: Sequence[Part],
    papers: Sequence[Table] = (),
    remarks: Sequence[str] = (),
    advance: Callable[[], None] = lambda: None,
) -> Path:
    """Write ``index.html``, tables in four forms, ``values.csv`` and figures; returns the page's path.

    papers: tables of papers with ours beside. advance: called once per part and clip. Raises RunError for frames that
    are absent or that do not fit together.
    """
    page_parts, all_tables = [], list(papers)
    for number, part in enumerate(parts):
        content = _part(part, folder, number, advance)
        all_tables += content["tables"]
        page_parts.append(content | {"tables": [Markup(formats.as_html(t)) for t in content["tables"]]})
    formats.write(all_tables, folder / "tables", "tables")
    write_atomic(folder / "values.csv", tables.long_csv([part.group for part in parts]).encode())
    text = environment().get_template("report.html.j2").render(
        heading=heading,
        papers=[Markup(formats.as_html(t)) for t in papers],
        parts=page_parts,
        remarks=remarks,
        provenance=_provenance(parts),
    )  # fmt: skip
    write_atomic(folder / "index.html", text.encode())
    return folder / "index.html"


def environment() -> Environment:
    """Where templates come from: strict about names, all text escaped."""
    return Environment(
        loader=PackageLoader("vsrbench.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def _part(part: Part, folder: Path, number: int, advance: Callable[[], None]) -> dict[str, Any]:
    group = part.group
    part_tables = [tables.overview(group)]
    if tables.tested(group):
        part_tables.append(tables.intervals(group))
        if len(group.methods) > 1:
            part_tables.append(tables.paired_tests(group, part.against))
    scatter, curves = charts.charts(group, part.swept), charts.curves(group)
    for chart in (*scatter, *curves):
        write_atomic(folder / "figures" / f"{number}-{chart.name}.svg", drawing.svg(chart, ink="#222222").encode())
        write_atomic(folder / "figures" / f"{number}-{chart.name}.pdf", drawing.pdf(chart))
    advance()
    clips = []
    for scene in part.scenes:
        clips.append(_clip(scene, group, folder, number))
        advance()
    return {
        "title": group.title,
        "tables": part_tables,
        "charts": _drawn(scatter, number),
        "curves": _drawn(curves, number),
        "clips": clips,
        "again": part.again,
        "left_out": len(group.clips) - len(clips),
        "notes": sorted({note for entry in group.methods for note in notes(entry.result)}),
        "conformance": _conformance(group),
    }


def _drawn(drawn: Sequence[drawing.Chart], number: int) -> list[tuple[Markup, str]]:
    return [(Markup(drawing.svg(chart, salt=str(number))), chart.caption) for chart in drawn]


def _conformance(group: Group) -> str:
    protocol = group.result["protocol"]
    references = [e for e in group.entries if e.method in ("bicubic", "gt") and "comparison" in e.result["protocol"]]
    verdicts = {e.label: e.result["protocol"]["comparison"] for e in references}
    sentence = "; ".join(
        f"{label}: {comparison['verdict']} ({comparison['why']})" for label, comparison in verdicts.items()
    )
    sentence = f"by {sentence}" if sentence else "unknown: no bicubic run given"
    return f"Protocol {protocol['id']}, hash {protocol['hash']}. Conformance {sentence}."


def _clip(scene: Scene, group: Group, folder: Path, number: int) -> dict[str, Any]:
    """Pictures of a clip, inside the page and as PNG files."""
    folders = {entry.label: entry.frames(scene.clip) for entry in group.methods}
    if scene.truth is not None:
        folders[TRUTH] = scene.truth
    clip_crops = crops.make_crops(scene.clip, folders, TRUTH if scene.truth is not None else None)
    place = folder / "figures" / f"{number}-{scene.clip.replace('/', '_')}"
    for view in clip_crops.views:
        for kind in ("crop", "profile", "strip", "error"):
            image = getattr(view, kind)
            if image is not None:
                write_atomic(place / f"{kind}-{_file(view.label)}.png", crops.encoded(image, "png"))
    for label, image in scene.motion.maps if scene.motion is not None else ():
        write_atomic(place / f"flow-{_file(label)}.png", crops.encoded(image, "png"))
    return {
        "name": scene.clip,
        "frames": clip_crops.frames,
        "middle": clip_crops.middle + 1,
        "white": f"{clip_crops.white:.0f}",
        "marked": crops.data_uri(clip_crops.marked, "jpeg"),
        "marked_name": TRUTH if scene.truth is not None else clip_crops.views[0].label,
        "views": [_view(view) for view in clip_crops.views],
        "motion": _motion(scene),
        "videos": [
            {"label": label, "source": path.relative_to(folder).as_posix(), "poster": _poster(clip_crops, label)}
            for label, path in scene.videos.items()
        ],
    }


def _view(view: crops.View) -> dict[str, Any]:
    return {
        "label": view.label,
        "whole": crops.data_uri(view.whole, "jpeg"),
        "crop": crops.data_uri(view.crop),
        "profile": crops.data_uri(view.profile),
        "strip": crops.data_uri(view.strip),
        "error": None if view.error is None else crops.data_uri(crops.smaller(view.error, SMALL), "jpeg"),
    }


def _poster(clip_crops: crops.Crops, label: str) -> str:
    whole = next(view.whole for view in clip_crops.views if view.label == label)
    return crops.data_uri(crops.smaller(whole, SMALL), "jpeg")


def _motion(scene: Scene) -> dict[str, Any] | None:
    if scene.motion is None:
        return None
    maps = [(label, crops.data_uri(crops.smaller(image, SMALL), "jpeg")) for label, image in scene.motion.maps]
    return {"source": scene.motion.source, "maps": maps}


def _file(label: str) -> str:
    return "".join(c if c.isalnum() or c in "+-." else "_" for c in label)


def _provenance(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """What each run was made with, once: label, folder, command, commit, device, seed."""
    rows: dict[Path, dict[str, Any]] = {}
    for part in parts:
        for entry in part.group.entries:
            for folder, result in zip(entry.folders, entry.results, strict=True):
                facts = {
                    "label": entry.label,
                    "data": result["data"]["set"],
                    "lr": result["data"].get("lr"),
                    "folder": folder.name,
                }
                rows.setdefault(folder, facts | {"made": result["provenance"]})
    return list(rows.values())
