"""The head-to-head: who is in it, that all stand on equal terms, and what a training budget does."""

from pathlib import Path
from typing import Any

import pytest

from vsrbench import compare
from vsrbench.config import compose, home
from vsrbench.errors import ConfigError, RunError
from vsrbench.rehearsal import found

ROWS = found("compare/*")
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
