"""``python -m vsrbench.report`` as it is called, over made-up runs and over one on rendered clips."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from report_fakes import write_run, write_truth
from vsrbench import report
from vsrbench.config import compose
from vsrbench.reports.make import Material, estimated_flow

VALUES = {"psnr_y": 26.0, "ssim_y": 0.8, "sharpness": 0.5, "consistency": 0.5}


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    return [str(write_run(tmp_path, name, VALUES, blur=name == "bicubic")) for name in ("bicubic", "dgaf")]


def called(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    report.main(arguments)
    return capsys.readouterr().out.strip()


def test_a_page_with_films_and_estimated_motion_from_frames_alone(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(called([*runs, f"truth={write_truth(tmp_path)}", "clips=1", "title=Two of them"], capsys))
    text = page.read_text()
    assert page.parent.parent == tmp_path / "reports"
    assert "<h1>Two of them</h1>" in text and "DIS on the frames" in text and "1 more clips" in text
    assert {f.name for f in (page.parent / "videos").rglob("*")} >= {"0.mp4", "1.mp4", "2.mp4"}


def test_frames_judged_twice_are_shown_once(runs: list[str], tmp_path: Path, capsys) -> None:
    for run in map(Path, runs):
        result = json.loads((run / "result.json").read_text())
        result["protocol"] |= {"id": "dgaf", "hash": "f" * 16}
        (run / "result_dgaf.json").write_text(json.dumps(result))
    text = Path(called([*runs, "truth=none"], capsys)).read_text()
    assert text.count('class="slider"') == 2 and text.count("the pictures are there") == 1
    assert text.count("<dt>run folder</dt>") == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["truth=none", "against=sateco"], "no entry 'sateco'"),
        (["truth=none", "x=sampler.steps"], "states a number"),
        (["truth=DIR"], "has no folder coffee"),
        ([], "no .*config.yaml"),
    ],
)
def test_what_cannot_be_done_ends_with_one_line(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], said: str
) -> None:
    asked = [word.replace("DIR", str(tmp_path)) for word in asked]
    with pytest.raises(SystemExit, match="2"):
        report.main([*runs, *asked])
    lines = capsys.readouterr().err.strip().splitlines()
    assert re.search(said, lines[-1])


def test_a_login_node_without_torch_makes_a_page(runs: list[str], tmp_path: Path) -> None:
    absent = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'cv2', 'av', 'diffusers'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())"
    )
    arguments = [*runs, "truth=none", "clips=1", f"output={tmp_path / 'page'}"]
    code = f"{absent}\nfrom vsrbench import report\nreport.main({arguments!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert "coffee" in (tmp_path / "page" / "index.html").read_text()


def test_the_other_tasks_print(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "**Against bicubic**" in called(["task=compare", runs[1], runs[0]], capsys)
    assert "sentences: " in called(["task=claims", "paper=dgaf"], capsys)
    page = Path(called(["task=study", *runs], capsys))
    votes = page.with_name("votes.csv")
    votes.write_text("voter,trial,choice\nAnn,1,left\n")
    assert "1 vote of 1 voter" in called(["task=votes", str(votes)], capsys)


def test_truth_and_exact_motion_come_from_the_runs_data(tmp_path: Path) -> None:
    settings = ["method=bicubic", "data=sample", "data.frame_size=[64,96]", "data.splits.test.frames=3"]
    OmegaConf.save(compose(settings, "eval"), tmp_path / "config.yaml", resolve=True)
    material = Material(tmp_path, "test", tmp_path / "truth")
    folder = material.truth(["chelsea_pan"])
    assert folder is not None and len(list((folder / "chelsea_pan").glob("*.png"))) == 3
    exact = material.exact_flow("chelsea_pan", 1)
    assert exact is not None and exact.shape == (2, 64, 96)
    assert np.abs(np.median(exact - estimated_flow(folder / "chelsea_pan", 1), axis=(1, 2))).max() < 0.5
