"""Weights files of any kind: tensors, what else a checkpoint holds, headers alone, and writing.

Pickles are read with ``weights_only``: tensors and plain containers, no code.
"""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import torch
from torch import Tensor

from vsrbench.errors import WeightsError
from vsrbench.runs import write_atomic
from vsrbench.weights.ncnn import read_values

# Keys below which trainers keep the tensors: Lightning and OpenMMLab, BasicSR (averaged first), others.
WRAPPERS = ("state_dict", "params_ema", "params", "module")
TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


class Weights(NamedTuple):
    """tensors: the state dict. metadata: what else the file holds (counters, averages, hashes)."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Header:
    """One tensor's shape and type (``float16``)."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def numbers(self) -> int:
        count = 1
        for side in self.shape:
            count *= side
        return count


def read(file: Path, setting: str = "", mmap: bool = False) -> Weights:
    """The tensors of a safetensors file, a checkpoint of this project, a pickle (out of a known wrapper), or an ncnn
    file.

    setting: that names the file, for errors. mmap: leave a checkpoint's tensors on disk until they are used.
    Raises WeightsError for a file that is absent, damaged, or holds no state dict.
    """
    name = f"{setting}={file}" if setting else str(file)
    if not file.is_file():
        raise WeightsError(f"{name}: no such file")
    if file.suffix == ".safetensors":
        return Weights(_read_safetensors(file, name), {})
    if file.suffix == ".bin" and file.with_suffix(".param").is_file():
        return Weights(read_values(file), {})
    content = _unpickle(file, name, mmap)
    if not isinstance(content, dict):
        raise WeightsError(f"{name} holds a {type(content).__name__} and no state dict")
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    tensors = content if wrapper is None else content[wrapper]
    if not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{name} holds no state dict: give a file of weights")
    rest = {} if wrapper is None else {str(key): value for key, value in content.items() if key != wrapper}
    return Weights({str(key): value for key, value in tensors.items()}, rest)


def read_checkpoint(file: Path, mmap: bool = False) -> dict[str, Any]:
    """All that a checkpoint of a training run holds, as it was saved, on the CPU.

    mmap: leave the tensors on disk until they are used, for a look at the counters. Raises WeightsError.
    """
    content = _unpickle(file, str(file), mmap)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise WeightsError(f"{file} holds no state dict: it is no checkpoint of this project")
    return content


def read_headers(file: Path) -> dict[str, Header]:
    """{stored name: header}; the tensors stay on disk. Raises WeightsError for a damaged or foreign file."""
    if file.suffix != ".safetensors":
        return headers_of(read(file, mmap=zipfile.is_zipfile(file)).tensors)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            slices: dict[str, Any] = {key: content.get_slice(key) for key in content.keys()}  # noqa: SIM118
            return {key: Header(tuple(s.get_shape()), _type(s.get_dtype())) for key, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(_unreadable(str(file), error)) from error


def headers_of(tensors: Mapping[str, Tensor]) -> dict[str, Header]:
    """Headers of tensors in memory."""
    return {key: Header(tuple(v.shape), str(v.dtype).removeprefix("torch.")) for key, v in tensors.items()}


def write(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, written beside the target and renamed: it is always whole."""
    from safetensors.torch import save

    write_atomic(file, save({key: value.contiguous() for key, value in tensors.items()}, metadata))


def _read_safetensors(file: Path, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(_unreadable(name, error)) from error


def _unpickle(file: Path, name: str, mmap: bool) -> Any:
    try:
        if not mmap:
            _check_sums(file, name)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, BadZipFile, pickle.UnpicklingError) as error:
        raise WeightsError(_unreadable(name, error)) from error


def _check_sums(file: Path, name: str) -> None:
    """Raise WeightsError for a part of torch's zip file whose bytes are not those that were written: torch looks at no
    checksum itself."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as content:
        if damaged := content.testzip():
            raise WeightsError(f"{name} is damaged ({damaged} is not what was written): get it anew")


def _unreadable(name: str, error: Exception) -> str:
    return f"{name} cannot be read ({first_line(error)}): it may be truncated or hold more than tensors; get it anew"


def first_line(error: Exception) -> str:
    """The first line of what another library says, or the error's kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _type(name: str) -> str:
    return TYPES.get(name, name.lower())
