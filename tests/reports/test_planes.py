import re
import xml.etree.ElementTree as ElementTree

from vsrbench.reports import planes
from vsrbench.reports.entries import groups

VALUES = {"psnr_y": 26.0, "ssim_y": 0.8, "sharpness": 0.5, "consistency": 0.5}


def two(make_run, **other: float):
    return groups([make_run("bicubic", VALUES), make_run("dgaf", {**VALUES, "psnr_y": 27.0, **other})])[0]


def test_without_a_perceptual_metric_the_stand_in_is_named(make_run) -> None:
    charts = {c.name: c.caption for c in planes.charts(two(make_run))}
    assert list(charts) == ["perception-distortion", "consistency-quality", "quality-cost"]
    assert "sharpness" in charts["perception-distortion"] and "SSIM Y stands in" in charts["consistency-quality"]


def test_lpips_and_rwe_where_they_were_measured(make_run) -> None:
    values = {**VALUES, "lpips_alex": 0.3, "rwe": 2.0}
    group = groups([make_run("bicubic", values), make_run("dgaf", {**values, "lpips_alex": 0.2})])[0]
    text = planes.svg(planes.charts(group)[1])
    assert "LPIPS Alex ↓" in text and "RWE ↓" in text and "stands in" not in planes.charts(group)[1].caption


def test_a_chart_is_clean_svg_in_the_pages_colour(make_run) -> None:
    text = planes.svg(planes.charts(two(make_run))[0])
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "currentColor" in text and planes.INK not in text and "DGAF-VSR" in text
    assert not re.search(r'(?:href|src)="(?!#)', text)
    assert text == planes.svg(planes.charts(two_again(make_run))[0])


def two_again(make_run):
    return groups(
        [make_run("bicubic_", VALUES, method="bicubic"), make_run("dgaf_", {**VALUES, "psnr_y": 27.0}, method="dgaf")]
    )[0]


def test_names_of_near_points_do_not_overlap(make_run) -> None:
    names = ("bicubic", "ldm", "dgaf", "stablevsr", "sateco")
    group = groups([make_run(name, VALUES) for name in names])[0]
    figure = planes.plane(group, "p", "psnr_y", "ssim_y").figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == len(names)
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_a_curve_per_clip_with_three_frames(make_run) -> None:
    assert [c.name for c in planes.curves(two(make_run))] == ["frames-coffee", "frames-rocket"]


def test_a_swept_setting_is_found_and_drawn(make_run) -> None:
    made = [
        make_run(f"n{n}", {**VALUES, "psnr_y": 26.0 + n}, settings={"sampler": {"steps": n}, "seed": 1}, method="dgaf")
        for n in (2, 4, 8)
    ]
    group = groups(made)[0]
    assert planes.swept(group) == "sampler.steps"
    line = planes.over_setting(group, "sampler.steps").figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [2, 4, 8] and list(line.get_ydata()) == [28.0, 30.0, 34.0]
    assert planes.swept(two(make_run)) is None
    names = [text.get_text() for text in planes.plane(group, "p", "psnr_y", "ssim_y").figure.axes[0].texts]
    assert names == ["sampler.steps=2", "sampler.steps=4", "sampler.steps=8"]
