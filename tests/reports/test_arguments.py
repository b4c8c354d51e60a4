from pathlib import Path

import pytest

from vsrbench.errors import ConfigError
from vsrbench.reports.arguments import parse


def test_runs_and_settings() -> None:
    arguments = parse(["runs/a", "runs/b", "table=dgaf/T1", "clips=2", "videos=false"])
    assert arguments.task == "report" and arguments.words == ("runs/a", "runs/b")
    assert arguments.number("clips", 4) == 2 and arguments.flag("videos", True) is False
    assert parse(["sweep=x"]).task == "sweep" and parse(["task=claims"]).words == ()


def test_a_path_with_an_equals_sign_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    assert parse([str(tmp_path / "a=b")]).folders == [tmp_path / "a=b"]


def test_the_same_question_has_the_same_place() -> None:
    place = parse(["a", "b"]).output(Path("/x"))
    assert place == parse(["a", "b"]).output(Path("/x")) != parse(["a", "c"]).output(Path("/x"))
    assert parse(["a", "output=/y/z"]).output(Path("/x")) == Path("/y/z")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=nothing"], "task=nothing: use one of report"),
        (["a", "tabel=x"], "no setting tabel=x: it takes output"),
        (["a", "films=false"], "films is now videos: write videos=false"),
        (["task=compare", "a"], "takes 2 run folders, 1 are given"),
        (["task=votes"], "at least 1 files"),
        (["clips=2"], "at least 1 run folders"),
        (["a", "table="], "gives no value"),
        (["a", "clips=1", "clips=2"], "given twice"),
    ],
)
def test_what_means_nothing_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(arguments)


def test_values_are_checked() -> None:
    arguments = parse(["a", "clips=many", "videos=perhaps"])
    with pytest.raises(ConfigError, match="clips=many: give a whole number"):
        arguments.number("clips", 4)
    with pytest.raises(ConfigError, match="videos=perhaps: give true or false"):
        arguments.flag("videos", True)
