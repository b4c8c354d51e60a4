"""Private interfaces are those that were checked; and the guard, which acts on the first import of torchvision.

Each case of the guard runs in a fresh process.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest

from vsrbench import compat

needs_torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")


@pytest.mark.parametrize("package", compat.CHECKED)
def test_private_interfaces_were_checked_with_the_installed_version(package: str) -> None:
    try:
        installed = version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    checked = compat.CHECKED[package]
    assert installed.startswith(f"{checked}."), f"compat.py was checked with {package} {checked}, this is {installed}"


def test_interfaces_of_lightning() -> None:
    import pytorch_lightning as pl

    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False)
    loop = trainer.fit_loop
    assert callable(loop.epoch_loop._should_check_val_fx) and loop._data_fetcher is None
    assert not compat.validation_follows(trainer)
    compat.set_logged_step(trainer, 7)
    assert loop.epoch_loop._batches_that_stepped == 7


def test_interfaces_of_torch() -> None:
    import torch

    model = torch.nn.Linear(1, 1)
    compat.leave_to_ranks(model, ["bias"])
    assert list(model._ddp_params_and_buffers_to_ignore) == ["bias"]
    with compat.fake_tensors():
        assert type(torch.ones(2)).__name__ == "FakeTensor"
    loader = torch.utils.data.DataLoader([1, 2, 3], num_workers=1, persistent_workers=True)
    workers = list(next(iter(loader)) and loader._iterator._workers)
    assert compat.dead_workers(loader._iterator, timeout=0) == []
    compat.kill_workers(loader)
    assert not any(worker.is_alive() for worker in workers) and loader._iterator._shutdown


def test_interfaces_of_submitit_and_of_loggers(tmp_path: Path) -> None:
    from submitit.slurm.slurm import SlurmExecutor
    from torch.utils.tensorboard import SummaryWriter

    script = compat.sbatch_script("run me", tmp_path, time=5, map_count=3)
    assert "run me" in script and "#SBATCH --array=0-2" in script
    assert list(signature(SlurmExecutor._submit_command).parameters) == ["self", "command"]
    writer = SummaryWriter(str(tmp_path))
    writer.close()
    assert hasattr(compat.summary_writer(writer), "add_summary")
    writer.close()
    assert compat.workspace_model(SimpleNamespace(_to_model=lambda: 3)) == 3


def told(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@needs_torchvision
def test_torchvision_works_and_the_guard_leaves_nothing_behind() -> None:
    code = """
import sys, vsrbench
from vsrbench.compat import _TorchvisionGuard, guard_torchvision
assert "torch" not in sys.modules
guard_torchvision()
print(sum(isinstance(f, _TorchvisionGuard) for f in sys.meta_path))
from torchvision.models.optical_flow import raft_small
guard_torchvision()
print(sum(isinstance(f, _TorchvisionGuard) for f in sys.meta_path))
"""
    assert told(code).split() == ["1", "0"]


@needs_torchvision
def test_nothing_is_declared_where_the_wheel_works() -> None:
    code = """
import vsrbench.compat as compat
compat._loads = lambda folder: True
declared = []
compat._declare_missing_operators = lambda: declared.append(1)
try:
    import torchvision
except RuntimeError:
    pass  # this machine's torchvision does need the cure
print(declared)
"""
    assert told(code) == "[]"


def test_a_wheel_that_cannot_be_loaded_is_noticed(tmp_path: Path) -> None:
    assert compat._loads(tmp_path), "without a compiled part there is nothing to cure"
    (tmp_path / "_C.so").write_bytes(b"not a library")
    assert not compat._loads(tmp_path)
