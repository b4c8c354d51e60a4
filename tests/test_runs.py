import errno
import fcntl
import json
import os
import signal
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
from vsrbench.errors import ConfigError, RunError
from vsrbench.runs import Run, atomic_file, derived_name, essential, open_run, short_hash, write_atomic


def settings_of(*overrides: str, verb: str = "train") -> dict:
    return OmegaConf.to_container(compose(["size=tiny", *overrides], verb), resolve=True)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Run]:
    """opened(*overrides): the run of a tiny configuration below tmp_path."""
    return lambda *overrides, verb="train": open_run(compose(["size=tiny", f"runs={tmp_path}", *overrides], verb), verb)


# --- names ---------------------------------------------------------------------------------------

# What must not change the name of a run of a verb, of the settings that it reads.
LONGER = [
    "data.workers=7", "inference.device=cpu", "logger=wandb", "tags=[x]", "force=true", "runs=elsewhere",
    "inference.batch=1", "untrained=true", "sweep=s", "launcher=slurm", "command=train", "+needs.prior=x",
    "optimise.metrics=[val/ssim_y]", "supports.untrained=[]",
]  # fmt: skip
ROW = "published={paper: dgaf_vsr, table: table3, row: case 2}"
KEPT = {
    "train": [
        *LONGER, ROW, "data.splits.test=null", "trainer.max_steps=99", "trainer.devices=2", "trainer.num_nodes=3",
        "trainer=ddp_sim", "trainer.log_every_n_steps=1", "trainer.max_time=00:01:00:00", "train.batch=2",
        "checkpoint.every=5", "validation.every=3", "validation.strips=1", "trainer.profiler=simple",
        "callbacks=[default,lr_monitor]", "compile=eager", "gradient_checkpointing=true",
    ],
    "eval": [*LONGER, "inference.devices=2", "validation.strips=1"],
}  # fmt: skip
# What must change it.
TOLD = {
    "train": [
        "seed=1", "optimiser.lr=1", "train.effective_batch=4", "train.crop=24", "sampler.steps=3", "method=ldm",
        "data=reds", "data.root=x", "data.splits.val.clips=1", "ckpt_path=x", "weights=x", "stage=guide", "size=mini",
        "variant=released", "scale=8", "flow=farneback", "degradation=blur_down", "ema.decay=0.5", "schedule={a: 1}",
        "validation.clips=1", "validation.metric=val/ssim_y", "trainer.precision=bf16-mixed",
        "trainer.gradient_clip_val=3", "module.posterior=sample",
        "inference.precision=bf16", "trainer.overfit_batches=1", "method.align=released",
    ],
    "eval": [
        "seed=1", "sampler.steps=3", "method=ldm", "data=reds", "data.root=x", "data.splits.test.clips=1",
        "ckpt_path=x", "weights=x", "size=mini", "variant=released", "scale=8", "flow=farneback",
        "degradation=blur_down", "inference.precision=bf16", "inference.chunk=2", "inference.tile=8",
        "inference.max_frames=3", "method.align=released", "protocol=dgaf", "protocol.crop=4", ROW, "predictions=x",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("verb", "override"), [(verb, one) for verb, found in KEPT.items() for one in found])
def test_settings_that_lengthen_or_relocate_a_run_keep_its_name(verb: str, override: str) -> None:
    assert derived_name(settings_of(override, verb=verb), verb) == derived_name(settings_of(verb=verb), verb)


@pytest.mark.parametrize(("verb", "override"), [(verb, one) for verb, found in TOLD.items() for one in found])
def test_settings_that_change_the_outcome_change_the_name(verb: str, override: str) -> None:
    assert derived_name(settings_of(override, verb=verb), verb) != derived_name(settings_of(verb=verb), verb)


BOTH = {
    "seed", "ckpt_path", "scale", "weights", "flow_batch_statistics", "inference", "prior", "sampler", "data",
    "degradation", "method", "size", "variant", "flow",
}  # fmt: skip
RECIPE = {"module", "stage", "train", "optimiser", "schedule", "ema", "validation", "trainer"}
# What a verb does not read is refused on the command line, and left out of files for other verbs.
UNREAD = {
    "train": [
        "protocol=dgaf", "protocol.crop=4", "predictions=x", "inference.chunk=2", "inference.max_frames=3", "input=x",
        "analysis.bins=9", "bench.height=9", "video.crf=9", "task=flops", "dtype=float32", "tolerance=1",
        "dashboard=comparison", "budget.steps=5",
    ],
    "eval": [
        "train.crop=24", "optimiser.lr=1", "ema.decay=0.5", "stage=guide", "validation.clips=1", "trainer=cpu",
        "trainer.max_steps=99", "checkpoint.every=5", "module.posterior=sample",
        "callbacks=default", "debug=limit", "budget.steps=5", "+schedule.x=1",
    ],
    "upscale": [
        "data=vid4", "data.root=x", "protocol=dgaf", "train.crop=24", "trainer=cpu", "logger=wandb", "recipe=x",
        "module.posterior=sample",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("verb", "override"), [(verb, one) for verb, those in UNREAD.items() for one in those])
def test_settings_of_other_verbs_are_refused(verb: str, override: str) -> None:
    with pytest.raises(ConfigError, match=rf"{verb} does not read it; .* do(es)?$"):
        settings_of(override, verb=verb)


FRAMES = {"predictions", "protocol", "protocols", "published"}


@pytest.mark.parametrize(
    ("verb", "expected"),
    [("train", BOTH | RECIPE), ("eval", BOTH | FRAMES), ("compare", BOTH | RECIPE | FRAMES | {"budget"})],
)
def test_every_group_of_settings_was_judged(verb: str, expected: set[str]) -> None:
    """A new one has to be entered here, and in runs.py where it does not change what a verb makes."""
    assert {key.partition(".")[0] for key in essential(settings_of(verb=verb))} == expected


def test_a_comparison_with_another_budget_or_protocol_is_another_job() -> None:
    assert runs.digest(settings_of("budget.steps=5", verb="compare")) != runs.digest(settings_of(verb="compare"))
    assert runs.digest(settings_of("protocol=dgaf", verb="compare")) != runs.digest(settings_of(verb="compare"))


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
    assert short_hash(content) == short_hash(turned)
    settings = {"verb": "train", "method": content, "seed": 1}
    assert essential(settings) == essential({"seed": 1, "method": turned, "verb": "train"})


def test_essential_settings_are_flat_and_leave_out_what_may_change() -> None:
    trainer, data = {"max_steps": 5, "precision": 32}, {"root": "x", "packed": "y", "splits": {"test": 1, "val": 2}}
    method = {"b": 1, "c": {"d": None}}
    settings = {"verb": "train", "method": method, "trainer": trainer, "data": data, "runs": "x", "of_old": 1}
    flat = {"method.b": 1, "method.c.d": None, "data.root": "x", "data.splits.val": 2}
    assert essential(settings) == {**flat, "trainer.precision": 32}
    assert essential({**settings, "verb": "eval"}) == {**flat, "data.splits.test": 1}


def test_a_folder_of_an_older_version_is_refused_in_one_line(opened: Callable[..., Run]) -> None:
    run = opened("name=mine")
    old = {**settings_of(), "analysis": {}, "video": {}, "budget": {}, "seed": 7}
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(old)))
    with pytest.raises(
        RunError, match=r"made by a version with other settings, .* ckpt_path=.*mine starts from its"
    ) as told:
        opened("name=mine")
    assert "\n" not in str(told.value)


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
    assert {"command", "date", "host"} <= made.keys()
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


# --- one process at a time ----------------------------------------------------------------------

HOLD = "import sys, time; from pathlib import Path; from vsrbench.runs import alone\nwith alone(Path(sys.argv[1])):"


def test_a_second_process_in_a_run_folder_is_refused_and_told_who(tmp_path: Path) -> None:
    """The lock ends with the process that holds it, not with what it has started."""
    code = f"{HOLD}\n import os\n if os.fork() == 0: time.sleep(60)\n print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, process_group=0)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        told = rf"at work already \(process {holder.pid} on .*\): wait for it"
        for _ in range(2):
            with pytest.raises(RunError, match=told), runs.alone(tmp_path):
                pass
        holder.kill()
        holder.wait()
        with runs.alone(tmp_path):
            assert str(os.getpid()) in (tmp_path / "lock").read_text()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
    with runs.alone(tmp_path):
        pass


def test_a_job_that_was_queued_again_waits_for_the_lock_of_a_failed_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"{HOLD}\n print('held', flush=True); time.sleep(2)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        with runs.alone(tmp_path):
            assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unable)
    with runs.alone(tmp_path):
        assert "No locks available" in capsys.readouterr().out


# --- what is said, and what is left of refused commands ------------------------------------------


def fail(folder: Path, *names: str) -> None:
    """Work in a run folder that writes these files, says something, and is refused."""
    with runs.alone(folder):
        for name in names:
            (folder / name).write_text("verb: eval\nruns: x\nseed: 1\n")
        print("step 1")
        print("\x1b[2K\rstep 0 of 7", end="", file=sys.stderr)
        print("\x1b[1mbold\x1b[0m", file=sys.stderr)
        raise RunError("the disk is gone")


def test_what_is_said_goes_into_the_log_without_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(RunError):
            fail(tmp_path)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    expected = ["step 1", "bold", "ended: RunError: the disk is gone"]
    assert [line for line in lines if line[:3] != "---"] == expected * 2
    assert "step 0 of 7" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_that_leads_elsewhere_is_refused(kind: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "other"
    folder.mkdir()
    (folder / "config.yaml").write_text("verb: eval\nruns: x\nseed: 1\n")
    other.write_text("mine")
    os.mkfifo(folder / "log.txt") if kind == "pipe" else (folder / "log.txt").symlink_to(other)
    with pytest.raises(RunError, match=r"cannot write .*log\.txt"), runs.alone(folder):
        pass
    assert other.read_text() == "mine"


def test_a_refused_command_leaves_no_folder_and_work_stays(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        fail(tmp_path / "none", "config.yaml", "provenance.json")
    assert not (tmp_path / "none").exists()
    for names in (("config.yaml", "metrics.csv"), ()):  # the second time it was there before
        with pytest.raises(RunError):
            fail(tmp_path / "some", *names)
        assert (tmp_path / "some").exists()


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
