import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from training_fakes import FakeMethod, FakeModule, tiny_arguments, trained
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, DataError, RunError, WeightsError
from vsrbench.training import names
from vsrbench.training.loggers import read_metrics
from vsrbench.training.model_card import parameter_table, parameters
from vsrbench.training.trainer import accumulation, lost_ranks_told


def test_accumulation_reaches_the_effective_batch_or_says_what_would() -> None:
    assert accumulation(32, 4, 2) == 4
    assert accumulation(4, 4, 1) == 1
    with pytest.raises(ConfigError, match=r"effective batch 32 .* 5 x 2 .* can be 1, 2, 4, 8, 16"):
        accumulation(32, 5, 2)
    with pytest.raises(ConfigError, match="use at most 4 devices"):
        accumulation(4, 1, 8)


def test_effective_batch_parameters_and_device_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, "train.effective_batch=8", "trainer.max_steps=1")
    assert "effective batch 8 = 2 x 1 device(s) x 4 accumulated; cpu, 32-true" in capsys.readouterr().out


def test_parameter_table_counts_trained_and_frozen_parts() -> None:
    module = FakeModule(FakeMethod())
    module.begin_stage("learn", None, Noise(0))
    assert parameters(module) == {"trained": 12 * 27 + 12, "frozen": 12}
    text = io.StringIO()
    Console(file=text, width=80).print(parameter_table(module))
    assert "learner" in text.getvalue()
    assert "336" in text.getvalue()


def test_frozen_parts_do_not_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    begin = FakeModule.begin_stage

    def begin_stage(self: FakeModule, *args: object) -> None:
        made.append((self.method, self.method.frozen.weight.clone(), self.method.learner.weight.clone()))
        begin(self, *args)

    monkeypatch.setattr(FakeModule, "begin_stage", begin_stage)
    trained(tmp_path, "trainer.max_steps=2")
    ((method, frozen, learner),) = made
    assert torch.equal(method.frozen.weight, frozen)
    assert method.learner.training
    assert not method.frozen.training
    assert not torch.equal(method.learner.weight, learner)


def test_debug_overfit_makes_the_loss_fall(tmp_path: Path) -> None:
    folder = trained(tmp_path, "debug=overfit", f"runs={tmp_path}", "trainer.max_steps=40")
    losses = [float(row[names.LOSS]) for row in read_metrics(folder / "metrics.csv") if row[names.LOSS]]
    assert losses[-1] < 0.7 * losses[0]


def test_debug_limit_does_everything_shortly_and_always_anew(tmp_path: Path) -> None:
    for _ in range(2):
        folder = trained(tmp_path, "debug=limit", f"runs={tmp_path}")
    assert len(read_metrics(folder / "metrics.csv")) == 6
    endings = (".mp4", ".png", "_slice.png")
    assert {p.name for p in (folder / "samples").iterdir()} == {
        f"step_00000{n}_val_0{e}" for n in (2, 4) for e in endings
    }


def test_debug_fdr_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "debug=fdr")
    assert list(tmp_path.iterdir()) == []


def test_max_time_of_one_call_stops_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, "trainer.max_time='00:00:00:00'")
    assert "stopped by trainer.max_time at step 0" in capsys.readouterr().out
    folder = trained(tmp_path)
    assert (folder / "result.json").is_file()


def test_absent_weights_and_data_are_told_before_the_method_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: FakeMethod, name: str) -> None:
        raise AssertionError("built")

    def no_data(self: object) -> None:
        raise DataError("no folder /data: set data.root")

    monkeypatch.setattr(FakeMethod, "__init__", never)
    with pytest.raises(WeightsError, match=r"nothing\.ckpt"):
        trained(tmp_path, f"ckpt_path={tmp_path}/nothing.ckpt")
    monkeypatch.setattr("training_fakes.FakeData.train_dataloader", no_data)
    with pytest.raises(DataError, match=r"data\.root"):
        trained(tmp_path, name="other")


def test_impossible_trainer_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gpu"):
        trained(tmp_path, "trainer.accelerator=gpu")
    for precision in ("64-true", "bf16-true"):
        with pytest.raises(ConfigError, match=f"trainer.precision={precision}: use 32-true, bf16-mixed or 16-mixed"):
            trained(tmp_path, f"trainer.precision={precision}", f"name={precision}")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """The real command with ``trainer=ddp_sim``; also that the result is written once, by the first process."""
    settings = ["train.effective_batch=4", "trainer.max_steps=3", "ema.decay=0.9"]
    one = trained(tmp_path, *settings, "train.batch=4", name="one")
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vsrbench.train", *tiny_arguments(tmp_path, "two"), *settings]
    done = subprocess.run(
        [*command, "trainer=ddp_sim"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("effective batch 4 = 2 x 2 device(s) x 1 accumulated") == 1
    assert done.stdout.splitlines()[-1] == str(tmp_path / "two")
    ours, theirs = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (one, tmp_path / "two"))
    for key, value in ours["state_dict"].items():
        assert torch.allclose(value, theirs["state_dict"][key], atol=1e-5)
        assert torch.allclose(ours["ema"]["shadow"][key], theirs["ema"]["shadow"][key], atol=1e-5)
    a, b = (read_metrics(f / "metrics.csv") for f in (one, tmp_path / "two"))
    for mine, other in zip(a, b, strict=True):
        if mine[names.LOSS]:
            assert float(mine[names.LOSS]) == pytest.approx(float(other[names.LOSS]), rel=1e-4)


@pytest.mark.parametrize("said", ["[gloo/transport/tcp/pair.cc:553] Connection closed", "NCCL: ncclRemoteError: gone"])
def test_the_death_of_another_rank_is_one_error(said: str) -> None:
    told = r"another process of this run has ended.*(closed|gone)\): the same command"
    with pytest.raises(RunError, match=told), lost_ranks_told():
        raise RuntimeError(f"{said}\nmore")
    with pytest.raises(RuntimeError, match="shapes"), lost_ranks_told():
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize("setting", ["optimiser.lr=-1", "optimiser.betas=[2,3]"])
def test_what_the_optimiser_refuses_is_said_before_training(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="optimiser refuses these settings: Invalid"):
        trained(tmp_path, setting)
    assert not (tmp_path / "run").exists()
