import csv
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from browser import call, measured
from vsrbench.errors import ConfigError, RunError
from vsrbench.reports.study import KEY, VOTES, ratios, wilson, write

VALUES = {"psnr_y": 26.0}


def save(file: Path, head: tuple[str, ...], rows: list[tuple[object, ...]]) -> Path:
    with file.open("w", newline="") as content:
        csv.writer(content).writerows([head, *rows])
    return file


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return save(tmp_path / "key.csv", KEY, [(1, "coffee", "A", "B"), (2, "rocket", "B", "A")])


def test_the_page_names_no_method_and_the_key_names_both(make_run, tmp_path: Path) -> None:
    page = write(make_run("bicubic", VALUES), make_run("dgaf", VALUES, blur=False), tmp_path / "study", 8, 0)
    text = page.read_text()
    assert not re.search("bicubic|dgaf|coffee|rocket", re.sub(r"data:[^\"]*", "", text), re.IGNORECASE)
    assert not re.search(r'(?:src|href)="(?!data:)|https?://', text)
    rows = list(csv.DictReader((tmp_path / "study" / "key.csv").open()))
    assert {r["clip"] for r in rows} == {"coffee", "rocket"}
    assert all({r["left"], r["right"]} == {"bicubic", "DGAF-VSR"} for r in rows)


def test_sides_depend_on_the_seed(make_run, tmp_path: Path) -> None:
    runs = make_run("bicubic", VALUES), make_run("dgaf", VALUES)
    keys = {(write(*runs, tmp_path / str(s), 8, s).with_name("key.csv")).read_text() for s in range(8)}
    assert len(keys) > 3
    again = write(*runs, tmp_path / "again", 8, 0).with_name("key.csv").read_text()
    assert again == (tmp_path / "0" / "key.csv").read_text()


def test_each_method_is_half_the_time_on_the_left(make_run, tmp_path: Path) -> None:
    """Whoever always chooses one side, or the first that moves, must not decide the study."""
    clips = {f"clip{n}": 2 for n in range(5)}
    runs = make_run("bicubic", VALUES, clips=clips), make_run("dgaf", VALUES, clips=clips)
    for seed in range(6):
        rows = list(csv.DictReader(write(*runs, tmp_path / str(seed), 8, seed).with_name("key.csv").open()))
        assert sorted(Counter(row["left"] for row in rows).values()) == [2, 3]


def test_the_page_fits_a_phone(make_run, tmp_path: Path) -> None:
    found = measured(write(make_run("bicubic", VALUES), make_run("dgaf", VALUES), tmp_path, 8, 0), 390, tmp_path)
    assert int(found["width"]) <= int(found["view"]) and found["broken"] == "0"


CLICK = """<script>addEventListener("load", async () => {
  document.getElementById("voter").value = 'Ann "x", B';
  for (const choice of ["left", "right"]) document.querySelector(`.trial.now button[value=${choice}]`).click();
  const saved = await (await fetch(document.getElementById("save").href)).text();
  document.title = encodeURIComponent(saved);
});</script></body>"""


def test_what_the_page_saves_can_be_counted(make_run, tmp_path: Path) -> None:
    page = write(make_run("bicubic", VALUES), make_run("dgaf", VALUES), tmp_path, 8, 0)
    clicked = page.with_name("clicked.html")
    clicked.write_text(page.read_text().replace("</body>", CLICK))
    told = call(["--virtual-time-budget=4000", "--dump-dom", clicked.as_uri()], tmp_path)
    saved = unquote(told.split("<title>")[1].split("</title>")[0])
    (tmp_path / "votes.csv").write_text(saved)
    assert next(iter(csv.DictReader((tmp_path / "votes.csv").open())))["voter"] == 'Ann "x", B'
    assert "2 votes of 1 voter" in ratios([tmp_path / "votes.csv"])


def test_votes_are_counted_by_method(key: Path, tmp_path: Path) -> None:
    rows = [("x", 1, "left"), ("x", 2, "right"), ("y", 1, "same"), ("y", 2, "left")]  # A, A, same, B
    told = ratios([save(tmp_path / "votes.csv", VOTES, rows)])
    assert "4 votes of 2 voters" in told and "| all | 2 (50 %) | 1 (25 %) | 1 (25 %) |" in told
    assert "| coffee | 1 (50 %) | 0 (0 %) | 1 (50 %) |" in told
    assert "A was preferred in 2 of 3 decided votes" in told


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("x", 9, "left")], "trial '9'"),
        ([("x", 1, "up")], "choice 'up'"),
        ([("x", 1, "left"), ("x", 1, "right")], "'x' answered trial 1 twice"),
        ([], "no vote"),
    ],
)
def test_votes_that_mean_nothing_are_named(
    key: Path, tmp_path: Path, rows: list[tuple[object, ...]], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        ratios([save(tmp_path / "votes.csv", VOTES, rows)])


def test_files_of_another_kind_are_named(key: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has columns"):
        ratios([save(tmp_path / "values.csv", ("a", "b"), [])])
    (tmp_path / "far").mkdir()
    lone = save(tmp_path / "far" / "votes.csv", VOTES, [("x", 1, "left")])
    with pytest.raises(ConfigError, match=r"no .*key\.csv"):
        ratios([lone])


def test_other_clips_are_refused(make_run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not on the same clips"):
        write(make_run("bicubic", VALUES), make_run("dgaf", VALUES, data={"set": "vid4"}), tmp_path, 8, 0)


def test_interval_of_a_share() -> None:
    """Values of Wilson's interval as statistics packages give them."""
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0) and wilson(0, 10)[0] == pytest.approx(0.0)
