"""What a command says about settings that cannot be: one line of ours, exit code 2, in every verb and in sweeps."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from vsrbench.cluster.manifest import Job, Sweep
from vsrbench.cluster.progress import show
from vsrbench.command_line import home
from vsrbench.config import check_nodes, compose
from vsrbench.errors import ConfigError
from vsrbench.schema.messages import options

CONF = home() / "conf"


def refused(*arguments: str, verb: str = "train") -> str:
    with pytest.raises(ConfigError) as caught:
        check_nodes(compose(["size=tiny", *arguments], verb))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- choices that do not exist -------------------------------------------------------------------


def test_a_choice_that_does_not_exist_names_the_nearest_and_all() -> None:
    assert refused("data=redss").startswith("data=redss does not exist: did you mean reds? There are folder, photos, ")
    assert (
        refused("protocol=nobody", verb="eval")
        == f"protocol=nobody does not exist: use one of {', '.join(options(CONF / 'protocol'))}"
    )
    for group in ("method", "size", "sampler", "debug", "recipe", "flow", "degradation", "trainer", "logger", "prior"):
        assert refused(f"{group}=zzz").startswith(f"{group}=zzz does not exist: use one of "), group
    assert "There are dis, exact, farneback, raft" in refused("flow=rft"), "the choices that sizes make are no users'"


def test_one_of_several_protocols() -> None:
    assert refused("protocol=[dgaf,stablevrs]", verb="eval").startswith(
        "protocol=stablevrs does not exist: did you mean stablevsr?"
    )


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_an_experiment_that_does_not_exist_is_no_run_without_one(verb: str) -> None:
    assert "did you mean dgaf/t3_case2?" in refused("experiments=dgaf/t3_cas2", verb=verb)
    told = refused("experiments=x/y", verb=verb)
    assert told.startswith("experiments=x/y does not exist: use one of adapter/..., compare/...") and len(told) < 160
    assert "There are mini/adapter, " in refused("experiments=mini/dgf"), "of a folder that exists, its files"


def test_choices_that_are_no_names() -> None:
    assert refused("method=3").startswith("method=3 does not exist: use one of adapter, ")
    assert refused("variant=null").startswith("variant=null does not exist: use one of paper, released")
    assert refused("=3") == "cannot read '=3': settings are written key=value"
    assert refused("+trainer=cpu") == "trainer is chosen already: leave the + before trainer= out"


# --- settings that do not exist ------------------------------------------------------------------


def test_an_unknown_setting_names_the_nearest_and_its_neighbours() -> None:
    assert refused("trainer.max_step=3") == "there is no setting trainer.max_step: did you mean trainer.max_steps?"
    assert refused("checkpoint.evry=3").endswith("did you mean checkpoint.every? checkpoint has every, weights")
    assert "did you mean sampler.steps?" in refused("sampler.step=3")
    assert "did you mean method.flow_input?" in refused("method.flow_inputs=bicubic")
    assert "did you mean trainer.max_steps?" in refused("max_steps=3")
    assert "did you mean data.splits?" in refused("data/splits=x")
    assert refused("qqq=1") == "there is no setting qqq: --cfg job shows all of them"
    assert refused("sampler.steps=3", "method=bicubic", verb="eval").endswith("sampler is null here")


def test_an_unknown_setting_is_looked_up_in_the_groups_that_were_chosen() -> None:
    assert "did you mean launcher.minutes?" in refused("launcher=slurm", "launcher.minute=3")
    assert "did you mean logger.wandb.project?" in refused("logger=wandb", "logger.projekt=x")


def test_an_unknown_setting_is_refused_with_a_plus_too() -> None:
    assert "did you mean trainer.max_steps?" in refused("+trainer.max_step=3")
    assert "did you mean inference.batch?" in refused("+inference.batches=1")
    assert refused("+nosuch.key=1") == (
        "there is no setting nosuch: the nearest are schedule, launcher, rows; --help lists all of them"
    )
    assert refused("trainer.nosuch=1").startswith("there is no setting trainer.nosuch: the nearest are trainer.")
    assert refused("+sed=1") == "there is no setting sed: did you mean seed?"
    assert "did you mean method.flow_input?" in refused("+method.flow_inputs=bicubic")
    assert "did you mean optimiser.betas?" in refused("+optimiser.beta=1")
    assert "did you mean data.workers?" in refused("++data.worker=1")


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("trainer.max_steps=abc", "trainer.max_steps=abc: give a whole number from 1"),
        ("trainer.max_steps=1e5", "trainer.max_steps=100000.0: give a whole number from 1"),
        ("trainer.max_steps=-1", "trainer.max_steps=-1: give a whole number from 1"),
        ("trainer.max_steps=null", "trainer.max_steps=null: give a whole number from 1"),
        ("trainer.log_every_n_steps=0", "trainer.log_every_n_steps=0: give a whole number from 1"),
        ("seed=-1", "seed=-1: give a whole number from 0"),
        ("seed=[1,2]", "seed=[1, 2]: give a whole number from 0"),
        ("force=no", "force=no: give true or false"),
        ("data.workers=some", "data.workers=some: give a whole number from 0"),
        ("optimiser.lr=fast", "optimiser.lr=fast: give a number"),
        ("optimiser.betas=3", "optimiser.betas=3: give a list, optimiser.betas=[3]"),
        ("tags=mine", "tags=mine: give a list, tags=[mine]"),
        ("checkpoint=3", "checkpoint=3: checkpoint is a group, set one of checkpoint.every, checkpoint.weights"),
    ],
)
def test_values_of_another_kind(argument: str, told: str) -> None:
    assert refused(argument) == told


@pytest.mark.parametrize(
    "argument",
    [
        "trainer.devices=auto",
        "trainer.devices=[0]",
        "compile=eager",
        "validation.clips=null",
    ],
)
def test_values_of_several_kinds(argument: str) -> None:
    key, _, value = argument.partition("=")
    assert OmegaConf.select(compose(["size=tiny", argument]), key) == yaml.safe_load(value)


def test_several_values_without_a_sweep() -> None:
    assert refused("seed=1,2") == (
        "seed=1,2 is several values: add -m for a job with each, or write one list, 'seed=[1,2]'"
    )
    assert refused("seed=range(1,3)") == "seed=range(1,3) is several values: add -m for a job with each"


@pytest.mark.parametrize("argument", ["method==x", "tags=[a", "seed=${foo", "name={a"])
def test_what_cannot_be_read(argument: str) -> None:
    assert refused(argument).startswith(f"cannot read {argument!r} (")


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of the user's own experiments, each with a fault."""
    folder = tmp_path / "conf" / "experiments" / "own"
    folder.mkdir(parents=True)
    head = "# @package _global_\n"
    (folder / "group.yaml").write_text(head + "defaults:\n  - override /data: redss\n")
    (folder / "key.yaml").write_text(head + "trainer: {max_step: 3}\n")
    (folder / "syntax.yaml").write_text(head + "trainer: {max_step: 3\n")
    return tmp_path / "conf"


def said(*arguments: str, cwd: Path) -> str:
    """The one line that a command says before it ends with exit code 2."""
    told = subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert told.returncode == 2, told.stderr
    (line,) = told.stderr.splitlines()
    assert told.stdout == "" and line.startswith("error: ")
    return line.removeprefix("error: ")


def test_mistakes_inside_an_experiment(own: Path) -> None:
    def told(name: str) -> str:
        return said("vsrbench.train", "--config-dir", str(own), f"experiments=own/{name}", "size=tiny", cwd=own)

    assert told("group").startswith(
        "experiments=own/group asks for data=redss, which does not exist: did you mean reds?"
    )
    assert told("key").startswith("there is no setting trainer.max_step: did you mean trainer.max_steps?")
    assert "own/syntax.yaml" in told("syntax")


# --- commands ------------------------------------------------------------------------------------

DGF = "method=dgf does not exist: did you mean dgaf?"


@pytest.mark.parametrize(
    "arguments",
    [
        ["vsrbench", "train", "method=dgf"],
        ["vsrbench.eval", "method=dgf"],
        ["vsrbench.upscale", "in.mp4", "out.mp4", "method=dgf"],
        ["vsrbench.bench", "method=dgf"],
        ["vsrbench.train", "-m", "method=dgf,ldm", "seed=1,2"],
    ],
)
def test_every_verb_and_sweeps_say_it_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    assert said(*arguments, cwd=tmp_path).startswith(DGF)
    assert not list(tmp_path.rglob("manifest.json")), "nothing was begun"


def test_other_sweepers_are_refused(tmp_path: Path) -> None:
    assert said("vsrbench.train", "-m", "sweeper=optun", cwd=tmp_path).startswith("sweeper=optun does not exist")


def test_hydras_own_switch_still_shows_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    told = subprocess.run(
        [sys.executable, "-m", "vsrbench.train", "method=dgf"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in told.stderr and "MissingConfigException" in told.stderr


def test_a_job_that_cannot_be_composed_has_no_log_to_look_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path / "sweep", "train")
    sweep.enter(Job(0, ["seed=x"], ["seed=x"], None, None))
    sweep.save()
    sweep.note(0, state="failed", failure=["seed=x: give a number"])
    show(sweep)
    told = capsys.readouterr().out
    assert "give a number" in told and "all of it" not in told
