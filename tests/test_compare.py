"""The head-to-head: who is in it, that all stand on equal terms, and what a training budget does."""

import sys
from pathlib import Path
from typing import Any

import pytest

from vsrbench import compare
from vsrbench.cluster.manifest import Job, Sweep
from vsrbench.command_line import home
from vsrbench.config import compose
from vsrbench.errors import ConfigError, RunError
from vsrbench.experiment_run import commands

ROWS = commands("compare/*")
NO_METHOD = {"gt"}  # the ground truth, for checking protocols


def row(name: str, *overrides: str) -> Any:
    return compose([f"experiments={name}", *overrides], verb="compare")


def test_every_method_that_can_be_judged_has_a_row() -> None:
    ready = set()
    for file in (home() / "conf" / "method").glob("*.yaml"):
        cfg = compose([f"method={file.stem}"], verb="eval")
        shipped = cfg.weights is not None and Path(cfg.weights).is_file()
        if file.stem not in NO_METHOD and (shipped or not cfg.supports.size or "mini" in cfg.supports.untrained):
            ready.add(f"compare/{file.stem}")
    assert ready == set(ROWS), "a miniature with weights: take the underscore off its file in experiments/compare"


def test_all_rows_stand_on_equal_terms() -> None:
    def terms(cfg: Any) -> tuple[Any, ...]:
        samples = (cfg.train.crop, cfg.train.effective_batch)
        return cfg.size, cfg.seed, cfg.scale, cfg.data.set, cfg.degradation, cfg.protocols, samples

    first = terms(row(ROWS[0]))
    for name in ROWS:
        assert terms(row(name)) == first, name
        assert row(name, "data=vid4", "data.root=x").data.set == "vid4", "the command line comes last"


def test_without_rows_all_are_compared() -> None:
    assert compare.arguments([]) == ["-m", "experiments=compare/*"]
    assert compare.arguments(["data=vid4", "launcher=slurm"])[:2] == ["-m", "experiments=compare/*"]
    for named in (["experiments=compare/dgaf", "sweep=s"], ["-m", "experiment=compare/dgaf,compare/ldm"], ["--help"]):
        assert compare.arguments(named) == named, "a job of the sweep is called with its own row"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, Any]]:
    """Calls of train and eval that were made; training leaves a finished run."""
    made: list[tuple[str, Any]] = []

    def train(cfg: Any) -> Path:
        made.append(("train", cfg))
        (tmp_path / "result.json").touch()
        return tmp_path

    def judge(cfg: Any) -> Path:
        made.append(("eval", cfg))
        return tmp_path / "judged"

    monkeypatch.setattr(compare.train, "run", train)
    monkeypatch.setattr(compare.evaluate, "run", judge)
    return made


def test_without_a_budget_shipped_weights_are_judged(calls: list[tuple[str, Any]], tmp_path: Path) -> None:
    assert compare.run(row("compare/dgaf")) == tmp_path / "judged"
    [(verb, cfg)] = calls
    assert (verb, cfg.verb, cfg.ckpt_path) == ("eval", "eval", None)


def test_a_budget_is_spent_and_its_outcome_judged(calls: list[tuple[str, Any]], tmp_path: Path) -> None:
    compare.run(row("compare/dgaf", "budget.steps=3"))
    (_, training), (_, judged) = calls
    assert (training.verb, training.trainer.max_steps, training.ckpt_path) == ("train", 3, None)
    assert judged.ckpt_path == str(tmp_path)
    assert training.runs.endswith("runs/budget_3") and judged.runs == "runs"


def test_stages_that_build_on_each_other_share_the_budget(calls: list[tuple[str, Any]], tmp_path: Path) -> None:
    compare.run(row("compare/sateco", "budget.steps=9"))
    (_, training), (_, judged) = calls
    assert (training.stage, training.trainer.max_steps, judged.ckpt_path) == ("all", 2, str(tmp_path))
    with pytest.raises(ConfigError, match=r"budget\.steps=3 is less than one for each stage: upscaler, unet"):
        compare.run(row("compare/sateco", "budget.steps=3"))


@pytest.mark.parametrize("name", ["compare/bicubic", "compare/ldm"])
def test_what_does_not_learn_or_stays_as_it_is(name: str, calls: list[tuple[str, Any]]) -> None:
    compare.run(row(name, "budget.steps=3"))
    assert [verb for verb, _ in calls] == ["eval"]


def test_a_training_that_was_cut_short_is_not_judged(
    calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compare.train, "run", lambda cfg: tmp_path)
    with pytest.raises(RunError, match="training ended before its 3 steps"):
        compare.run(row("compare/dgaf", "budget.steps=3"))
    assert calls == []


class Ended:
    """A sweep that has ended as told, launched without doing anything; ``pages``: what was written about it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.pages = folder, list[tuple[list[str], list[str]]]()
        self.code: int | None = None
        monkeypatch.setattr(compare, "launch", self._launch)
        monkeypatch.setattr("vsrbench.reports.make.make", self._make)

    def job(self, number: int, **state: Any) -> None:
        sweep = Sweep(self.folder, verb="compare")
        sweep.enter(Job(number, [f"experiments=compare/{number}"], [], str(number), str(self.folder)))
        sweep.save()
        sweep.note(number, **state)

    def _launch(self, run: Any, verb: str) -> None:
        sys.argv[1:] = [f"sweep={self.folder.name}", f"runs='{self.folder.parent.parent}'", *sys.argv[1:]]
        if self.code is not None:
            raise SystemExit(self.code)

    def _make(self, asked: Any, folders: Any, output: Path, remarks: Any) -> Path:
        self.pages.append(([folder.name for folder in folders], list(remarks)))
        return output / "index.html"


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    monkeypatch.setattr("sys.argv", ["compare"])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return Ended(tmp_path / "it is = here" / "sweeps" / "s", monkeypatch)


def test_the_page_ends_the_command(ended: Ended, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended.job(0, state="finished", run=str(tmp_path / "a"))
    ended.job(1, state="finished", run=str(tmp_path / "b"))
    compare.main()
    assert ended.pages == [(["a", "b"], [])]
    assert capsys.readouterr().out.splitlines()[-1] == str(ended.folder / "report" / "index.html")


def test_a_failed_job_is_named_on_the_page_of_the_others_and_in_the_exit_code(ended: Ended, tmp_path: Path) -> None:
    ended.job(0, state="finished", run=str(tmp_path / "a"))
    ended.job(1, state="failed", failure=["error: no weights"])
    ended.code = 1
    with pytest.raises(SystemExit) as left:
        compare.main()
    assert left.value.code == 1
    [(runs, [remark])] = ended.pages
    assert runs == ["a"] and "no weights" in remark


@pytest.mark.parametrize("why", ["queued", "all failed", "stopped", "one row", "never begun"])
def test_without_an_ended_sweep_there_is_no_page(
    ended: Ended, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "all failed":
        ended.job(0, state="failed", failure=["error"])
    elif why != "never begun":
        ended.job(0, state="finished", run=str(tmp_path / "a"))
    if why == "queued":
        ended.job(1, state="pending")
    if why == "one row":
        monkeypatch.setattr("sys.argv", ["compare", "experiments=compare/dgaf"])
    ended.code = {"all failed": 1, "stopped": 143, "never begun": 1}.get(why)
    if ended.code:
        with pytest.raises(SystemExit) as left:
            compare.main()
        assert left.value.code == ended.code
    else:
        compare.main()
    assert ended.pages == []
