import re
import subprocess
import sys
from pathlib import Path

import pytest

from browser import Tree
from vsrbench.errors import RunError
from vsrbench.reports.demo import COLUMNS, Content, Video, read_row, render, table


@pytest.fixture
def content(make_run, truth: Path, tmp_path: Path) -> Content:
    values = {"psnr_y": 26.0, "ssim_y": 0.8, "consistency": 0.5}
    runs = {
        "bicubic": make_run("bicubic", values, seconds=0.01),
        "diffusion baseline": make_run("ldm", {**values, "psnr_y": 25.5, "consistency": 2.0}),
        "DGAF": make_run("dgaf", {**values, "psnr_y": 26.4, "consistency": 1.0}, blur=False),
        "DGAF <tuned> & so on": make_run("tuned", {**values, "psnr_y": 26.5}),
    }
    rows = [read_row(label, folder) for label, folder in runs.items()]
    (tmp_path / "metrics.csv").write_text("step,train/loss\n1,0.5\n2,0.4\n3,0.3\n")
    for name in ("lr.mp4", "sr.mp4"):
        (tmp_path / name).write_bytes(b"video of " + name.encode())
    video = Video(tmp_path / "lr.mp4", tmp_path / "sr.mp4", [("size", "80x48", "320x192"), ("audio", "aac", "aac")])
    commands = [("fine-tune", "python -m vsrbench.train method=dgaf"), ("evaluate", "python -m vsrbench.eval")]
    return Content(rows, rows[2], rows[3], truth, tmp_path, video, commands, ["remark"])


def test_the_page_is_one_well_formed_file_without_scripts(content: Content) -> None:
    page = Tree(render(content))
    sources = [value for _, attrs in page.tags for key, value in attrs.items() if key in ("src", "href")]
    assert sources and all(value and value.startswith("data:") for value in sources)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\((?!#)", render(content))


def test_every_method_clip_and_command_is_on_it(content: Content) -> None:
    page = Tree(render(content))
    wanted = [
        "bicubic",
        "diffusion baseline",
        "DGAF",
        "DGAF <tuned> & so on",
        "ground truth",
        "coffee",
        "rocket",
        "remark",
    ]
    wanted += ["0123456789abcdef", "abc123", "320x192", "26.40", *(c for _, c in content.commands)]
    assert [w for w in wanted if w not in page.text] == []
    # a whole frame per clip, a crop and a slice for every method and the truth
    assert sum(tag == "img" for tag, _ in page.tags) == 2 * (1 + 2 * (len(content.rows) + 1))
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")


def test_the_verdict_is_that_of_the_numbers(content: Content) -> None:
    text = Tree(render(content)).text
    assert "DGAF is better than bicubic in 1 of 3 measures (the same in 1)" in text
    assert "better than diffusion baseline in 2 of 3 measures (the same in 1)" in text
    assert "DGAF against bicubic: PSNR-Y better by 0.40 dB (better in 2 of 2 clips)" in text


def test_the_same_runs_give_the_same_page(content: Content) -> None:
    assert render(content) == render(content)


def test_the_best_of_each_column_is_marked(content: Content) -> None:
    lines = table(content.rows)
    marked = {c.title: [line["label"] for line in lines if line["cells"][n][1]] for n, c in enumerate(COLUMNS)}
    assert marked["PSNR-Y"] == ["DGAF <tuned> & so on"]
    assert marked["Seconds per frame"] == ["bicubic"]
    assert len(marked["SSIM-Y"]) == 4
    assert marked["Sharpness"] == []


def test_a_video_that_is_absent_is_named(content: Content) -> None:
    content.video.result.unlink()
    with pytest.raises(RunError, match=r"sr\.mp4"):
        render(content)


def test_reports_need_no_torch() -> None:
    code = "import sys, vsrbench.reports.demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
