"""Charts of a report: scatter plots of two qualities, curves over frames, metrics over a setting. Needs no torch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vsrbench.reports import statistics
from vsrbench.reports.drawing import INK, Chart, add_legend, add_names, dress, panels
from vsrbench.reports.entries import NAMES, Entry, Group, differing
from vsrbench.reports.tables import digits, name_of, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#a6761d", "#7f7f7f")
MARKERS = "osD^vPX<>*"
STYLES = ("-", "--")  # of the first five lines, of the others
LONGEST = 28  # characters of a name
SIZE = (4.3, 3.4)  # inches; about what a phone is wide
PERCEPTUAL = ("lpips_alex", "lpips_vgg", "dists", "niqe", "musiq", "clipiqa")
DISTORTION = ("psnr_y", "psnr_rgb")
CONSISTENT = ("rwe", "consistency", "ewarp", "we_lai")
STRUCTURE = ("ssim_y", "ssim_rgb")  # structure: where no perceptual metric has numbers


def charts(group: Group, swept: str | None = None) -> list[Chart]:
    """All charts that the numbers of a group allow: three scatter plots, metrics over ``swept``."""
    scatter = [scatter_plot(group, *axes, swept) for axes in _scatter_axes(group)]
    return [*scatter, over_setting(group, swept)] if swept else scatter


def _scatter_axes(group: Group) -> list[tuple[str, str, str, str]]:
    """(name, x, y, remark) of each scatter plot that has two metrics with numbers for two methods at least."""
    perception, distortion = _first(group, PERCEPTUAL), _first(group, DISTORTION)
    structure = _first(group, STRUCTURE)
    sharp = "sharpness" if _has(group, "sharpness") else None
    quality = perception or structure
    remark = "" if perception else "No perceptual metric has numbers here; {} is shown instead."
    candidates = [
        ("perception-distortion", distortion, perception or sharp, remark.format("sharpness (gradient energy)")),
        ("consistency-quality", quality, _first(group, CONSISTENT), remark.format(name_of(structure or "ssim_y"))),
        ("quality-cost", "seconds_per_frame", perception or distortion, "Time on the device that the table names."),
    ]
    return [(name, x, y, remark) for name, x, y, remark in candidates if x and y]


def _first(group: Group, metrics: Sequence[str]) -> str | None:
    return next((m for m in metrics if _has(group, m)), None)


def _has(group: Group, metric: str) -> bool:
    return sum(isinstance(e.value(metric), int | float) for e in group.methods) >= 2


def _number(entry: Entry, name: str) -> float | None:
    value = entry.cost(name) if name == "seconds_per_frame" else entry.value(name)
    return float(value) if isinstance(value, int | float) else None


def scatter_plot(group: Group, name: str, x: str, y: str, remark: str = "", swept: str | None = None) -> Chart:
    """One point per method; axes say which way is better. The ground truth appears where it has both values.

    swept: a setting; where x is the cost, a line joins runs that differ in it alone.
    """
    figure, grid = panels(1, 1, SIZE)
    axes = grid[0][0]
    names, short, costs = [], _short(group), x == "seconds_per_frame"
    points = {e.label: at for e in group.entries if (at := _at(e, x, y)) and not (costs and e.method == "gt")}
    for label in _outside(group, points):
        at = points.pop(label)
        remark += (
            f" The ground truth is far outside: {name_of(x)} {at[0]:.{digits(x)}f}, {name_of(y)} {at[1]:.{digits(y)}f}."
        )
    for n, entry in enumerate(group.entries):
        if at := points.get(entry.label):
            axes.scatter(*at, color=colour(n), marker=MARKERS[n % len(MARKERS)], s=42, zorder=3)
            names.append((*at, short[entry.label]))
    for _, members in _series(group, swept) if costs and swept else []:
        line = [points[e.label] for e in members if e.label in points]
        axes.plot(*zip(*line, strict=True), color=INK, alpha=0.35, linewidth=1, zorder=1)
    axes.locator_params(nbins=6)
    if costs:
        _seconds(axes)
    axes.margins(0.16)
    axes.set_xlabel("seconds per frame ↓" if costs else title(x))
    axes.set_ylabel(title(y))
    dress(axes)
    add_names(figure, axes, names)
    return Chart(name, f"{name.replace('-', ' and ').capitalize()}. {remark}".strip(), figure)


def _at(entry: Entry, x: str, y: str) -> tuple[float, float] | None:
    across, up = _number(entry, x), _number(entry, y)
    return None if across is None or up is None else (across, up)


def _outside(group: Group, points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The ground truth's label where showing it would press the methods into a corner."""
    others = [points[e.label] for e in group.methods if e.label in points]
    truth = group.truth()
    if truth is None or truth.label not in points or len(others) < 2:
        return []
    far = (_far(at, values) for at, values in zip(points[truth.label], zip(*others, strict=True), strict=True))
    return [truth.label] if any(far) else []


def _far(value: float, others: Sequence[float]) -> bool:
    """Farther from a range than the range is long."""
    low, high = min(others), max(others)
    return not 2 * low - high <= value <= 2 * high - low


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


def _short(group: Group) -> dict[str, str]:
    """Labels as charts have room for; tables give them whole. Runs of one method are called by what they differ in."""
    names = {entry.label: entry.label for entry in group.entries}
    parts = [label.rstrip(")").partition(" (") for label in names]
    if len(parts) > 1 and all(part[1] for part in parts) and len({part[0] for part in parts}) == 1:
        names = {label: _brief(part[2]) for label, part in zip(names, parts, strict=True)}
    else:
        names = {n: f"{p[0]} ({_brief(p[2])})" if p[1] else n for n, p in zip(names, parts, strict=True)}
    return {label: name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for label, name in names.items()}


def _brief(settings: str) -> str:
    """``sampler.kind=ddim, sampler.steps=4`` as ``ddim, steps=4``: keys by their last word where that is enough."""
    pairs = [word.partition("=") for word in settings.split(", ")]
    last = [key.split(".")[-1] for key, _, _ in pairs]
    if len(set(last)) < len(last) or not all(sign for _, sign, _ in pairs):
        return settings
    return ", ".join(v if k == "kind" else f"{k}={v}" for k, (_, _, v) in zip(last, pairs, strict=True))


def curves(group: Group) -> list[Chart]:
    """Per clip the two main metrics over its frames, where there are at least three frames."""
    metrics = [m for m in (_first(group, DISTORTION), _first(group, CONSISTENT)) if m]
    per_clip = []
    for clip, count in group.clips.items():
        if count < 3 or not metrics:
            continue
        figure, grid = panels(len(metrics), 1, (SIZE[0], 2.2))
        column = [row[0] for row in grid]
        out = [m for axes, m in zip(column, metrics, strict=True) if _over_frames(axes, group, m, clip)]
        add_legend(column)
        column[-1].set_xlabel(f"frame of {clip}")
        remark = f" The ground truth's {' and '.join(map(name_of, out))} is far outside." if out else ""
        per_clip.append(Chart(f"frames-{clip.replace('/', '_')}", f"{clip}: values frame by frame.{remark}", figure))
    return per_clip


def _over_frames(axes: "Axes", group: Group, metric: str, clip: str) -> bool:
    """Draw a metric over a clip's frames; returns whether the ground truth was left out, being far outside."""
    series = {n: statistics.frames_of(e.result, metric).get(clip, []) for n, e in _having(group, metric)}
    others = [v for n, values in series.items() for v in values if group.entries[n].method != "gt"]
    short, left_out = _short(group), False
    for n, values in series.items():
        entry = group.entries[n]
        if entry.method == "gt" and values and others and (_far(min(values), others) or _far(max(values), others)):
            left_out = True
        elif len(values) > 1:
            look = STYLES[n // 5 % 2]
            axes.plot(range(1, len(values) + 1), values, look, color=colour(n), label=short[entry.label], linewidth=1.4)
    axes.set_ylabel(title(metric))
    axes.locator_params(axis="x", integer=True)
    dress(axes)
    return left_out


def _having(group: Group, metric: str) -> list[tuple[int, Entry]]:
    return [(n, entry) for n, entry in enumerate(group.entries) if metric in entry.result["metrics"]]


def over_setting(group: Group, key: str) -> Chart:
    """Main metrics against a setting that runs differ in, a line for runs that differ in it alone.

    Runs that state no number for the setting are left out.
    """
    metrics = [m for m in (*DISTORTION[:1], _first(group, PERCEPTUAL) or "ssim_y", _first(group, CONSISTENT)) if m]
    figure, rows = panels(len(metrics), 1, (SIZE[0], 2.0))
    column = [row[0] for row in rows]
    for axes, metric in zip(column, metrics, strict=True):
        for n, (label, members) in enumerate(_series(group, key)):
            points = [(float(e.settings[key]), _number(e, metric)) for e in members]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour(n), label=label)
        axes.locator_params(axis="y", nbins=5)
        axes.set_ylabel(title(metric))
        dress(axes)
    column[-1].set_xlabel(key)
    add_legend(column)
    return Chart(f"over-{key}", f"Metrics against {key}.", figure)


def _series(group: Group, key: str) -> list[tuple[str, list[Entry]]]:
    """Runs of one method that differ in a numeric setting alone, in its order, with a name for each such series."""
    series: dict[str, list[Entry]] = {}
    for entry in group.methods:
        members = [e for e in group.methods if e.method == entry.method and numeric(e, key)]
        others = [f"{k}={entry.settings.get(k)}" for k in differing(members) if k != key and not key.endswith(f".{k}")]
        label = NAMES.get(entry.method, entry.method) + (f" ({_brief(', '.join(others))})" if others else "")
        if entry in members:
            series.setdefault(label, []).append(entry)
    return [(label, sorted(members, key=lambda e: float(e.settings[key]))) for label, members in series.items()]


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


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> Chart:
    """A training loss with its running mean; the axis starts at zero so that the fall is not exaggerated."""
    figure, grid = panels(1, 1, (6.6, 1.8))
    axes = grid[0][0]
    axes.plot(steps, losses, color=INK, alpha=0.35, linewidth=1)
    axes.plot(steps, running_mean(losses, max(3, len(losses) // 6)), color=colour(0), linewidth=2)
    axes.set_ylim(min(0.0, *losses), max(losses) * 1.05 or 1.0)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("step")
    dress(axes)
    return Chart("loss", "Training loss by step.", figure)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to ``window`` values around each place, fewer at the ends."""
    half = window // 2
    parts = [values[max(0, n - half) : n + half + 1] for n in range(len(values))]
    return [sum(part) / len(part) for part in parts]
