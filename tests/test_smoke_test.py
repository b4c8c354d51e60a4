from pathlib import Path
from typing import Any

import pytest

from vsrbench import experiment_run, smoke_test
from vsrbench.config import compose
from vsrbench.errors import ConfigError, DataError


class Verbs(dict[str, Any]):
    """Commands that only note the configurations they were called with."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(experiment_run.SHORT, self.note))
        self.seen: list[Any] = []

    def note(self, cfg: Any) -> Path:
        folder = Path(cfg.runs, f"run{len(self.seen)}")
        folder.mkdir(parents=True)
        print("noise of the run")
        self.seen.append(cfg)
        return folder


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> Verbs:
    noting = Verbs()
    monkeypatch.setattr(smoke_test, "RUN", noting)
    return noting


def test_every_experiment_is_found_by_its_name() -> None:
    names = experiment_run.commands()
    assert {"mini/dgaf", "dgaf/t3_case1"} <= set(names)
    assert set(experiment_run.commands("mini/*")) < set(names)
    assert experiment_run.commands("no/such/*") == []
    assert [name for name in names if "/_" in name] == []


def test_each_row_that_sets_something_runs_and_one_of_those_that_quote() -> None:
    assert experiment_run.commands("dgaf/st8")[:2] == ["dgaf/st8 row=s1", "dgaf/st8 row=s1_6"]
    assert experiment_run.commands("adapter/s413") == [
        f"adapter/s413 row={s}" for s in ("gaussian", "encoded_noise", "encoded_lr")
    ]
    assert experiment_run.commands("dgaf/t1_reds4") == ["dgaf/t1_reds4 row=edvr"]


@pytest.mark.parametrize(
    ("name", "command"), [("mini/dgaf", "train"), ("dgaf/t1_vid4_bicubic", "eval"), ("dgaf/st5", "bench")]
)
def test_a_file_runs_its_command_small(name: str, command: str, verbs: Verbs) -> None:
    outcome = experiment_run.run_small(name, verbs)
    assert (outcome.state, outcome.command, outcome.why) == ("ok", command, "")
    [cfg] = verbs.seen
    assert (cfg.size, cfg.data.set, cfg.verb) == ("tiny", "sample", command)


def test_a_smoke_test_leaves_nothing_behind(verbs: Verbs, capsys: pytest.CaptureFixture[str]) -> None:
    experiment_run.run_small("mini/dgaf", verbs)
    assert not Path(verbs.seen[0].runs).exists()
    assert capsys.readouterr().out == ""


def test_bicubic_stands_in_for_frames_of_other_software(verbs: Verbs) -> None:
    outcome = experiment_run.run_small("dgaf/st3_x8 row=star", verbs)
    assert outcome.why == "foreign frames: bicubic frames"
    made, judged = verbs.seen
    assert (made.predictions, made.method.name, made.scale) == (None, "bicubic", 8)
    assert judged.predictions == str(Path(made.runs) / "run0" / "frames") and judged.scale == 8


def test_random_weights_stand_in_for_those_of_a_flow_network(verbs: Verbs) -> None:
    outcome = experiment_run.run_small("dgaf/st7_case3", verbs)
    assert outcome.why == "flow network: random weights"
    assert verbs.seen[0].flow.random is True and verbs.seen[0].flow._target_.endswith("SpyNet")


def test_what_can_only_be_quoted_is_skipped_with_the_reason(verbs: Verbs, capsys: pytest.CaptureFixture[str]) -> None:
    smoke_test.main(["dgaf/st4"])
    printed = capsys.readouterr().out
    assert verbs.seen == [] and "0 ok, 0 failed, 1 skipped" in printed
    assert "MGLD-VSR is not part of this" in printed


def test_a_failure_is_reported_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(cfg: Any) -> None:
        if cfg.method.name == "dgaf":
            print("what led to it")
            raise DataError("a file [is] missing")

    monkeypatch.setattr(smoke_test, "RUN", dict.fromkeys(experiment_run.SHORT, run))
    monkeypatch.setattr(smoke_test, "commands", lambda pattern: ["mini/dgaf", "mini/prior"])
    with pytest.raises(SystemExit) as stop:
        smoke_test.main([])
    told = capsys.readouterr()
    assert stop.value.code == 1
    assert "a file [is] missing" in told.out and "1 ok, 1 failed, 0 skipped" in told.out
    assert "what led to it" in told.err


def test_all_well_ends_without_an_error(verbs: Verbs, capsys: pytest.CaptureFixture[str]) -> None:
    smoke_test.main(["mini/dgaf"])
    assert len(verbs.seen) == 1 and "1/1 mini/dgaf: ok" in capsys.readouterr().out


def test_a_pattern_without_a_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        smoke_test.main(["no/such/*"])
    assert stop.value.code == 2 and "no file below experiments/" in capsys.readouterr().err


def test_a_file_without_a_command_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a key command: train or eval or analyse or bench"):
        experiment_run.command_of(compose(["method=dgaf"]))


@pytest.mark.parametrize(
    "name", ["dgaf/t1_reds4 row=edvr", "dgaf/t3_case1", "dgaf/st3_x8_dgaf", "dgaf/st6", "mini/videogigagan"]
)
def test_files_run(name: str) -> None:
    assert experiment_run.run_small(name, smoke_test.RUN).state == "ok"


@pytest.mark.slow
def test_every_experiment_runs(capsys: pytest.CaptureFixture[str]) -> None:
    smoke_test.main([])
    assert " 0 failed" in capsys.readouterr().out
