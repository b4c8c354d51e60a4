"""Blocks of the U-Net: two styled convolutions each, the levels of encoder and decoder made of them.

All maps are (B·T,C,H,W), the frames of B clips; modules over time unfold them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.nn.attention import L2Attention
from vsrbench.nn.blurpool import low_pass, split_bands
from vsrbench.nn.functional import full_precision, precise, recomputed
from vsrbench.nn.modulated import AdaptiveConv, Style, StyledConv, pointwise
from vsrbench.nn.temporal import TemporalModule

RESIDUAL = 0.4  # gain of a block (GigaGAN App. A)
PIXELS = 2**18  # at once in a decoder level when upscaling: a chunk's maps at HR are large, and slower than one frame's
Down = Literal["stride", "blur"]
Shuttle = Literal["full", "lf", "hf"]  # what goes across the U-Net


def enlarge(x: Tensor, blur: bool) -> Tensor:
    """x (N,C,H,W) at twice the size. Bilinear, which is zero insertion and [1,3,3,1]/4 with the border repeated.

    blur: [1,2,1]/4 after it. No transposed convolution, no pixel shuffle: both leave checkerboards.
    """
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return low_pass(x, (1, 2, 1)) if blur else x


class Level(nn.Module):
    """What encoder and decoder levels share. checkpointing: blocks keep no activations for the backward pass."""

    checkpointing = False

    def run(self, module: Callable[..., Tensor], *args: Any) -> Tensor:
        """module(*args), computed again in the backward pass where ``checkpointing`` is on."""
        return recomputed(module, *args, enabled=self.checkpointing, preserve_rng_state=False)


class Shortcut(nn.Conv2d):
    """Plain 1x1 convolution without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight)


class Block(nn.Module):
    """x + 0.4 f(x), f two styled convolutions; where the width changes, f(x) + a 1x1 convolution of x."""

    def __init__(self, inputs: int, outputs: int, style: int, experts: int) -> None:
        super().__init__()
        self.first = StyledConv(inputs, outputs, style, experts)
        self.second = StyledConv(outputs, outputs, style, experts)
        self.shortcut = None if inputs == outputs else Shortcut(inputs, outputs)

    def forward(self, x: Tensor, style: Style) -> Tensor:
        f = self.second(self.first(x, style), style)
        return torch.add(x, f, alpha=RESIDUAL) if self.shortcut is None else self.shortcut(x).add_(f)


def blocks(inputs: int, outputs: int, count: int, style: int, experts: int) -> nn.ModuleList:
    """``count`` blocks, the first of which changes the width."""
    return nn.ModuleList(Block(a, b, style, experts) for a, b in pairwise([inputs] + [outputs] * count))


class EncoderLevel(Level):
    """E_i: blocks, then a convolution that halves the resolution; gives what goes down and what goes across.

    down: ``blur`` convolves at full resolution and low-passes before it drops samples (VideoGigaGAN Sec. 3.4);
    ``stride`` gives the same weights stride 2. shuttle, what goes across: ``hf``, the band that the low-pass takes away
    (Sec. 3.5); ``lf``, the low-passed map; ``full``, the map before the convolution (ours: the same width, no more
    work, and the only choice with ``stride``).
    """

    def __init__(
        self, inputs: int, outputs: int, count: int, style: int, experts: int, down: Down, shuttle: Shuttle
    ) -> None:
        super().__init__()
        self.down, self.shuttle = down, shuttle
        self.blocks = blocks(inputs, outputs, count, style, experts)
        self.conv = StyledConv(outputs, outputs, style, experts)

    def forward(self, x: Tensor, style: Style) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            x = self.run(block, x, style)
        if self.down == "stride":
            return self.conv(x, style, 2), x
        full = self.run(self.conv, x, style)
        low, high = split_bands(full)
        if self.shuttle == "full":
            return low, x
        return low, high if self.shuttle == "hf" else full - high


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, without demodulation, noise or activation."""

    def __init__(self, inputs: int, style: int) -> None:
        super().__init__()
        self.conv = AdaptiveConv(inputs, 3, style, size=1, experts=1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Style) -> Tensor:
        return self.conv(x, style, self.bias)


class DecoderLevel(Level):
    """D_i: twice the size, the skip beside it, blocks, attention over space, then over time, and a layer to RGB.

    before: of the layers of attention over space, how many act before the enlargement, on a quarter of the positions.
    temporal_in, temporal: modules over time before the enlargement and at the end, each after the attention over space
    of its resolution (VideoGigaGAN Sec. 3.2).
    """

    def __init__(
        self,
        inputs: int,
        skip: int,
        outputs: int,
        count: int,
        style: int,
        experts: int,
        attention: Sequence[L2Attention] = (),
        before: int = 0,
        temporal_in: TemporalModule | None = None,
        temporal: TemporalModule | None = None,
        blur: bool = True,
    ) -> None:
        super().__init__()
        self.blur, self.before = blur, before
        self.blocks = blocks(inputs + skip, outputs, count, style, experts)
        self.attention, self.temporal_in, self.temporal = nn.ModuleList(attention), temporal_in, temporal
        self.to_rgb = ToRGB(outputs, style)

    def forward(self, x: Tensor, skip: Tensor | None, style: Style, clips: int) -> Tensor:
        """Features of the next resolution; skip has that resolution, or is None."""
        for layer in self.attention[: self.before]:
            x = self.run(layer, x)
        x = self.over_time(self.temporal_in, x, clips)
        frames = max(1, PIXELS // (4 * x.shape[-2] * x.shape[-1]))
        if clips > 1 or frames >= len(x) or torch.is_grad_enabled():
            x = self.enlarged(x, skip, style)
        else:
            pieces = x.split(frames)
            skips = [None] * len(pieces) if skip is None else skip.split(frames)
            x = torch.cat([self.enlarged(piece, s, style) for piece, s in zip(pieces, skips, strict=True)])
        return self.over_time(self.temporal, x, clips)

    def enlarged(self, x: Tensor, skip: Tensor | None, style: Style) -> Tensor:
        """What works at the level's own resolution on single frames, so that they can go through one by one."""
        x = enlarge(x, self.blur)
        x = x if skip is None else torch.cat([x, skip], dim=1)
        for block in self.blocks:
            x = self.run(block, x, style)
        for layer in self.attention[self.before :]:
            x = self.run(layer, x)
        return x

    def over_time(self, module: TemporalModule | None, x: Tensor, clips: int) -> Tensor:
        if module is None:
            return x
        x = self.run(module, rearrange(x, "(b t) c h w -> b t c h w", b=clips))
        return rearrange(x, "b t c h w -> (b t) c h w")

    def add_rgb(self, x: Tensor, rgb: Tensor | None, style: Style) -> Tensor:
        """The pyramid: the picture so far (half the size, or None), enlarged, plus this level's; summed in fp32."""
        own = precise(self.to_rgb(x, style))
        with full_precision(own.device):
            return own if rgb is None else enlarge(rgb, self.blur).add_(own)
