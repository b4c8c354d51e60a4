"""Convolutions whose kernels a style vector chooses and scales, with noise: the layers of GigaGAN's generator.

Kang et al., "Scaling up GANs for text-to-image synthesis" (2023), Sec. 3.1 (adaptive kernel selection); Karras et al.,
"Analyzing and improving the image quality of StyleGAN" (2020), Sec. 2.2 (modulation and demodulation).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.nn.functional import full_precision

SLOPE = 0.2
GAIN = math.sqrt(2)  # of the leaky ReLU; keeps the second moment

# noise(layer's name, height, width) -> (B,1,height,width): one map per layer and clip.
NoiseMaps = Callable[[str, int, int], Tensor]


def no_noise(layer: str, height: int, width: int) -> Tensor:
    """Noise maps that are zero."""
    return torch.zeros(1, 1, height, width)


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2 in place; the gain is left to the caller, who can have it in the weights."""
    return F.leaky_relu(x, SLOPE, inplace=True)


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate: weights of unit variance, scaled by multiplier / sqrt(inputs)."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / multiplier))
        self.multiplier, self.scale = multiplier, multiplier / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.multiplier)


@dataclass
class Style:
    """What one forward pass takes from z: w (B,width), and the noise of each layer, the same for all frames of a clip.

    Kernels and noise maps are kept after their first use, so that all chunks of a clip share them. Kernels that need a
    gradient are not: each is used once in a pass, and a checkpointed block builds its own again.
    """

    w: Tensor
    noise: NoiseMaps = no_noise
    kernels: dict[nn.Module, Tensor] = field(default_factory=dict)
    maps: dict[tuple[str, int, int], Tensor] = field(default_factory=dict)

    def kernel(self, layer: "AdaptiveConv") -> Tensor:
        """The layer's kernels for w, (B,out,in,k,k)."""
        if layer in self.kernels:
            return self.kernels[layer]
        kernel = layer.kernel(self.w)
        if not kernel.requires_grad:
            self.kernels[layer] = kernel
        return kernel

    def noise_map(self, name: str, like: Tensor) -> Tensor:
        """The layer's noise (B,1,H,W) at the size and on the device of ``like``."""
        height, width = like.shape[-2:]
        if (name, height, width) not in self.maps:
            self.maps[name, height, width] = self.noise(name, height, width).to(like.device)
        return self.maps[name, height, width]


class AdaptiveConv(nn.Module):
    """Adaptive, modulated, demodulated convolution; also without demodulation, as the layers to RGB have it.

    Of ``experts`` kernels the style mixes one: K = sum a_i K_i with a = softmax(select w), scales it over the input
    channels by ``modulate`` w (1 at the start on average) and divides each output channel's by its norm. All of it in
    fp32. gain multiplies the kernel at the end.
    """

    def __init__(
        self, inputs: int, outputs: int, style: int, size: int = 3, experts: int = 4, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.randn(experts, outputs, inputs, size, size))
        self.select = EqualLinear(style, experts) if experts > 1 else None
        self.modulate = EqualLinear(style, inputs, bias=1.0)
        self.demodulate, self.padding = demodulate, size // 2
        self.scale = 1 / math.sqrt(inputs * size * size)
        self.gain = 1.0

    def kernel(self, w: Tensor) -> Tensor:
        """w (B,style) to kernels (B,out,in,k,k)."""
        with full_precision(w.device):
            w = w.to(self.bank.dtype)
            mixed = self.bank
            if self.select is not None:
                mixed = torch.tensordot(self.select(w).softmax(dim=1), self.bank, dims=1)
            kernel = mixed * (self.modulate(w) * self.scale)[:, None, :, None, None]
            if self.demodulate:
                kernel = kernel * (kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt() * self.gain
            return kernel

    def forward(self, x: Tensor, style: Style, bias: Tensor, stride: int = 1) -> Tensor:
        """x (B·T,C,H,W), the frames of B clips; bias (out)."""
        return convolve_clips(x, style.kernel(self).to(x.dtype), bias, stride, self.padding)


def convolve_clips(x: Tensor, kernels: Tensor, bias: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Frames x (B·T,C,H,W) of B clips, each clip with its own kernel (B,out,C,k,k)."""
    clips, frames = len(kernels), len(x) // len(kernels)
    if frames > 1 or clips == 1:  # faster than groups on the CPU, and no slower on a GPU with some frames a clip
        parts = [_convolve(c, k, bias, stride, padding) for c, k in zip(x.split(frames), kernels, strict=True)]
        return parts[0] if clips == 1 else torch.cat(parts)
    joined, kernel = rearrange(x, "b c h w -> 1 (b c) h w"), rearrange(kernels, "b out c kh kw -> (b out) c kh kw")
    y = F.conv2d(joined, kernel, bias.repeat(clips), stride, padding, groups=clips)
    return rearrange(y, "1 (b out) h w -> b out h w", b=clips)


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    if kernel.shape[-1] == stride == 1:
        return pointwise(x, kernel, bias)
    return F.conv2d(x, kernel, bias, stride, padding)


def pointwise(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution of x (N,C,H,W) with kernel (out,C,1,1) as the matrix product it is with channels last."""
    y = F.linear(rearrange(x, "n c h w -> n h w c"), rearrange(kernel, "out c 1 1 -> out c"), bias)
    return rearrange(y, "n h w out -> n out h w")


class StyledConv(nn.Module):
    """Adaptive 3x3 convolution, noise times a learned scalar (0 at the start), bias, leaky ReLU.

    ``name`` tells the layer's noise from that of others; the network that holds the layer sets it.
    """

    def __init__(self, inputs: int, outputs: int, style: int, experts: int = 4) -> None:
        super().__init__()
        self.conv = AdaptiveConv(inputs, outputs, style, 3, experts)
        self.conv.gain = GAIN  # of the activation, which commutes with it; so do bias and noise below
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.strength = nn.Parameter(torch.zeros(()))
        self.name = ""

    def forward(self, x: Tensor, style: Style, stride: int = 1) -> Tensor:
        y = self.conv(x, style, self.bias * GAIN, stride)
        noise = style.noise_map(self.name, y) * (self.strength * GAIN)
        if len(noise) > 1:
            noise = noise.repeat_interleave(len(y) // len(noise), dim=0)
        return leaky_relu(y.add_(noise))
