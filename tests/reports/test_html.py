"""The report's page: complete, self-contained, and looked at in a browser at two widths."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import Tree, call, measured, screenshot
from report_fakes import write_run, write_truth
from vsrbench.reports.entries import Group, groups
from vsrbench.reports.html import TRUTH, Motion, Part, Scene, write
from vsrbench.reports.papers import table

VALUES = {"psnr_y": 26.0, "ssim_y": 0.8, "sharpness": 0.5, "consistency": 0.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def group(place: Path) -> Group:
    made = [write_run(place, "bicubic", VALUES), write_run(place, "ldm", {**VALUES, "psnr_y": 25.5, "rwe": 2.0})]
    name = "a <method> & a long name of one word_" + "x" * 40
    made.append(write_run(place, name, VALUES, predictions=str(made[0] / "frames")))
    return groups([*made, write_run(place, "dgaf", {**VALUES, "psnr_y": 26.4}, blur=False)])[0]


@pytest.fixture(scope="module")
def page(group: Group, place: Path) -> Path:
    folder, truth = place / "report", write_truth(place)
    (folder / "videos").mkdir(parents=True)
    (folder / "videos" / "0.mp4").write_bytes(b"video")
    maps = [("exact", np.zeros((8, 8, 3), np.uint8))]
    scenes = [
        Scene(clip, truth / clip, Motion("exact flow", maps), {"bicubic": folder / "videos" / "0.mp4"})
        for clip in group.clips
    ]
    paper = table("dgaf_vsr", "table1_vid4", [group])
    return write(folder, "Three methods", [Part(group, scenes)], [paper], ["Failed: method=sateco"])


def test_everything_is_inside_but_the_videos(page: Path) -> None:
    text = page.read_text()
    found = Tree(re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).replace("<input", "<img"))
    sources = [v for _, attrs in found.tags for k, v in attrs.items() if k in ("src", "href", "poster") and v]
    outside = {s for s in sources if not s.startswith(("data:", "#"))}
    assert outside == {"videos/0.mp4"} and (page.parent / "videos/0.mp4").is_file()
    assert not re.search(r"@import|url\((?!#)|<link|https?://(?!www\.w3\.org/)", text)


def test_all_parts_are_there(page: Path) -> None:
    text = Tree(re.sub(r"<svg.*?</svg>", "", page.read_text(), flags=re.DOTALL).replace("<input", "<img")).text
    wanted = [
        "Three methods",
        "a <method>",
        "diffusion baseline",
        "coffee",
        "rocket",
        "EDVR †",
        "Failed: method=sateco",
    ]
    wanted += ["cannot support a claim", "exact flow", "Error maps", "0123456789abcdef", "Adjacent frames"]
    assert [w for w in wanted if w not in text] == []


def test_tables_figures_and_values_lie_beside_it(page: Path) -> None:
    names = {f.relative_to(page.parent).as_posix() for f in page.parent.rglob("*") if f.is_file()}
    wanted = {"tables/tables.md", "tables/tables.tex", "tables/tables.html", "tables/tables_1.csv", "values.csv"}
    wanted |= {"figures/0-quality-cost.pdf", "figures/0-consistency-quality.svg", "figures/0-coffee/crop-bicubic.png"}
    assert wanted <= names


def test_the_same_runs_give_the_same_page(page: Path, group: Group, tmp_path: Path) -> None:
    assert (
        write(tmp_path / "b", "x", [Part(group)]).read_bytes() == write(tmp_path / "c", "x", [Part(group)]).read_bytes()
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_in_a_browser(page: Path, width: int, tmp_path: Path) -> None:
    found = measured(page, width, tmp_path)
    assert int(found["view"]) == width or int(found["view"]) == width - 15, "minus a scroll bar"
    assert int(found["width"]) <= int(found["view"]), f"sticks out: {found['outside']}"
    assert found["broken"] == "0"


def test_the_browser_draws_it(page: Path, tmp_path: Path) -> None:
    screenshot(page, tmp_path / "shot.png", 1000, 1200)
    shot = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB"))
    assert shot.shape == (1200, 1000, 3) and len(np.unique(shot.reshape(-1, 3), axis=0)) > 100
    assert TRUTH in page.read_text()


SLIDE = """<script>addEventListener("load", () => {
  const slider = document.querySelector(".slider"), left = slider.querySelector("[data-side=over]");
  slider.querySelector("input").value = 20;
  left.selectedIndex = 2;
  left.dispatchEvent(new Event("input", { bubbles: true }));
  const shown = [...slider.querySelectorAll(".stack img")].map(picture => picture.className);
  document.title = `${slider.style.getPropertyValue("--at")} ${shown}`;
});</script></body>"""


def test_the_slider_shows_what_is_chosen(page: Path, tmp_path: Path) -> None:
    moved = page.with_name("moved.html")
    moved.write_text(page.read_text().replace("</body>", SLIDE))
    told = call(["--virtual-time-budget=4000", "--dump-dom", moved.as_uri()], tmp_path)
    assert "<title>20% away,away,over,away,under</title>" in told
