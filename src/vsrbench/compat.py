"""Cures for what other libraries do: noise, and a torchvision whose compiled part does not fit the installed torch.

The torchvision wheel on PyPI is built for CUDA. Beside a CPU build of torch its operators cannot be
loaded, yet ``import torchvision`` registers fake kernels for two of them and fails with
``operator torchvision::nms does not exist``; Lightning, diffusers and transformers fail with it.
Declaring the two schemas (without kernels) is enough: RAFT, transforms and classifiers then work.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _TorchvisionGuard(importlib.abc.MetaPathFinder):
    """Runs once, when torchvision is first imported, then leaves the import system alone."""

    library: Any = None  # the schemas live as long as this object does

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.origin is not None and not _loads(Path(spec.origin).parent):
            _TorchvisionGuard.library = _declare_missing_operators()
        return spec


def _loads(folder: Path) -> bool:
    """True where the wheel's own operators can be loaded; then nothing has to be declared."""
    import torch

    for library in folder.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:  # linked against a CUDA runtime that this torch does not have
            return False
        return True
    return True  # no compiled part next to the package (other platforms): torchvision's own loader decides


def _declare_missing_operators() -> Any:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + _SIGNATURE)
    return library


def guard_torchvision() -> None:
    """Install the guard; costs nothing until something imports torchvision."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _TorchvisionGuard) for f in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionGuard())


def quiet_libraries() -> None:
    """Notes of libraries that tell a user of this project nothing; errors stay."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # comes with pyiqa; misses kernels that nobody asked for
    warnings.filterwarnings("ignore", message=".*Transformer2DModelOutput.*")  # diffusers about its own import
