from pathlib import Path
from typing import Any

import pytest

from vsrbench import rehearse
from vsrbench.errors import ConfigError, DataError


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Configurations that commands were called with; nothing is run."""
    calls: list[Any] = []

    def note(cfg: Any) -> None:
        Path(cfg.runs, "left").mkdir(parents=True)
        print("noise of the run")
        calls.append(cfg)

    monkeypatch.setattr(rehearse, "RUN", {"train": note, "eval": note})
    return calls


def test_every_experiment_is_found_by_its_name() -> None:
    names = rehearse.found()
    assert "mini/dgaf" in names and names == sorted(names)
    assert set(rehearse.found("mini/*")) <= set(names)
    assert rehearse.found("no/such/*") == []


@pytest.mark.parametrize("name", rehearse.found())
def test_every_experiment_composes_small_and_names_its_command(name: str, seen: list[Any]) -> None:
    outcome = rehearse.rehearse(name)
    assert outcome.error is None and outcome.command in rehearse.SHORT
    [cfg] = seen
    assert (cfg.size, cfg.data.set, cfg.verb) == ("tiny", "sample", outcome.command)


def test_a_rehearsal_leaves_nothing_behind(seen: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    rehearse.rehearse("mini/dgaf")
    assert not Path(seen[0].runs).exists()
    assert capsys.readouterr().out == ""


def test_a_failure_is_reported_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(cfg: Any) -> None:
        if cfg.method.name == "dgaf":
            raise DataError("a file is missing")

    monkeypatch.setattr(rehearse, "RUN", {"train": run, "eval": run})
    monkeypatch.setattr(rehearse, "found", lambda pattern: ["mini/dgaf", "mini/prior"])
    with pytest.raises(SystemExit) as stop:
        rehearse.main([])
    printed = capsys.readouterr().out
    assert stop.value.code == 1
    assert "failed" in printed and "a file is missing" in printed and "ok" in printed


def test_all_well_ends_without_an_error(seen: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    rehearse.main(["mini/dgaf"])
    assert len(seen) == 1 and "failed" not in capsys.readouterr().out


def test_a_pattern_without_a_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        rehearse.main(["no/such/*"])
    assert stop.value.code == 2 and "no file below experiments/" in capsys.readouterr().err


def test_a_file_without_a_command_is_refused() -> None:
    from vsrbench.config import compose

    with pytest.raises(ConfigError, match="needs a key command: train or eval"):
        rehearse.command_of(compose(["method=dgaf"]))


@pytest.mark.slow
def test_every_experiment_runs() -> None:
    rehearse.main([])
