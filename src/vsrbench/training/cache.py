"""What training makes once and reads again: tensors in files, named by what they depend on."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vsrbench.weights.files import read, write


class Cache:
    """``cache(key, make)``: the tensor stored under ``key``, or what ``make`` gives, stored in half precision.

    The key names everything that the tensor depends on (weights by their hash) and is a path below ``folder``. Rounding
    is the same whether a tensor was just made or read. Two processes may make the same one; the file is always whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        file = self.folder / f"{key}.safetensors"
        if not file.is_file():
            value = make().detach()
            write(file, {"kept": value.half().cpu()})
            return value.half().to(value.dtype)
        return read(file).tensors["kept"].to(torch.float32)
