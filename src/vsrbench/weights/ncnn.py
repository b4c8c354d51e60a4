"""Networks stored for ncnn: NAME.param lists the layers, NAME.bin holds their values, one behind the other.

https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vsrbench.errors import WeightsError

MAGIC = "7767517"  # first line of a .param file
HALF, FULL = 0x01306B47, 0  # what stands before a convolution's values: their precision
OUTPUTS, SIDE, BIAS, VALUES = 0, 1, 5, 6  # options of a Convolution by their numbers
SLOPES = 0  # of a PReLU
WITHOUT_VALUES = ("Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "PixelShuffle")


class Layer(NamedTuple):
    """One line of a .param file. inputs, outputs: names of blobs. options: number to text."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[int, str]

    def whole(self, option: int, default: int = 0) -> int:
        """An option that is a whole number."""
        return int(self.options.get(option, default))


def read_layers(param: Path) -> list[Layer]:
    """The layers of a network in their order. Raises WeightsError for a file that is none."""
    try:
        lines = param.read_text().split("\n")
        count = int(lines[1].split()[0])
        layers = [_layer(line.split()) for line in lines[2:] if line.strip()]
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
        raise WeightsError(f"{param} is no list of layers for ncnn ({error}): get it anew") from error
    if lines[0].strip() != MAGIC or len(layers) != count:
        raise WeightsError(
            f"{param} is truncated or no list of layers for ncnn: {len(layers)} layers, {count} announced"
        )
    return layers


def _layer(words: list[str]) -> Layer:
    inputs, outputs = int(words[2]), int(words[3])
    ends = 4 + inputs, 4 + inputs + outputs
    options = dict(word.split("=", 1) for word in words[ends[1] :])
    return Layer(
        words[0], words[1], tuple(words[4 : ends[0]]), tuple(words[ends[0] : ends[1]]),
        {int(key): value for key, value in options.items()},
    )  # fmt: skip


def read_values(file: Path) -> dict[str, Tensor]:
    """{``<layer>.weight``, ``<layer>.bias``: float32} of FILE.bin beside FILE.param, in the order of the layers.

    Convolutions have (outputs, inputs, side, side), PReLUs one weight per channel. Raises WeightsError for a layer of
    another kind, and for a file that is shorter or longer than its layers.
    """
    content, start = file.read_bytes(), 0
    values: dict[str, Tensor] = {}

    def take(size: int) -> bytes:
        nonlocal start
        if start + size > len(content):
            raise WeightsError(f"{file} is truncated: {len(content)} bytes, its layers ask for more: get it anew")
        start += size
        return content[start - size : start]

    for layer in read_layers(file.with_suffix(".param")):
        if layer.kind == "Convolution":
            outputs, side = layer.whole(OUTPUTS), layer.whole(SIDE)
            values[f"{layer.name}.weight"] = _tagged(take, layer.whole(VALUES)).view(outputs, -1, side, side)
            if layer.whole(BIAS):
                values[f"{layer.name}.bias"] = _numbers(take(4 * outputs), torch.float32)
        elif layer.kind == "PReLU":
            values[f"{layer.name}.weight"] = _numbers(take(4 * layer.whole(SLOPES)), torch.float32)
        elif layer.kind not in WITHOUT_VALUES:
            raise WeightsError(f"{file}: its layer {layer.name} is of the kind {layer.kind}, which is not read here")
    if start != len(content):
        raise WeightsError(f"{file} has {len(content)} bytes, its layers take {start}: it is of another network")
    return values


def _tagged(take: Callable[[int], bytes], count: int) -> Tensor:
    """Values behind a word that says their precision; half precision is filled up to whole words of four bytes."""
    (tag,) = struct.unpack("<I", take(4))
    if tag == HALF:
        return _numbers(take(2 * count + 2 * (count % 2))[: 2 * count], torch.float16)
    if tag == FULL:
        return _numbers(take(4 * count), torch.float32)
    raise WeightsError(f"values for ncnn of the precision {tag:#x} are not read here: float16 and float32 are")


def _numbers(content: bytes, kind: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=kind).float()
