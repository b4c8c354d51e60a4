"""Charts of a report: planes of two qualities, curves over frames, metrics against a swept setting. Needs no torch."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsrbench.reports import labels, statistics
from vsrbench.reports.entries import NAMES, Entry, Group, differing
from vsrbench.reports.figures import panels
from vsrbench.reports.measured import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#a6761d", "#7f7f7f")
MARKERS = "osD^vPX<>*"
INK = "#123456"  # stands for the page's text colour until the chart is on the page
LONGEST = 28  # characters of a name
SIZE = (4.3, 3.4)  # inches; about what a phone is wide
PERCEPTUAL = ("lpips_alex", "lpips_vgg", "dists", "niqe", "musiq", "clipiqa")
DISTORTION = ("psnr_y", "psnr_rgb")
CONSISTENT = ("rwe", "consistency", "ewarp", "we_lai")
STAND_INS = ("ssim_y", "ssim_rgb")  # structure: where no perceptual metric has numbers


@dataclass(frozen=True)
class Chart:
    """A figure with its name for files and the sentence below it."""

    name: str
    caption: str
    figure: "Figure"


def charts(group: Group, swept: str | None = None) -> list[Chart]:
    """All charts that the numbers of a group allow: the three planes, metrics over ``swept``."""
    found = [plane(group, *axes) for axes in _planes(group)]
    return [*found, over_setting(group, swept)] if swept else found


def _planes(group: Group) -> list[tuple[str, str, str, str]]:
    """(name, x, y, remark) of each plane that has two metrics with numbers for two methods at least."""
    perception, distortion = _first(group, PERCEPTUAL), _first(group, DISTORTION)
    stand_in = _first(group, STAND_INS)
    sharp = "sharpness" if _has(group, "sharpness") else None
    quality = perception or stand_in
    lacking = "" if perception else "No perceptual metric has numbers here; {} stands in."
    wanted = [
        ("perception-distortion", distortion, perception or sharp, lacking.format("sharpness (gradient energy)")),
        ("consistency-quality", quality, _first(group, CONSISTENT), lacking.format(title(stand_in or "ssim_y")[:-2])),
        ("quality-cost", "seconds_per_frame", perception or distortion, "Time on the device that the table names."),
    ]
    return [(name, x, y, remark) for name, x, y, remark in wanted if x and y]


def _first(group: Group, metrics: Sequence[str]) -> str | None:
    return next((m for m in metrics if _has(group, m)), None)


def _has(group: Group, metric: str) -> bool:
    return sum(isinstance(e.value(metric), int | float) for e in group.methods) >= 2


def _number(entry: Entry, name: str) -> float | None:
    value = entry.cost(name) if name == "seconds_per_frame" else entry.value(name)
    return float(value) if isinstance(value, int | float) else None


def plane(group: Group, name: str, x: str, y: str, remark: str = "") -> Chart:
    """One point per method; axes say which way is better. The ground truth appears where it has both values."""
    figure, grid = panels(1, 1, SIZE)
    axes = grid[0][0]
    placed, short = [], _short(group)
    for n, entry in enumerate(group.entries):
        at = _number(entry, x), _number(entry, y)
        if at[0] is None or at[1] is None or (x == "seconds_per_frame" and entry.method == "gt"):
            continue
        axes.scatter(at[0], at[1], color=colour(n), marker=MARKERS[n % len(MARKERS)], s=42, zorder=3)
        placed.append((float(at[0]), float(at[1]), short[entry.label]))
    axes.locator_params(nbins=6)
    if x == "seconds_per_frame":
        _seconds(axes)
    axes.margins(0.16)
    axes.set_xlabel("seconds per frame ↓" if x == "seconds_per_frame" else title(x))
    axes.set_ylabel(title(y))
    _dress(axes)
    _label(figure, axes, placed)
    return Chart(name, f"{name.replace('-', ' and ').capitalize()}. {remark}".strip(), figure)


def _seconds(axes: "Axes") -> None:
    """A logarithmic axis whose ticks are plain numbers: 0.1, 0.2, 0.5, 1, ..."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def colour(number: int) -> str:
    """The colour of the entry of that number, the same in every chart."""
    return COLOURS[number % len(COLOURS)]


def _label(figure: "Figure", axes: "Axes", placed: Sequence[tuple[float, float, str]]) -> None:
    """Names beside the points, moved apart, with a thin line to the point where a name had to go far."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the panel is where it stays: names must not move it
    points = [tuple(axes.transData.transform((x, y))) for x, y, _ in placed]
    made = [axes.text(x, y, text, fontsize=8.5, color=INK, zorder=4, va="center") for x, y, text in placed]
    extents = [text.get_window_extent() for text in made]
    boxes = labels.places(points, [(e.width, e.height + 2) for e in extents], axes.get_window_extent().extents)
    for (px, py), text, (left, bottom, right, top) in zip(points, made, boxes, strict=True):
        middle = (bottom + top) / 2
        text.set_position(tuple(axes.transData.inverted().transform((left, middle))))
        if abs(middle - py) > top - bottom:
            near = left if left > px else right
            ends = axes.transData.inverted().transform([(px, py), (near, middle)])
            axes.plot(*ends.T, color=INK, alpha=0.4, linewidth=0.6, zorder=2, scalex=False, scaley=False)


def _short(group: Group) -> dict[str, str]:
    """Labels as charts have room for; tables give them whole. Runs of one method are called by what they differ in."""
    names = {entry.label: entry.label for entry in group.entries}
    parts = [label.rstrip(")").partition(" (") for label in names]
    if len(parts) > 1 and all(part[1] for part in parts) and len({part[0] for part in parts}) == 1:
        names = {label: part[2] for label, part in zip(names, parts, strict=True)}
    return {label: name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for label, name in names.items()}


def curves(group: Group) -> list[Chart]:
    """Per clip the two main metrics over its frames, where there are at least three frames."""
    metrics = [m for m in (_first(group, DISTORTION), _first(group, CONSISTENT)) if m]
    found = []
    for clip, count in group.clips.items():
        if count < 3 or not metrics:
            continue
        figure, grid = panels(len(metrics), 1, (SIZE[0], 2.2))
        for axes, metric in zip((row[0] for row in grid), metrics, strict=True):
            _over_frames(axes, group, metric, clip)
        _legend([row[0] for row in grid])
        grid[-1][0].set_xlabel(f"frame of {clip}")
        found.append(Chart(f"frames-{clip.replace('/', '_')}", f"{clip}: values frame by frame.", figure))
    return found


def _over_frames(axes: "Axes", group: Group, metric: str, clip: str) -> None:
    short = _short(group)
    for n, entry in enumerate(group.entries):
        values = statistics.frames_of(entry.result, metric).get(clip, []) if metric in entry.result["metrics"] else []
        if len(values) > 1:
            axes.plot(range(1, len(values) + 1), values, color=colour(n), label=short[entry.label], linewidth=1.4)
    axes.set_ylabel(title(metric))
    axes.locator_params(axis="x", integer=True)
    _dress(axes)


def _legend(panels: "Sequence[Axes]") -> None:
    """One legend for all panels, above the first: an entry may have numbers in only one of them."""
    lines = {name: line for axes in panels for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    if lines:
        made = panels[0].legend(
            list(lines.values()), list(lines), fontsize=7.5, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0),
            frameon=False, handlelength=1.3, columnspacing=1.0,
        )  # fmt: skip
        for text in made.get_texts():
            text.set_color(INK)


def over_setting(group: Group, key: str) -> Chart:
    """Main metrics against a setting that runs differ in, one line per method.

    Runs that state no number for the setting are left out.
    """
    metrics = [m for m in (*DISTORTION[:1], _first(group, PERCEPTUAL) or "ssim_y", _first(group, CONSISTENT)) if m]
    figure, rows = panels(len(metrics), 1, (SIZE[0], 2.0))
    column = [row[0] for row in rows]
    for axes, metric in zip(column, metrics, strict=True):
        for n, method in enumerate(dict.fromkeys(e.method for e in group.methods)):
            members = [e for e in group.methods if e.method == method]
            points = sorted((float(e.settings[key]), _number(e, metric)) for e in members if numeric(e, key))
            if points:
                xs, ys = zip(*points, strict=True)
                axes.plot(xs, ys, marker="o", markersize=4, color=colour(n), label=NAMES.get(method, method))
        axes.locator_params(axis="y", nbins=5)
        axes.set_ylabel(title(metric))
        _dress(axes)
    column[-1].set_xlabel(key)
    _legend(column)
    return Chart(f"over-{key}", f"Metrics against {key}.", figure)


def numeric(entry: Entry, key: str) -> bool:
    """Whether the entry's run states a number for a setting."""
    value = entry.settings.get(key)
    return isinstance(value, int | float) and not isinstance(value, bool)


def swept(group: Group) -> str | None:
    """The one numeric setting in which runs of a method differ, if there is one with three values or more."""
    for method in dict.fromkeys(e.method for e in group.methods):
        members = [e for e in group.methods if e.method == method]
        keys = [k for k in differing(members) if len({str(e.settings.get(k)) for e in members}) > 2]
        if len(keys) == 1 and all(numeric(e, keys[0]) for e in members):
            return keys[0]
    return None


def _dress(axes: "Axes") -> None:
    axes.grid(alpha=0.25)
    axes.tick_params(colors=INK, labelsize=8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
        label.set_fontsize(9)
    for spine in axes.spines.values():
        spine.set_color(INK)
        spine.set_alpha(0.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def svg(chart: Chart, ink: str = "currentColor", salt: str = "") -> str:
    """The chart as an ``svg`` element in the page's text colour, without a background.

    salt: keeps the names inside several charts of one page apart.
    """
    import matplotlib as mpl

    data = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": f"{chart.name}{salt}", "svg.fonttype": "none", "font.family": "sans-serif"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        chart.figure.savefig(data, format="svg", transparent=True, metadata=nothing)
    text = data.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return text.replace(INK, ink)


def pdf(chart: Chart) -> bytes:
    """The chart as a PDF for a paper."""
    data = io.BytesIO()
    chart.figure.savefig(data, format="pdf", transparent=True, metadata={"CreationDate": None})
    return data.getvalue()
