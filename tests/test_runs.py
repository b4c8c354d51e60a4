import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vsrbench import runs
from vsrbench.config import compose
from vsrbench.errors import RunError
from vsrbench.runs import Run, atomic_file, derived_name, essential, open_run, write_atomic


def settings_of(*overrides: str, verb: str = "train") -> dict:
    return OmegaConf.to_container(compose(["size=tiny", *overrides], verb), resolve=True)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Run]:
    """opened(*overrides): the run of a tiny configuration below tmp_path."""
    return lambda *overrides, verb="train": open_run(compose(["size=tiny", f"runs={tmp_path}", *overrides], verb), verb)


# --- names ---------------------------------------------------------------------------------------

LONGER = [
    "trainer.max_steps=99", "trainer.devices=2", "trainer.num_nodes=3", "trainer=ddp_sim", "trainer.log_every=1",
    "trainer.max_time=00:01:00:00", "data.workers=7", "train.batch=2", "inference.device=cpu", "checkpoint.every=5",
    "validation.every=3", "logger=wandb", "tags=[x]", "force=true", "runs=elsewhere",
]  # fmt: skip


@pytest.mark.parametrize("override", LONGER)
def test_settings_that_lengthen_or_relocate_a_run_keep_its_name(override: str) -> None:
    assert derived_name(settings_of(override), "train") == derived_name(settings_of(), "train")


@pytest.mark.parametrize(
    "override",
    ["seed=1", "optimiser.lr=1", "train.effective_batch=4", "train.crop=24", "sampler.steps=3", "method=ldm"],
)
def test_settings_that_change_the_outcome_change_the_name(override: str) -> None:
    assert derived_name(settings_of(override), "train") != derived_name(settings_of(), "train")


def test_the_name_is_readable_and_the_same_everywhere() -> None:
    name = derived_name(settings_of(), "train")
    assert name.startswith("dgaf-tiny-sample-")
    assert derived_name(settings_of(verb="eval"), "eval").startswith("eval-dgaf-tiny-sample-")
    assert derived_name(settings_of("predictions=there", verb="eval"), "eval").startswith("eval-frames-sample-")
    code = (
        "from omegaconf import OmegaConf; from vsrbench import config, runs\n"
        "settings = OmegaConf.to_container(config.compose(['size=tiny']), resolve=True)\n"
        "print(runs.derived_name(settings, 'train'))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == name


@settings(max_examples=40)
@given(st.dictionaries(st.text("abc", min_size=1), st.one_of(st.integers(), st.text("xy"), st.lists(st.integers()))))
def test_the_order_of_settings_does_not_matter(content: dict) -> None:
    turned = dict(reversed(content.items()))
    assert essential(content) == essential(turned)


def test_essential_settings_are_flat_and_leave_out_what_may_change() -> None:
    flat = essential({"a": {"b": 1, "c": {"d": None}}, "trainer": {"max_steps": 5, "precision": 32}, "runs": "x"})
    assert flat == {"a.b": 1, "a.c.d": None, "trainer.precision": 32}


# --- the folder ----------------------------------------------------------------------------------


def test_the_same_configuration_finds_its_folder_again(opened: Callable[..., Run]) -> None:
    first, again = opened(), opened("trainer.max_steps=77")
    assert first == again
    assert opened("seed=1") != first
    assert OmegaConf.load(first.folder / "config.yaml").trainer.max_steps == 77


def test_the_folder_says_what_made_it(opened: Callable[..., Run]) -> None:
    run = opened("name=mine", "seed=7")
    assert run.folder.name == "mine"
    made = json.loads((run.folder / "provenance.json").read_text())
    assert made["seed"] == 7
    assert {"vsrbench", "commit", "python", "packages", "device"} <= made.keys()
    assert {"torch", "diffusers"} <= made["packages"].keys()
    stored = OmegaConf.load(run.folder / "config.yaml")
    assert stored.method.prior.unet.in_channels == 7, "interpolations are resolved"
    assert not run.finished
    run.write_json("result.json", {"schema": 1})
    assert run.finished


def test_another_configuration_in_the_same_folder_is_refused(opened: Callable[..., Run]) -> None:
    run = opened("name=mine")
    before = (run.folder / "config.yaml").read_bytes()
    with pytest.raises(RunError, match=r"mine holds a run with other settings .*seed: 42 there, 1 now.*name="):
        opened("name=mine", "seed=1")
    assert (run.folder / "config.yaml").read_bytes() == before
    with pytest.raises(RunError, match=r"\(\+\d+ more\)"):
        opened("name=mine", "method=ldm")
    opened("name=mine", "trainer.devices=2", "logger=wandb")


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_run(compose(["size=tiny", "runs='~/results'"]), "train").folder.parent == tmp_path / "results"


def test_provenance_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert runs.provenance(0)["commit"] is None


# --- writing -------------------------------------------------------------------------------------


def test_a_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    write_atomic(target, b"old")

    def stop_half_way() -> None:
        with atomic_file(target) as file:
            file.write(b"half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop_half_way()
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target], "no temporary file stays"
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"


def test_a_full_disk_is_one_error_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=f"cannot write {target}: No space left on device"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_written(tmp_path: Path, opened: Callable[..., Run]) -> None:
    (tmp_path / "occupied").touch()
    with pytest.raises(RunError, match=r"cannot write .*occupied.*runs=DIR"):
        opened(f"runs={tmp_path}/occupied")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path, opened: Callable[..., Run]) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(RunError, match="Permission denied"):
        opened(f"runs={tmp_path}/closed")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_no_reader_can_trust(tmp_path: Path, value: float) -> None:
    run = Run(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("result.json", {"psnr": [1.0, value]})
    assert not run.finished
