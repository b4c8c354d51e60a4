"""Settings of the trainer that hold for every method, what is said, and what is refused."""

import warnings
from pathlib import Path

import pytest

from training_fakes import trained
from vsrbench import config, train
from vsrbench.errors import ConfigError
from vsrbench.methods.module import MethodModule
from vsrbench.training.loggers import read_metrics
from vsrbench.training.memory import apply_checkpointing, paper_batch

SHORT = (
    "size=tiny", "data=sample", "data.workers=0", "trainer=cpu", "trainer.max_steps=2", "trainer.log_every_n_steps=1",
    "validation.clips=1", "validation.frames=2", "validation.strips=0", "validation.every=0",
)  # fmt: skip


def go(runs: Path, method: str, *more: str) -> Path:
    train.run(config.compose([f"method={method}", *SHORT, f"runs={runs}", "name=run", *more]))
    return runs / "run"


def made(name: str) -> MethodModule:
    cfg = config.compose([f"method={name}", "size=tiny"])
    module: MethodModule = config.build(cfg.module, method=config.build(cfg.method))
    return module


@pytest.mark.parametrize("name", ["dgaf", "basicvsrpp", "videogigagan"])
def test_one_switch_reaches_every_network_that_can_save_memory(name: str) -> None:
    module = made(name)
    switches = [m for m in module.modules() if isinstance(getattr(m, "checkpointing", None), bool)]
    for wanted in (True, False):
        apply_checkpointing(module, wanted)
        assert {m.checkpointing for m in switches} == {wanted}
    apply_checkpointing(module, None)
    assert {m.checkpointing for m in switches} == {False}


def test_the_vae_can_save_memory_too() -> None:
    module = made("ldm")
    apply_checkpointing(module, True)
    assert module.parts()["vae"].is_gradient_checkpointing
    apply_checkpointing(module, False)
    assert not module.parts()["vae"].is_gradient_checkpointing


@pytest.mark.slow
def test_compiled_blocks_give_the_same_curve(tmp_path: Path) -> None:
    plain = go(tmp_path / "plain", "ldm")
    compiled = go(tmp_path / "compiled", "ldm", "compile=eager")
    ours, theirs = (read_metrics(run / "metrics.csv") for run in (plain, compiled))
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        assert float(mine["train/loss"]) == pytest.approx(float(other["train/loss"]), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (["gradient_checkpointing=true"], r"has no gradient checkpointing; use null"),
        (["compile=true"], r"calls none of the blocks that are compiled .* use compile=false"),
        (["compile=magic"], r"compile=magic: use true, false, inductor, aot_eager or eager"),
        (["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"], r"no frozen block to shard; use .*ddp"),
    ],
)
def test_what_a_method_cannot_do_is_refused(tmp_path: Path, settings: list[str], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        trained(tmp_path, *settings)


def test_sharded_blocks_are_not_compiled(tmp_path: Path) -> None:
    sharing = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "train.effective_batch=2"]
    with pytest.raises(ConfigError, match="either sharded or compiled"):
        go(tmp_path, "dgaf", *sharing, "compile=eager")


def test_no_block_of_a_discriminator_is_compiled() -> None:
    module = made("videogigagan")
    inner = set(module.parts()["discriminator"].modules())
    assert module.repeated_blocks() and not inner & set(module.repeated_blocks())


def test_the_papers_batch_is_named_where_another_one_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert paper_batch("dgaf") == 32 and paper_batch("basicvsrpp") == 8 and paper_batch("bicubic") is None
    go(tmp_path, "ldm", "trainer.max_steps=1")
    assert "the paper trains with an effective batch of 32" in capsys.readouterr().out
    trained(tmp_path / "fake", "trainer.max_steps=1")
    assert "the paper trains" not in capsys.readouterr().out


def test_the_preset_for_24_gb_comes_after_the_size_and_before_the_command_line() -> None:
    preset = ["size=paper", "data=sample", "trainer=1gpu_24g"]
    cfg = config.compose(["method=dgaf", *preset])
    assert (cfg.train.batch, cfg.train.effective_batch, cfg.gradient_checkpointing) == (1, 32, True)
    assert (cfg.trainer.accelerator, cfg.trainer.precision) == ("gpu", "bf16-mixed")
    assert config.compose(["method=dgaf", *preset, "train.batch=2"]).train.batch == 2


def test_a_schedule_follows_its_optimiser_also_while_that_rests(tmp_path: Path) -> None:
    """torch warns where a schedule moves before its optimiser; VideoGigaGAN's discriminator begins late."""
    steps = ["+schedule._target_=torch.optim.lr_scheduler.StepLR", "+schedule._partial_=true", "+schedule.step_size=1"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Detected call of")
        run = go(tmp_path, "videogigagan", "stage=image", *steps, "trainer.max_steps=3")
    rates = [float(row["train/lr"]) for row in read_metrics(run / "metrics.csv") if row["train/lr"]]
    assert rates == pytest.approx([rates[0] * 0.1**n for n in range(3)])
