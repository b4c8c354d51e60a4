"""ncnn files for tests: written from networks, and computed layer by layer as their .param says."""

import struct
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.weights.ncnn import Layer, read_layers, read_values

LEAKY = "9=2 -23310=1,2.000000e-01"
SHARE = "0=1 -23301=2,2.000000e-01,1.000000e+00"


class Writer:
    """Layers and values as they come; each ``add`` gives the name of its blob."""

    def __init__(self, half: bool = True) -> None:
        self.lines, self.values, self.half = ["Input input 0 1 data"], b"", half

    def add(self, kind: str, inputs: list[str], options: str) -> str:
        number = len(self.lines)
        self.lines.append(f"{kind:24} {kind}_{number} {len(inputs)} 1 {' '.join(inputs)} blob{number} {options}")
        return f"blob{number}"

    def convolution(self, layer: nn.Module, source: str, leaky: bool = False) -> str:
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None
        weight = layer.weight.detach()
        if self.half:
            self.values += struct.pack("<I", 0x01306B47) + weight.half().numpy().tobytes()
            self.values += b"\0\0" * (weight.numel() % 2)
        else:
            self.values += struct.pack("<I", 0) + weight.numpy().tobytes()
        self.values += layer.bias.detach().numpy().tobytes()
        options = f"0={layer.out_channels} 1=3 4=1 5=1 6={weight.numel()} {LEAKY if leaky else ''}"
        return self.add("Convolution", [source], options.strip())

    def prelu(self, layer: nn.Module, source: str) -> str:
        assert isinstance(layer, nn.PReLU)
        self.values += layer.weight.detach().numpy().tobytes()
        return self.add("PReLU", [source], f"0={layer.num_parameters}")

    def save(self, file: Path) -> Path:
        """FILE.bin and FILE.param."""
        text = "\n".join(["7767517", f"{len(self.lines)} {len(self.lines)}", *self.lines]) + "\n"
        file.with_suffix(".param").write_text(text)
        file.write_bytes(self.values)
        return file


def write_compact(net: nn.Module, file: Path, half: bool = True) -> Path:
    """The compact network as the published file lists it."""
    writer, blob = Writer(half), "data"
    for layer in net.get_submodule("body").children():
        blob = writer.convolution(layer, blob) if isinstance(layer, nn.Conv2d) else writer.prelu(layer, blob)
    blob = writer.add("PixelShuffle", [blob], "0=4")
    nearest = writer.add("Interp", ["data"], "0=1 1=4.000000e+00 2=4.000000e+00")
    writer.add("BinaryOp", [blob, nearest], "0=0")
    return writer.save(file)


def write_rrdb(net: nn.Module, file: Path, half: bool = True) -> Path:
    """RRDBNet as the published file lists it."""
    writer = Writer(half)
    first = blob = writer.convolution(net.get_submodule("conv_first"), "data")
    for block in net.get_submodule("body").children():
        start = blob
        for dense in block.children():
            maps = [blob]
            for number in range(1, 5):
                source = maps[0] if len(maps) == 1 else writer.add("Concat", list(maps), "0=0")
                maps.append(writer.convolution(dense.get_submodule(f"conv{number}"), source, leaky=True))
            last = writer.convolution(dense.get_submodule("conv5"), writer.add("Concat", maps, "0=0"))
            blob = writer.add("Eltwise", [last, blob], SHARE)
        blob = writer.add("Eltwise", [blob, start], SHARE)
    blob = writer.add("BinaryOp", [first, writer.convolution(net.get_submodule("conv_body"), blob)], "0=0")
    for name in ("conv_up1", "conv_up2"):
        blob = writer.add("Interp", [blob], "0=1 1=2.000000e+00 2=2.000000e+00")
        blob = writer.convolution(net.get_submodule(name), blob, leaky=True)
    blob = writer.convolution(net.get_submodule("conv_hr"), blob, leaky=True)
    writer.convolution(net.get_submodule("conv_last"), blob)
    return writer.save(file)


@torch.inference_mode()
def compute(file: Path, frame: Tensor) -> Tensor:
    """What the layer list of FILE.param makes of a frame (N,3,h,w); the last blob."""
    values, blobs = read_values(file), {"data": frame}
    for layer in read_layers(file.with_suffix(".param"))[1:]:
        inputs = [blobs[name] for name in layer.inputs]
        output = _output(layer, inputs, values)
        blobs.update(dict.fromkeys(layer.outputs, output))
    return output


def _output(layer: Layer, inputs: list[Tensor], values: dict[str, Tensor]) -> Tensor:
    x = inputs[0]
    if layer.kind == "Convolution":
        x = F.conv2d(x, values[f"{layer.name}.weight"], values[f"{layer.name}.bias"], padding=layer.whole(4))
        if layer.whole(9) == 2:
            x = F.leaky_relu(x, float(layer.options[-23310].split(",")[1]))
        return x
    if layer.kind == "PReLU":
        return F.prelu(x, values[f"{layer.name}.weight"])
    if layer.kind == "Concat":
        return torch.cat(inputs, dim=1)
    if layer.kind == "Eltwise":
        shares = [float(text) for text in layer.options[-23301].split(",")[1:]]
        return sum((share * value for share, value in zip(shares, inputs, strict=True)), torch.zeros(()))
    if layer.kind == "BinaryOp":
        return inputs[0] + inputs[1]
    if layer.kind == "Interp":
        return F.interpolate(x, scale_factor=float(layer.options[1]), mode="nearest")
    if layer.kind == "PixelShuffle":
        return F.pixel_shuffle(x, layer.whole(0))
    assert layer.kind == "Split", layer.kind
    return x
