import re
import xml.etree.ElementTree as ElementTree

from vsrbench.reports import charts, drawing
from vsrbench.reports.entries import groups

VALUES = {"psnr_y": 26.0, "ssim_y": 0.8, "sharpness": 0.5, "consistency": 0.5}


def two(make_run, **other: float):
    return groups([make_run("bicubic", VALUES), make_run("dgaf", {**VALUES, "psnr_y": 27.0, **other})])[0]


def test_without_a_perceptual_metric_the_stand_in_is_named(make_run) -> None:
    captions = {c.name: c.caption for c in charts.charts(two(make_run))}
    assert list(captions) == ["perception-distortion", "consistency-quality", "quality-cost"]
    assert (
        "sharpness" in captions["perception-distortion"]
        and "SSIM Y is shown instead" in captions["consistency-quality"]
    )


def test_lpips_and_rwe_where_they_were_measured(make_run) -> None:
    values = {**VALUES, "lpips_alex": 0.3, "rwe": 2.0}
    group = groups([make_run("bicubic", values), make_run("dgaf", {**values, "lpips_alex": 0.2})])[0]
    text = drawing.svg(charts.charts(group)[1])
    assert "LPIPS Alex ↓" in text and "RWE (×1000) ↓" in text and "shown instead" not in charts.charts(group)[1].caption


def test_a_chart_is_clean_svg_in_the_pages_colour(make_run) -> None:
    text = drawing.svg(charts.charts(two(make_run))[0])
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "currentColor" in text and drawing.INK not in text and "DGAF-VSR" in text
    assert not re.search(r'(?:href|src)="(?!#)', text)
    assert text == drawing.svg(charts.charts(two_again(make_run))[0])


def two_again(make_run):
    return groups(
        [make_run("bicubic_", VALUES, method="bicubic"), make_run("dgaf_", {**VALUES, "psnr_y": 27.0}, method="dgaf")]
    )[0]


def test_names_of_near_points_do_not_overlap(make_run) -> None:
    names = ("bicubic", "ldm", "dgaf", "stablevsr", "sateco")
    group = groups([make_run(name, VALUES) for name in names])[0]
    figure = charts.scatter_plot(group, "p", "psnr_y", "ssim_y").figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == len(names)
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_a_curve_per_clip_with_three_frames(make_run) -> None:
    assert [c.name for c in charts.curves(two(make_run))] == ["frames-coffee", "frames-rocket"]


def test_a_swept_setting_is_found_and_drawn(make_run) -> None:
    made = [
        make_run(f"n{n}", {**VALUES, "psnr_y": 26.0 + n}, settings={"sampler": {"steps": n}, "seed": 1}, method="dgaf")
        for n in (2, 4, 8)
    ]
    group = groups(made)[0]
    assert charts.swept(group) == "sampler.steps"
    line = charts.over_setting(group, "sampler.steps").figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [2, 4, 8] and list(line.get_ydata()) == [28.0, 30.0, 34.0]
    assert charts.swept(two(make_run)) is None
    names = [text.get_text() for text in charts.scatter_plot(group, "p", "psnr_y", "ssim_y").figure.axes[0].texts]
    assert names == ["steps=2", "steps=4", "steps=8"]


def sweep(make_run):
    """Two samplers with three numbers of steps each."""
    return groups(
        [
            make_run(
                f"{kind}{n}",
                {**VALUES, "psnr_y": 26.0 + n + (kind == "ddim")},
                seconds=float(n),
                settings={"sampler": {"steps": n, "kind": kind}},
                method="stablevsr",
            )
            for n in (8, 2, 4)
            for kind in ("ddim", "dpmpp")
        ]
    )[0]


def test_runs_that_differ_in_two_settings_have_a_line_for_each_of_the_other(make_run) -> None:
    lines = charts.over_setting(sweep(make_run), "sampler.steps").figure.axes[0].lines
    assert {line.get_label(): list(line.get_ydata()) for line in lines} == {
        "StableVSR (ddim)": [29.0, 31.0, 35.0],
        "StableVSR (dpmpp)": [28.0, 30.0, 34.0],
    }


def test_what_more_steps_buy_is_joined_in_the_plane_of_quality_and_cost(make_run) -> None:
    group = sweep(make_run)
    assert charts.swept(group) == "sampler.steps"
    drawn = {c.name: c.figure.axes[0] for c in charts.charts(group, "sampler.steps")}
    joined = [
        list(zip(*line.get_data(), strict=True)) for line in drawn["quality-cost"].lines if len(line.get_xdata()) > 2
    ]
    assert sorted(joined) == [[(2, 28), (4, 30), (8, 34)], [(2, 29), (4, 31), (8, 35)]]
    names = {text.get_text() for text in drawn["quality-cost"].texts}
    assert names == {f"steps={n}, {kind}" for n in (2, 4, 8) for kind in ("ddim", "dpmpp")} or names == {
        f"{kind}, steps={n}" for n in (2, 4, 8) for kind in ("ddim", "dpmpp")
    }


def test_a_ground_truth_far_from_all_methods_stands_in_the_caption(make_run) -> None:
    made = [make_run("bicubic", VALUES), make_run("dgaf", {**VALUES, "ssim_y": 0.82, "consistency": 0.6})]
    near = {"ssim_y": 0.83, "consistency": 0.65}
    for values, out in ((near, False), ({"ssim_y": 1.0, "consistency": 1.5}, True)):
        group = groups([*made, make_run(f"gt{out}", values, method="gt")])[0]
        chart = charts.scatter_plot(group, "p", "ssim_y", "consistency")
        assert len(chart.figure.axes[0].texts) == 3 - out
        assert ("The ground truth is far outside: SSIM Y 1.0000, consistency 1.500." in chart.caption) == out
        curve = charts.curves(group)[0]
        assert ("consistency is far outside" in curve.caption) == out
        assert len(curve.figure.axes[1].lines) == 3 - out
