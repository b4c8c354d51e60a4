from typing import Any

import numpy as np
import pytest

from vsrbench.reports.drawing import encode
from vsrbench.reports.figures import basis, draw

MEASURES = ("canny", "sobel", "laplacian", "highpass")
KEYS = ("loss_percent", "loss_enlarged_percent", "gain_percent")


def result(task: str, values: dict[str, Any], paper: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "task": task, "method": "dgaf", "size": "mini", "scale": 4, "data": {"set": "vid4"}, "values": values,
        "counts": {"clips": 2, "pairs": 6, "steps": 3, "groups": 72}, "paper": paper or {},
        "settings": {"laplacian": "variance", "highpass": {"measure": "share"}},
    }  # fmt: skip


def warping(**changes: Any) -> dict[str, Any]:
    ways = ("original", "upscaled", "downscaled", "warped", "upscaled_warped", "rescaled")
    strength = {way: dict.fromkeys(MEASURES, n + 1.0) for n, way in enumerate(ways)}
    percents = {key: dict.fromkeys(MEASURES, 12.5) for key in KEYS}
    return result("warping", {"factor": 4.0, "strength": strength, **percents, **changes}, percents)


def test_warping_has_a_row_per_measure_and_a_column_per_question() -> None:
    figure = draw(warping())
    assert len(figure.axes) == 12
    assert figure.axes[0].get_title().startswith("(a)") and "−12.50 %" in figure.axes[1].get_title()
    assert [p.get_height() for p in figure.axes[2].patches] == [1.0, 4.0, 6.0]  # original, warped, rescaled
    assert "variance" in figure.axes[6].get_ylabel() and "share" in figure.axes[9].get_ylabel()
    title = figure.get_suptitle()
    assert "2 clips, 6 frame pairs, 3 diffusion steps, 72 feature groups" in title and "×4, vid4" in title


def test_a_percentage_that_does_not_exist_is_called_so() -> None:
    figure = draw(warping(loss_percent=dict.fromkeys(MEASURES, "undefined: the reference is zero")))
    assert "undefined" in figure.axes[1].get_title()


def test_lines_follow_the_steps_in_their_order() -> None:
    steps = {t: {way: dict.fromkeys(MEASURES, v) for way in ("original", "warped", "rescaled")}
             for t, v in (("501", 1.0), ("1", 2.0))}  # fmt: skip
    axes = draw(result("steps", {"factor": 4.0, "steps": steps})).axes
    assert len(axes) == 4 and list(axes[0].lines[0].get_ydata()) == [1.0, 2.0]
    assert [t.get_text() for t in axes[0].get_xticklabels()] == ["501", "1"]
    assert [t.get_text() for t in axes[0].get_legend().get_texts()] == ["original x0", "warp", "×4, warp, ×1/4"]


def test_a_missing_value_leaves_a_gap() -> None:
    measures = ("psnr", "ssim", "f_entropy", "f_sigma")
    steps = {
        "9": {
            "features": dict.fromkeys(measures, "infinite: the two are equal"),
            "frames": dict.fromkeys(measures, 1.0),
        }
    }
    gains = dict.fromkeys(measures, 1.0)
    axes = draw(result("correlation", {"steps": steps, "gain_percent": gains}, {"gain_percent": gains})).axes
    assert np.isnan(axes[0].lines[0].get_ydata()).all() and list(axes[0].lines[1].get_ydata()) == [1.0]


def test_factors() -> None:
    found = {s: {"reduction_percent": r, "reduction_direct_percent": 9.0, "edge": {"original": 1.0, "rescaled": 0.9}}
             for s, r in (("1", 9.0), ("1.6", 5.0))}  # fmt: skip
    axes = draw(result("factors", {"factors": found})).axes
    assert list(axes[0].lines[0].get_ydata()) == [9.0, 5.0] and axes[0].get_ylabel().endswith("(%)")
    assert [t.get_text() for t in axes[1].get_xticklabels()] == ["1", "1.6"]


def test_components_share_one_grey_scale_per_row() -> None:
    pictures = {row: {way: np.full((6, 8), v) for way, v in (("original", 0.2), ("warp", 0.4), ("x4", 0.1))}
                for row in ("feature", "high-pass")}  # fmt: skip
    values = {"clip": "walk", "frame": 2, "channel": 1, "timestep": 1}
    found = result("components", values)
    axes = draw(found, pictures).axes
    assert len(axes) == 6 and {image.get_clim() for a in axes for image in a.images} == {(0.0, 0.4)}
    assert basis(found) == "walk, frame 1 warped to frame 2, channel 1, t = 1"


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_files(kind: str, start: bytes) -> None:
    assert encode(draw(warping()), kind).startswith(start)


def textures(steps: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What task=textures gives, over three steps, with pictures of ``steps``."""
    ways = {way: {"mae": 2.0 + n, "psnr": 30.0, "highpass": 4.0} for n, way in enumerate(("latent", "pixel"))}
    values = {
        t: {"distance": d, "distance_x_t": 9.0, "highpass": {"x_t": 8.0, "x0": 5.0}, "warp": ways}
        for t, d in (("981", 3.0), ("501", 1.0), ("1", 0.0))
    }
    frame, error = np.zeros((12, 16, 3)), np.ones((12, 16))
    rows = {f"t = {t}": {"x_t": frame, "x0": frame, "distance": error, "detail": error} for t in steps}
    warped = {"latent": frame, "pixel": frame, "latent_error": error, "pixel_error": error}
    told = {"clip": "walk", "frame": 3, "reference": "the ground truth", "steps": values}
    return result("textures", told), {**rows, "warp": warped}


def test_textures_have_a_row_per_pictured_step_one_of_warps_and_one_of_curves() -> None:
    figure = draw(*textures(("981", "1")))
    assert len(figure.axes) == 4 * (2 + 1 + 1) and "walk, frame 3, 3 steps" in figure.get_suptitle()
    assert [axes.get_ylabel() for axes in figure.axes[:8:4]] == ["t = 981", "t = 1"]
    assert "mean 2.00, 30.00 dB" in figure.axes[9].get_title() and "mean 3.00" in figure.axes[11].get_title()
    distance = figure.axes[12].lines
    assert list(distance[0].get_ydata()) == [9.0, 9.0, 9.0]
    assert list(distance[1].get_ydata()[:2]) == [3.0, 1.0] and np.isnan(distance[1].get_ydata()[2])  # 0 on a log axis
    assert "against the ground truth" in figure.axes[14].get_title()


def test_a_step_that_left_nothing_is_drawn_black() -> None:
    given, pictures = textures(("1",))
    pictures["t = 1"]["distance"] = np.zeros((12, 16))
    assert draw(given, pictures).axes[2].images[0].get_clim() == (0.0, 1.0)
