"""Figures of the analyses (``vsrbench.analyse``), drawn from the content of their table.json. Needs no torch."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vsrbench.reports.drawing import panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"original": "#444444", "warped": "#d1495b", "rescaled": "#00798c", "other": "#9aa5b1"}
UNITS = {"mean": "mean |response|", "variance": "variance of response"}
UNITS |= {"energy": "spectrum energy per pixel", "share": "share of spectrum energy"}
CORRELATIONS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "f_entropy": "F(H) = 1/(1+H)", "f_sigma": "F(σ) = 1/(1+σ)"}


def draw(result: dict[str, Any], pictures: dict[str, dict[str, Any]] | None = None) -> "Figure":
    """The figure of an analysis. pictures: for the tasks in ``PICTURED``, {row: {column: array}}."""
    if result["task"] in PICTURED:
        figure = PICTURED[result["task"]](result, pictures or {})
    else:
        figure = DRAWN[result["task"]](result)
    name = f"{result['method']} size={result['size']}, ×{result['scale']}, {result['data']['set']}"
    figure.suptitle(f"{TITLES[result['task']]}\n{name}: {basis(result)}", fontsize=11)
    figure.draw_without_rendering()  # lays the panels out, once for all files
    figure.set_layout_engine("none")
    return figure


def basis(result: dict[str, Any]) -> str:
    """What the drawn values rest on."""
    if result["task"] == "components":
        v = result["values"]
        moved = f"frame {v['frame'] - 1} warped to frame {v['frame']}"
        return f"{v['clip']}, {moved}, channel {v['channel']}, t = {v['timestep']}"
    if result["task"] == "textures":
        return f"{result['values']['clip']}, frame {result['values']['frame']}, {result['counts']['steps']} steps"
    names = {"clips": "clips", "pairs": "frame pairs", "steps": "diffusion steps", "groups": "feature groups"}
    return ", ".join(f"{result['counts'][key]} {name}" for key, name in names.items())


def edges(result: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """{measure: (name, unit)} of the four strengths, as the settings have them; x0 is mapped to [0,1]."""
    settings = result["settings"]
    return {
        "canny": ("Canny", "share of edge pixels"),
        "sobel": ("Sobel", "mean gradient (1/pixel)"),
        "laplacian": ("Laplacian", UNITS[settings["laplacian"]]),
        "highpass": ("High-pass", UNITS[settings["highpass"]["measure"]]),
    }


def number(value: Any) -> float:
    """A value as a drawing takes it: a text (why there is no number) leaves a gap."""
    return value if isinstance(value, (int, float)) else float("nan")


def lines(axes: "Axes", xs: Sequence[Any], series: dict[str, tuple[list[Any], str]], y: str) -> None:
    """One line per label: {label: (values, colour)}, equally spaced over ``xs``, which name the places."""
    for label, (values, colour) in series.items():
        axes.plot(range(len(xs)), [number(v) for v in values], marker="o", markersize=4, label=label, color=colour)
    every = max(1, -(-len(xs) // 10))
    axes.set_xticks(range(0, len(xs), every), [str(x) for x in xs[::every]])
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)


def bars(axes: "Axes", values: dict[str, tuple[Any, str]], y: str) -> None:
    """One bar per label with its value above: {label: (value, colour)}."""
    heights = [number(v) for v, _ in values.values()]
    container = axes.bar(list(values), heights, color=[c for _, c in values.values()], width=0.62)
    axes.bar_label(container, fmt="%.3g", fontsize=8, padding=2)
    axes.margins(y=0.18)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel(y, fontsize=8)


def draw_correlation(result: dict[str, Any]) -> "Figure":
    """Figure 1 over all steps: four measures of adjacent features and adjacent frames."""
    figure, grid = panels(1, 4, (3.4, 3.2))
    steps, gains = result["values"]["steps"], result["values"]["gain_percent"]
    for axes, (measure, name) in zip(grid[0], CORRELATIONS.items(), strict=True):
        series = {
            "adjacent features x0": ([s["features"][measure] for s in steps.values()], COLOURS["rescaled"]),
            "adjacent frames": ([s["frames"][measure] for s in steps.values()], COLOURS["warped"]),
        }
        lines(axes, list(steps), series, name)
        axes.set_xlabel("diffusion step t, noisiest first")
        reported = result["paper"]["gain_percent"][measure]
        axes.set_title(f"gain {_percent(gains[measure])}, paper {_percent(reported)}", fontsize=9)
    grid[0][0].legend(fontsize=8)
    return figure


def draw_warping(result: dict[str, Any]) -> "Figure":
    """Figure 2 and Supp. Figure 1: one row per measure, one column per question."""
    figure, grid = panels(4, 3, (4.4, 2.4))
    values = result["values"]
    s = f"×{values['factor']:g}"
    for row, (measure, (name, unit)) in zip(grid, edges(result).items(), strict=True):
        a = {
            way: (strengths[measure], COLOURS.get(way, COLOURS["other"]))
            for way, strengths in values["strength"].items()
        }
        original, warped = a["original"], a["warped"]
        up, up_warped = a["upscaled"], (a["upscaled_warped"][0], COLOURS["warped"])
        y = f"{name}:\n{unit}"
        bars(row[0], {"original": original, s: up, f"×1/{values['factor']:g}": a["downscaled"]}, y)
        bars(row[1], {"original": original, "warp": warped, s: up, f"{s}, warp": up_warped}, y)
        way = f"{s}, warp, ×1/{values['factor']:g}"
        bars(row[2], {"original": original, "warp": warped, way: a["rescaled"]}, y)
        low, high, gained = (values[k][measure] for k in ("loss_percent", "loss_enlarged_percent", "gain_percent"))
        p = [result["paper"][k][measure] for k in ("loss_percent", "loss_enlarged_percent", "gain_percent")]
        row[1].set_title(
            f"change {_percent(_negative(low))} and {_percent(_negative(high))} (paper −{p[0]}, −{p[1]})", fontsize=8
        )
        row[2].set_title(f"rescaled over direct {_percent(gained)} (paper +{p[2]})", fontsize=8)
    for axes, title in zip(grid[0], ("(a) resizing", "(b) warping", "(c) rescaled warping"), strict=True):
        axes.set_title(f"{title}\n{axes.get_title()}".strip(), fontsize=9)
    return figure


def draw_steps(result: dict[str, Any]) -> "Figure":
    """Supp. Figure 2: strengths over the diffusion steps."""
    figure, grid = panels(1, 4, (3.4, 3.2))
    steps, s = result["values"]["steps"], result["values"]["factor"]
    labels = {"original": "original x0", "warped": "warp", "rescaled": f"×{s:g}, warp, ×1/{s:g}"}
    for axes, (measure, (name, unit)) in zip(grid[0], edges(result).items(), strict=True):
        series = {labels[w]: ([v[w][measure] for v in steps.values()], COLOURS[w]) for w in labels}
        lines(axes, list(steps), series, unit)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("diffusion step t, noisiest first")
    grid[0][0].legend(fontsize=8)
    return figure


def draw_factors(result: dict[str, Any]) -> "Figure":
    """Supp. Figure 3: reduction and absolute edge strength over the rescaling factor."""
    figure, grid = panels(1, 2, (5.6, 3.6))
    factors = result["values"]["factors"]
    reduction = {
        "rescaled warp": ([v["reduction_percent"] for v in factors.values()], COLOURS["rescaled"]),
        "direct warp": ([v["reduction_direct_percent"] for v in factors.values()], COLOURS["warped"]),
    }
    lines(grid[0][0], list(factors), reduction, "loss of edge strength by warping (%)")
    absolute = {
        "x0": ([v["edge"]["original"] for v in factors.values()], COLOURS["original"]),
        "x0 after rescaled warp": ([v["edge"]["rescaled"] for v in factors.values()], COLOURS["rescaled"]),
    }
    lines(grid[0][1], list(factors), absolute, "edge strength (x0 in [0,1])")
    for axes in grid[0]:
        axes.set_xlabel("rescaling factor s")
        axes.set_title("mean of Canny, Sobel and Laplacian", fontsize=9)
        axes.legend(fontsize=8)
    return figure


def draw_components(result: dict[str, Any], pictures: dict[str, dict[str, Any]]) -> "Figure":
    """Supp. Figure 6: components by row, ways of warping by column; each row has one grey scale."""
    import numpy as np

    height, width = next(iter(next(iter(pictures.values())).values())).shape
    figure, grid = panels(len(pictures), 3, (3.6, 3.4 * height / width + 0.25))
    for axes_row, (component, ways) in zip(grid, pictures.items(), strict=True):
        # the few brightest pixels would leave all others dark
        brightest = max(float(np.quantile(picture, 0.995)) for picture in ways.values()) or 1.0
        for axes, (way, picture) in zip(axes_row, ways.items(), strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=brightest, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if axes_row is grid[0]:
                axes.set_title(way.replace("x", "×") if way[0] == "x" else way, fontsize=10)
        axes_row[0].set_ylabel(f"{component}\nwhite = {brightest:.2g}", fontsize=9)
    return figure


def _negative(value: Any) -> Any:
    return -value if isinstance(value, (int, float)) else value


def _percent(value: Any) -> str:
    return f"{value:+.2f} %".replace("-", "−") if isinstance(value, (int, float)) else "undefined"


DRAWN: "dict[str, Callable[[dict[str, Any]], Figure]]" = {
    "correlation": draw_correlation,
    "warping": draw_warping,
    "steps": draw_steps,
    "factors": draw_factors,
}
TITLES = {
    "correlation": "Correlation of adjacent features and of adjacent frames",
    "warping": "High-frequency strength of x0 under resizing, warping and rescaled warping",
    "steps": "High-frequency strength of x0 over the diffusion steps",
    "factors": "Edge strength and its loss over the rescaling factor",
    "components": "Components of x0: original, warped, warped while enlarged",
    "textures": "x_t and x0 over the diffusion steps; warping before and after decoding",
}

STEP_TITLES = {
    "x_t": "x_t, decoded",
    "x0": "x0, decoded",
    "distance": "|x0 − last x0|",
    "detail": "|high frequencies of x0|",
}
WAYS = {"latent": "latent warped, then decoded", "pixel": "decoded, then warped"}


def draw_textures(result: dict[str, Any], pictures: dict[str, dict[str, Any]]) -> "Figure":
    """StableVSR's Figure 3 (a row per step) and Figure 4 (one row), and the numbers behind both over all steps."""
    values = result["values"]
    rows = [row for row in pictures if row != "warp"]
    height, width = pictures["warp"]["pixel"].shape[:2]
    figure, grid = panels(len(rows) + 2, 4, (3.2, 2.85 * height / width + 0.2))
    white = {key: _bright(pictures[row][key] for row in rows) for key in ("distance", "detail")}
    white["error"] = _bright(pictures["warp"][f"{way}_error"] for way in WAYS)
    for axes_row, row in zip(grid, rows, strict=False):
        for axes, (key, title) in zip(axes_row, STEP_TITLES.items(), strict=True):
            _picture(axes, pictures[row][key], white.get(key))
            axes.set_title(title if axes_row is grid[0] else "", fontsize=10)
        axes_row[0].set_ylabel(row, fontsize=10)
    last = list(values["steps"].values())[-1]["warp"]
    for n, (way, title) in enumerate(WAYS.items()):
        picture, error = grid[-2][2 * n : 2 * n + 2]
        _picture(picture, pictures["warp"][way], None)
        _picture(error, pictures["warp"][f"{way}_error"], white["error"])
        picture.set_title(title, fontsize=9)
        error.set_title(f"error: mean {number(last[way]['mae']):.2f}, {number(last[way]['psnr']):.2f} dB", fontsize=9)
    grid[-2][0].set_ylabel(f"neighbour's x0 at {rows[-1]}", fontsize=9)
    _over_steps(grid[-1], result)
    return figure


def _over_steps(row: "list[Axes]", result: dict[str, Any]) -> None:
    """Distance, high frequencies, and the errors of both warps over t."""
    steps = result["values"]["steps"]
    x_t, x0 = COLOURS["other"], COLOURS["rescaled"]
    unit = "energy" if result["settings"]["highpass"]["measure"] == "energy" else "share"
    panel: dict[str, dict[str, tuple[list[Any], str]]] = {
        "mean distance to the last x0": {
            "x_t": ([v["distance_x_t"] for v in steps.values()], x_t),
            "x0": ([v["distance"] or None for v in steps.values()], x0),  # of the last step: 0, not on this axis
        },
        f"high-frequency {unit}": {
            "x_t": ([v["highpass"]["x_t"] for v in steps.values()], x_t),
            "x0": ([v["highpass"]["x0"] for v in steps.values()], x0),
        },
    }
    colours = {"latent": COLOURS["warped"], "pixel": COLOURS["rescaled"]}
    for key, title in (
        ("mae", f"error against {result['values']['reference']}"),
        ("highpass", f"{unit} after the warp"),
    ):
        panel[title] = {WAYS[w]: ([v["warp"][w][key] for v in steps.values()], colours[w]) for w in WAYS}
    for axes, (title, series) in zip(row, panel.items(), strict=True):
        lines(axes, list(steps), series, "")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("t, noisiest first", fontsize=8)
        axes.legend(fontsize=7)
    for axes in row[:2]:
        axes.set_yscale("log")


def _bright(maps: Iterable[Any]) -> float:
    """What is drawn white: the few brightest pixels would leave all others dark."""
    import numpy as np

    return max(float(np.quantile(picture, 0.995)) for picture in maps) or 1.0


def _picture(axes: "Axes", picture: Any, white: float | None) -> None:
    """A frame (h,w,3) in [0,1], or a map (h,w) that is white at ``white``."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


PICTURED: "dict[str, Callable[[dict[str, Any], dict[str, dict[str, Any]]], Figure]]" = {
    "components": draw_components,
    "textures": draw_textures,
}
