"""Stages that build on each other: where one starts, all of them in a row, what is refused."""

import json
import shlex
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from training_fakes import FakeChain, FakeModule, same, tiny, trained
from vsrbench import config, train
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, RunError, WeightsError
from vsrbench.methods.base import needed
from vsrbench.training.stages import START, stages_of, with_stage
from vsrbench.weights.trained import load_trained, weights_hash

TESTS = Path(__file__).parents[1]
ORDER = ["gain", "learn", "offset"]


def arguments(runs: Path, *overrides: str) -> list[str]:
    search = f"hydra.searchpath=[file://{TESTS / 'training_conf'}]"
    return [search, "method=chain", "data=fake", "size=tiny", f"runs={runs}", *overrides]


def chain(runs: Path, *overrides: str) -> DictConfig:
    return config.compose(arguments(runs, *overrides))


def run(runs: Path, *overrides: str) -> Path:
    folder = train.run(chain(runs, *overrides))
    assert folder is not None
    return folder


def content(folder: Path, name: str = "last") -> dict:
    loaded: dict = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return loaded


def parts_of(folder: Path) -> set[str]:
    return {key.partition(".")[0] for key in content(folder)["state_dict"]}


def test_a_stage_starts_from_the_run_that_the_same_command_made_for_the_stage_before(tmp_path: Path) -> None:
    first = run(tmp_path, "stage=gain")
    second = run(tmp_path, "stage=learn")
    third = run(tmp_path, "stage=offset")
    assert len({first, second, third}) == 3
    assert [parts_of(f) for f in (first, second, third)] == [
        {"gain"},
        {"gain", "learner"},
        {"gain", "learner", "offset"},
    ]
    states = [content(f)["state_dict"] for f in (first, second, third)]
    best = content(first, "best")["state_dict"]
    assert torch.equal(states[1]["gain.weight"], best["gain.weight"]), "what is validated best is what the next takes"
    assert torch.equal(states[2]["learner.weight"], content(second, "best")["state_dict"]["learner.weight"])
    assert json.loads((third / START).read_text())["checkpoint"] == str(second / "checkpoints" / "best.ckpt")


def test_all_in_a_row_equals_one_by_one(tmp_path: Path) -> None:
    last = run(tmp_path / "row", "stage=all")
    for stage in ORDER:
        alone = run(tmp_path / "single", f"stage={stage}")
    assert last.name == alone.name
    assert same(content(last)["state_dict"], content(alone)["state_dict"])
    steps = [json.loads(file.read_text())["steps"] for file in (tmp_path / "row").glob("*/result.json")]
    assert sorted(steps) == [2, 3, 4], "each stage its own plan"


def test_the_command_line_and_the_plan_set_the_steps(tmp_path: Path) -> None:
    run(tmp_path / "a", "stage=all", "trainer.max_steps=1", "name=row")
    steps = [json.loads((tmp_path / "a" / "row" / s / "result.json").read_text())["steps"] for s in ORDER]
    assert steps == [1, 1, 1]
    assert chain(tmp_path, "stage=learn", "plan.learn.steps=7").trainer.max_steps == 7


def test_the_end_result_upscales_with_all_that_was_trained(tmp_path: Path) -> None:
    last = run(tmp_path, "stage=all")
    method = FakeChain()
    load_trained(method, str(last))
    assert method.loaded == {"gain", "learner", "offset"}
    for name in ("gain", "learner", "offset"):
        assert torch.equal(getattr(method, name).weight, content(last, "best")["state_dict"][f"{name}.weight"])


@pytest.mark.parametrize("stage", ORDER)
def test_each_stage_moves_its_own_parts_alone(stage: str) -> None:
    module = FakeModule(FakeChain())
    module.begin_stage(stage, None, Noise(0))
    moving = {name for name, part in module.parts().items() if any(p.requires_grad for p in part.parameters())}
    assert moving == set(module.stages[stage].trainable)
    averaged = {key.partition(".")[0] for key in module.averaged_state()}
    assert averaged == moving, "no average of what stands still"
    assert set(module.frozen_hashes()) == {"frozen"}, "what earlier stages trained is in the checkpoint itself"


def test_a_checkpoint_does_not_name_what_later_stages_train(tmp_path: Path) -> None:
    """Those parts start at random, in another process as other numbers."""
    first = run(tmp_path, "stage=gain")
    method = FakeChain()
    torch.nn.init.constant_(method.offset.weight, 3.0)
    load_trained(method, str(first))
    assert content(first)["frozen"] == {"frozen": weights_hash(method.frozen)}
    torch.nn.init.constant_(method.frozen.weight, 3.0)
    with pytest.raises(WeightsError, match="beside another frozen"):
        load_trained(method, str(first))


# --- refusals --------------------------------------------------------------------------------------


def test_without_the_stage_before_it_is_refused_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command of the error, given as it stands, makes the run that the refused command then starts from."""

    def call(words: list[str]) -> None:
        monkeypatch.setattr("sys.argv", ["train.py", *words])
        config.launch(train.run, "train")

    refused = arguments(tmp_path, "stage=learn", "optimiser.lr=0.03")
    with pytest.raises(SystemExit) as stop:
        call(refused)
    assert stop.value.code == 2
    assert not list(tmp_path.iterdir()), "a refusal leaves no run folder behind"
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  python -m vsrbench.train ")]
    call(shlex.split(line)[3:])
    call(refused)
    assert len(list(tmp_path.glob("*/result.json"))) == 2


def test_a_stage_before_that_is_not_at_its_end_is_no_start(tmp_path: Path) -> None:
    run(tmp_path, "stage=gain", "trainer.max_time='00:00:00:00'")
    with pytest.raises(RunError, match=r"stage=gain.*has not reached its last step"):
        run(tmp_path, "stage=learn")


def test_the_refusal_names_every_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"(?s)stage=learn, and .* is not there.*stage=all, or module\.from_scratch=true"
    ):
        run(tmp_path, "stage=offset")
    assert run(tmp_path, "stage=offset", "module.from_scratch=true").is_dir()


def test_given_weights_must_hold_what_the_stage_starts_from(tmp_path: Path) -> None:
    first = run(tmp_path, "stage=gain")
    with pytest.raises(ConfigError, match=r"stage=offset starts from what stage=learn trained.*give ckpt_path=RUN"):
        run(tmp_path, "stage=offset", f"ckpt_path={first}")
    second = run(tmp_path, "stage=learn", f"ckpt_path={first}")
    assert torch.equal(
        content(second)["state_dict"]["gain.weight"], content(first, "best")["state_dict"]["gain.weight"]
    )


def test_a_run_is_not_continued_on_top_of_other_weights(tmp_path: Path) -> None:
    run(tmp_path, "stage=all")
    run(tmp_path, "stage=gain", "trainer.max_steps=4", "validation.every=4")
    with pytest.raises(RunError, match=r"started from other weights of stage=gain .* stage=learn force=true"):
        run(tmp_path, "stage=learn")
    assert run(tmp_path, "stage=learn", "force=true").is_dir()


def test_all_wants_no_weights_and_stages_that_build_on_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage=all starts from nothing .* ckpt_path=there .*gain, learn, offset"):
        run(tmp_path, "stage=all", "ckpt_path=there")
    with pytest.raises(ConfigError, match=r"do not build on each other: .* stage=gain or stage=learn or stage=offset"):
        run(tmp_path, "stage=all", "module.from_scratch=true")
    with pytest.raises(ConfigError, match="stage=all is not one of default, learn"):
        tiny(tmp_path, "stage=all")


# --- stopping and going on -------------------------------------------------------------------------


def test_killed_in_the_last_stage_and_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(tmp_path / "whole", "stage=all")
    signals = iter([9, 9, 2])  # the third stage gets the signal in its second batch
    begin = FakeModule.begin_stage

    def begin_stage(self: FakeModule, *args: object) -> None:
        begin(self, *args)
        FakeModule.signal_at = next(signals, 9)

    monkeypatch.setattr(FakeModule, "signal_at", -1)
    monkeypatch.setattr(FakeModule, "begin_stage", begin_stage)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "cut", "stage=all")
    assert stop.value.code == 128 + signal.SIGTERM
    finished = [file.parent for file in (tmp_path / "cut").glob("*/result.json")]
    assert len(finished) == 2 and not (tmp_path / "cut" / whole.name / "result.json").is_file()
    stamps = {folder: (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns for folder in finished}
    capsys.readouterr()
    again = run(tmp_path / "cut", "stage=all")
    assert capsys.readouterr().out.count("finished at step") == 2
    assert {f: (f / "checkpoints" / "last.ckpt").stat().st_mtime_ns for f in finished} == stamps, "not trained again"
    assert again.name == whole.name
    assert same(content(again)["state_dict"], content(whole)["state_dict"])


def test_a_stage_that_runs_out_of_time_ends_the_row(tmp_path: Path) -> None:
    folder = run(tmp_path, "stage=all", "trainer.max_time='00:00:00:00'", "name=row")
    assert folder == tmp_path / "row" / "gain"
    assert not (tmp_path / "row" / "learn").exists()


def test_a_trial_of_two_steps_needs_no_earlier_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.run(chain(tmp_path, "stage=all", "debug=fdr")) is None
    assert list(tmp_path.iterdir()) == []


def test_names_of_run_folders(tmp_path: Path) -> None:
    row = chain(tmp_path, "stage=all", "name=mine")
    assert with_stage(row, "learn").name == "mine/learn"
    assert with_stage(chain(tmp_path, "stage=offset", "name=mine/offset"), "learn").name == "mine/learn"
    assert with_stage(chain(tmp_path, "stage=offset", "name=other"), "learn").name is None
    assert row.stage == "all", "the configuration itself stays as it is"


def test_what_comes_before() -> None:
    assert needed(FakeChain.stages, "offset") == ["gain", "learn"]
    assert list(stages_of(chain(Path("x")))) == ORDER


def test_methods_with_one_stage_are_as_they_were(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    assert not (folder / START).exists()
