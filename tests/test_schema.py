"""The schema and the files of conf/ state the same settings, and every setting has a meaning."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from vsrbench.command_line import home
from vsrbench.config import check_nodes, compose
from vsrbench.errors import ConfigError
from vsrbench.schema.sections import Section
from vsrbench.schema.verbs import VERBS, extra, section

CONF = home() / "conf"


def configuration(verb: str, *overrides: str) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(compose(overrides, verb), resolve=True)
    return plain


@pytest.mark.parametrize("verb", VERBS)
def test_every_setting_of_a_root_has_an_entry_with_a_meaning_and_the_other_way_round(verb: str) -> None:
    def same(model: type[Section], values: dict[str, Any], path: str) -> None:
        required = {name for name, field in model.model_fields.items() if field.is_required()}
        assert required <= set(values) <= set(model.model_fields), path
        for name, value in values.items():
            field = model.model_fields[name]
            assert field.description and "\n" not in field.description, f"{path}{name}"
            inner = section(field.annotation, value)
            if inner is not None and isinstance(value, dict) and inner.model_config.get("extra") == "forbid":
                same(inner, value, f"{path}{name}.")

    same(VERBS[verb], configuration(verb), "")


@pytest.mark.parametrize("launcher", ["local", "basic", "slurm", "slurm_dry"])
def test_every_launcher_states_what_its_schema_has(launcher: str) -> None:
    values = configuration("train", f"launcher={launcher}")["launcher"]
    model = section(VERBS["train"].model_fields["launcher"].annotation, values)
    assert model is not None and set(values) == set(model.model_fields)


def test_every_root_is_a_command() -> None:
    assert {file.stem for file in CONF.glob("*.yaml")} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_bounds_are_those_of_settings_that_exist(verb: str) -> None:
    values = configuration(verb)
    for name, field in VERBS[verb].model_fields.items():
        for key in extra(field).get("kinds", {}):
            assert key in values[name], f"{name}.{key}"


@pytest.mark.parametrize("verb", ["train", "eval", "upscale", "analyse"])
@pytest.mark.parametrize("method", ["dgaf", "bicubic", "sateco"])
def test_every_node_takes_what_its_files_state(verb: str, method: str) -> None:
    if (verb, method) == ("train", "bicubic"):
        pytest.skip("nothing to train")
    check_nodes(compose([f"method={method}"], verb))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["+trainer.nosuch=1"], "there is no setting trainer.nosuch"),
        (["trainer.acelerator=cpu"], "did you mean trainer.accelerator?"),
        (["trainer.max_epochs=some"], "trainer.max_epochs=some: give a whole number"),
        (["+inference.foo=1"], "there is no setting inference.foo: inference has "),
        (["inference.precision=fp64"], "inference.precision=fp64: use auto, fp32, bf16 or fp16"),
        (["compile=fast"], "compile=fast: use true, false, inductor, aot_eager or eager"),
        (["launcher=slurm", "launcher.parallel=0"], "launcher.parallel=0: give a whole number from 1"),
        (["trainer.log_every=5"], "trainer.log_every is now trainer.log_every_n_steps"),
        (["data.lr=tape"], "data.lr=tape: use auto, disk or made"),
    ],
)
def test_what_cannot_be_is_one_line_with_a_remedy(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_nodes(compose(["size=tiny", "data=reds", *overrides]))
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_any_argument_of_lightnings_trainer_can_be_given() -> None:
    cfg = compose(["size=tiny", "trainer.enable_checkpointing=false", "trainer.limit_val_batches=2"])
    check_nodes(cfg)
    assert cfg.trainer.enable_checkpointing is False and cfg.trainer.limit_val_batches == 2


def test_the_configuration_of_a_command_holds_what_it_reads(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "vsrbench", "upscale", "a", "b", "experiments=mini/dgaf", "--cfg", "job"]
    told = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(OmegaConf.create(told.stdout)) <= set(VERBS["upscale"].model_fields)
    assert "optimiser" not in told.stdout and "counts" not in told.stdout and len(told.stdout.splitlines()) < 120


def test_a_command_with_settings_and_no_task_says_what_it_needs(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "vsrbench", "data", "data=sample"]
    told = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 2 and told.stderr.startswith(
        "error: data needs a task: check, pack, degrade or verify, for"
    )


def test_the_schema_needs_no_torch() -> None:
    code = "import sys, vsrbench.schema.check, vsrbench.schema.targets; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
