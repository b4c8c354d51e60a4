"""What all figures share: panels, dress, names beside points, and how they become files. Needs no torch."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels

INK = "#123456"  # stands for the page's text colour until the chart is on the page
RADIUS = 6.0  # of a point's marker, in pixels
ASIDE = 10.0  # from a point to its name
REACH = 40  # half lines that a name may move up or down


@dataclass(frozen=True)
class Chart:
    """A figure with its name for files and the sentence below it."""

    name: str
    caption: str
    figure: "Figure"


def panels(rows: int, columns: int, size: tuple[float, float]) -> "tuple[Figure, list[list[Axes]]]":
    """A figure without any window behind it, and its axes by row and column; size of one panel in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * size[0], rows * size[1] + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def dress(axes: "Axes") -> None:
    """Grid, text and frame of a panel in the page's colours."""
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


def add_legend(panels: "Sequence[Axes]") -> None:
    """One legend for all panels, above the first: an entry may have numbers in only one of them."""
    lines = {name: line for axes in panels for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    if lines:
        legend = panels[0].legend(
            list(lines.values()), list(lines), fontsize=7.5, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0),
            frameon=False, handlelength=1.3, columnspacing=1.0,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_color(INK)


def add_names(figure: "Figure", axes: "Axes", placed: Sequence[tuple[float, float, str]]) -> None:
    """Names beside the points, moved apart, with a thin line to the point where a name had to go far."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the panel is where it stays: names must not move it
    points = [tuple(axes.transData.transform((x, y))) for x, y, _ in placed]
    texts = [axes.text(x, y, text, fontsize=8.5, color=INK, zorder=4, va="center") for x, y, text in placed]
    extents = [text.get_window_extent() for text in texts]
    boxes = places(points, [(e.width, e.height + 2) for e in extents], axes.get_window_extent().extents)
    for (px, py), text, (left, bottom, right, top) in zip(points, texts, boxes, strict=True):
        middle = (bottom + top) / 2
        text.set_position(tuple(axes.transData.inverted().transform((left, middle))))
        if abs(middle - py) > top - bottom:
            near = left if left > px else right
            ends = axes.transData.inverted().transform([(px, py), (near, middle)])
            axes.plot(*ends.T, color=INK, alpha=0.4, linewidth=0.6, zorder=2, scalex=False, scaley=False)


def places(points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], panel: Box) -> list[Box]:
    """The box of each name. points: (x,y) in pixels; sizes: (width, height) of the names; panel: where names may be.

    A name for which there is no room at all lies beside its point, over what is there.
    """
    occupied = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in points]
    boxes: dict[int, Box] = {}
    for n in sorted(range(len(points)), key=lambda n: points[n][1]):
        tried = _candidates(points[n], sizes[n], panel)
        free = (box for box in tried if inside(box, panel) and not any(overlap(box, other) for other in occupied))
        boxes[n] = next(free, tried[0])
        occupied.append(boxes[n])
    return [boxes[n] for n in range(len(points))]


def _candidates(point: tuple[float, float], size: tuple[float, float], panel: Box) -> list[Box]:
    """Boxes right and left of a point and in half lines above and below, nearest first; to the middle before."""
    (x, y), (width, height) = point, size
    lefts = [x + ASIDE, x - ASIDE - width]
    if x > (panel[0] + panel[2]) / 2:
        lefts.reverse()
    bottoms = [y + (step - 1) * height / 2 for step in sorted(range(-REACH, REACH + 1), key=abs)]
    return [(left, bottom, left + width, bottom + height) for bottom in bottoms for left in lefts]


def inside(box: Box, panel: Box) -> bool:
    return panel[0] <= box[0] and panel[1] <= box[1] and box[2] <= panel[2] and box[3] <= panel[3]


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def encode(figure: "Figure", kind: str) -> bytes:
    """A figure as the bytes of a file; kind: png or svg."""
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
    return data.getvalue()


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
