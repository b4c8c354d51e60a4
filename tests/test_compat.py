"""Each case in a fresh process: the guard acts on the first import of torchvision."""

import importlib.util
import subprocess
import sys

import pytest

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)


def told(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


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


def test_a_wheel_that_cannot_be_loaded_is_noticed(tmp_path) -> None:
    from vsrbench.compat import _loads

    assert _loads(tmp_path), "without a compiled part there is nothing to cure"
    (tmp_path / "_C.so").write_bytes(b"not a library")
    assert not _loads(tmp_path)
