"""Names, shapes and types of the tensors in weights files; a safetensors file's header is all that is read of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsrbench.diffusion.layout import weight_files
from vsrbench.diffusion.weights import read_tensors
from vsrbench.errors import WeightsError

TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


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


def read_headers(file: Path) -> dict[str, Header]:
    """{stored name: header} of a safetensors file or a pickle. Raises WeightsError for a damaged or foreign file."""
    if file.suffix != ".safetensors":
        tensors = read_tensors(file)
        return {k: Header(tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in tensors.items()}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            slices: dict[str, Any] = {key: content.get_slice(key) for key in content.keys()}  # noqa: SIM118
            return {k: Header(tuple(s.get_shape()), _type(s.get_dtype())) for k, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} cannot be read ({error}): it may be truncated; fetch or export it again") from error


def folder_headers(folder: Path, names: tuple[str, ...]) -> tuple[str, dict[str, Header]]:
    """(file names, headers) of a part's weights. Raises WeightsError where there are none."""
    files = weight_files(folder, names)
    if not files:
        raise WeightsError(f"{folder} has a config.json but none of {', '.join(names)}")
    found: dict[str, Header] = {}
    for file in files:
        found.update(read_headers(file))
    return ", ".join(file.name for file in files), found


def _type(name: str) -> str:
    return TYPES.get(name, name.lower())
