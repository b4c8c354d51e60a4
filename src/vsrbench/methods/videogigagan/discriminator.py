"""The discriminator: StyleGAN2's residual one with GigaGAN's attention, and modules over time for clips.

VideoGigaGAN Sec. 3.2 says that it has "comparable temporal modules"; its supplement (Table 2) prints widths, the depths
of attention, where attention is, and 179 M parameters. Blocks and epilogue are StyleGAN2's, L2 attention GigaGAN's.
# ours: how many blocks a resolution has, chosen for those 179 M.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_arguments
from vsrbench.errors import ConfigError
from vsrbench.nn.attention import L2Attention
from vsrbench.nn.blurpool import low_pass
from vsrbench.nn.functional import precise, recomputed
from vsrbench.nn.modulated import EqualLinear
from vsrbench.nn.temporal import Kind, TemporalModule

LAST = 4  # pixels per side of the last map
BLUR = (1, 3, 3, 1)  # StyleGAN2's filter before subsampling
GROUP = 4  # clips that minibatch deviation compares


class EqualConv2d(nn.Module):
    """Convolution with a learning rate that is the same for every layer (Karras et al. 2018).

    Weights are standard normal and scaled at run time. slope: of the leaky ReLU behind it, None for none.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, bias: bool = True, slope: float | None = 0.2, stride: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.slope, self.stride = 1 / math.sqrt(inputs * kernel**2), slope, stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight * self.scale, self.bias, self.stride, padding=self.weight.shape[-1] // 2)
        return activated(x, self.slope)


class ActivatedLinear(EqualLinear):
    """``EqualConv2d`` for vectors (N,inputs)."""

    def __init__(self, inputs: int, outputs: int, slope: float | None = 0.2) -> None:
        super().__init__(inputs, outputs)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return activated(super().forward(x), self.slope)


def activated(x: Tensor, slope: float | None) -> Tensor:
    """Leaky ReLU that keeps the mean square (gain sqrt 2, StyleGAN2)."""
    return x if slope is None else F.leaky_relu(x, slope) * math.sqrt(2)


class Residual(nn.Module):
    """Two convolutions beside a shortcut, their sum over sqrt 2; ``down`` halves the map, blurred first."""

    def __init__(self, inputs: int, outputs: int, down: bool = False) -> None:
        super().__init__()
        self.first = EqualConv2d(inputs, inputs, 3)
        self.second = EqualConv2d(inputs, outputs, 3, stride=2 if down else 1)
        self.skip = EqualConv2d(inputs, outputs, 1, bias=False, slope=None) if down or inputs != outputs else None
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.down:
            # Four taps read between the samples: of H rows H - 1 are left, and both ways keep the same H / 2 places.
            x, y = low_pass(x, BLUR, stride=2), low_pass(y, BLUR)
        y = self.second(y)
        return (y + (x if self.skip is None else self.skip(x))) / math.sqrt(2)


class Level(nn.Module):
    """What works at one resolution, for single frames (N,C,H,W): blocks and attention, then the way down.

    heads, depth: of the attention and its layers; depth 0 for none. The first layer has a name of its own, so that
    weights of one layer keep their names.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, heads: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(inputs, inputs) for _ in range(blocks - 1))
        layers = [L2Attention(inputs, heads, inputs // heads) for _ in range(depth)]
        self.attention = layers[0] if layers else None
        self.deeper = nn.ModuleList(layers[1:])
        self.down = Residual(inputs, outputs, down=True)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        x = x if self.attention is None else self.attention(x)
        for layer in self.deeper:
            x = layer(x)
        return x


class Epilogue(nn.Module):
    """From the last 4x4 maps of B·T frames to one logit each, with minibatch deviation over clips."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = EqualConv2d(channels + 1, channels, 3)
        self.hidden = ActivatedLinear(channels * LAST**2, channels)
        self.logit = ActivatedLinear(channels, 1, slope=None)

    def forward(self, x: Tensor, clips: int) -> Tensor:
        spread = deviation(rearrange(x, "(b t) c h w -> b t c h w", b=clips))
        x = self.conv(torch.cat([x, rearrange(spread, "b t 1 h w -> (b t) 1 h w").to(x.dtype)], dim=1))
        return precise(self.logit(self.hidden(x.flatten(1))).squeeze(1))


def deviation(x: Tensor) -> Tensor:
    """Minibatch deviation (Karras et al. 2018) of maps (B,T,C,H,W): (B,T,1,H,W), in float32 at least.

    The standard deviation over a group of clips at equal time, averaged over channels and pixels.
    # ours: over clips alone, since the frames of one clip look alike whatever the generator does; groups of 4, or of
    the largest number below that divides the batch. A single clip has 0.
    """
    clips, frames, _, height, width = x.shape
    group = max(n for n in range(1, GROUP + 1) if clips % n == 0)
    if group == 1:
        return torch.zeros(clips, frames, 1, height, width, device=x.device)
    groups = rearrange(precise(x), "(group b) t c h w -> group b t c h w", group=group)
    spread = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((2, 3, 4), keepdim=True)
    return spread.repeat(group, 1, 1, height, width)


class ImageDiscriminator(nn.Module):
    """Frames to logits; see ``Discriminator``. ``over_time``, where given, acts at each resolution by its name."""

    def __init__(
        self, widths: Sequence[int], blocks: Sequence[int], attention: Mapping[int, int], heads: int, inputs: int
    ) -> None:
        super().__init__()
        self.entry = EqualConv2d(inputs, widths[0], 1)
        self.levels = nn.ModuleDict()
        size = LAST * 2 ** (len(widths) - 1)
        for number, (width, narrower) in enumerate(pairwise(widths)):
            if size in attention and width < heads:
                raise ConfigError(
                    f"module.discriminator.heads={heads}: use at most the {width} channels at {size} pixels"
                )
            self.levels[str(size)] = Level(width, narrower, blocks[number], heads, attention.get(size, 0))
            size //= 2
        self.epilogue = Epilogue(widths[-1])

    def forward(self, frames: Tensor, over_time: nn.ModuleDict, checkpointing: bool) -> Tensor:
        clips = len(frames)

        def run(module: nn.Module, x: Tensor) -> Tensor:
            return recomputed(module, x, enabled=checkpointing)

        x = self.entry(rearrange(frames, "b t c h w -> (b t) c h w"))
        levels: Any = self.levels
        for size, level in levels.items():
            x = run(level, x)
            if size in over_time:
                x = run(over_time[size], rearrange(x, "(b t) c h w -> b t c h w", b=clips))
                x = rearrange(x, "b t c h w -> (b t) c h w")
            x = run(level.down, x)
        return rearrange(self.epilogue(x, clips), "(b t) -> b t", b=clips)


class Discriminator(nn.Module):
    """HR clips (B,T,3,S,S) in [-1,1] to one logit per frame (B,T).

    size: S in pixels, 4 times a power of two. widths: channels at 4, 8, 16, ... pixels; beyond the list each is half
    of the one before. blocks: per resolution, the one that halves it included; deep: {resolution: blocks} where it
    has others. attention: resolutions with L2 attention of ``heads`` heads; attention_depth: its layers, at all of
    them or at each. temporal: modules over time; without them, and as long as they are zero, each frame is judged
    alone. temporal_depth: {resolution: layers of attention over time} where they are, None for one layer at every
    resolution but the last; temporal_attention: its kind, see ``TemporalAttention``. condition: the LR clip, enlarged,
    comes as three more channels (ours; GigaGAN's upsampler does so).
    Raises ConfigError for a size that is no such number.
    """

    @check_arguments("module.discriminator")
    def __init__(
        self,
        size: int,
        widths: Sequence[int] = (512, 512, 512, 512, 512, 256, 128),
        blocks: int = 1,
        deep: dict[int, int] | None = None,
        attention: Sequence[int] = (8, 16),
        attention_depth: int | Sequence[int] = 1,
        heads: int = 8,
        temporal: bool = True,
        temporal_depth: Mapping[int, int] | None = None,
        temporal_attention: Kind = "dot",
        condition: bool = False,
    ) -> None:
        super().__init__()
        steps = round(math.log2(size / LAST)) if size >= 2 * LAST else 0
        if LAST * 2**steps != size or not steps:
            raise ConfigError(f"the discriminator judges crops of 8, 16, 32, ... HR pixels, not {size}: set train.crop")
        for name, places in (("deep", deep), ("attention", attention), ("temporal_depth", temporal_depth)):
            if strange := [place for place in places or () if place < 2 * LAST or place & (place - 1)]:
                raise ConfigError(f"module.discriminator.{name} at {strange} pixels: use 8, 16, 32, ...")
        if not widths:
            raise ConfigError("module.discriminator.widths=[]: give channels at 4, 8, 16, ... pixels")
        depths = [attention_depth] * len(attention) if isinstance(attention_depth, int) else attention_depth
        if len(depths) != len(attention):
            raise ConfigError(
                f"module.discriminator.attention_depth={attention_depth}: give one number, or one for each of the "
                f"resolutions of module.discriminator.attention={list(attention)}"
            )
        channels = list(widths[: steps + 1])
        channels += [max(channels[-1] >> n, 1) for n in range(1, steps + 2 - len(channels))]
        channels.reverse()
        sizes = [size >> n for n in range(steps)]
        counts = [(deep or {}).get(s, blocks) for s in sizes]
        self.size, self.condition = size, condition
        layers = dict(zip(attention, depths, strict=True))
        self.image = ImageDiscriminator(channels, counts, layers, heads, 6 if condition else 3)
        over_time = dict.fromkeys(sizes, 1) if temporal_depth is None else temporal_depth
        self.temporal = nn.ModuleDict()
        for place, width in zip(sizes, channels, strict=False):
            if temporal and place in over_time:
                self.temporal[str(place)] = TemporalModule(width, depth=over_time[place], kind=temporal_attention)

    def forward(
        self, frames: Tensor, lr: Tensor | None = None, over_time: bool = True, checkpointing: bool = False
    ) -> Tensor:
        """lr: (B,T,3,h,w) in [-1,1], read with ``condition`` alone. over_time: False judges every frame alone."""
        if self.condition:
            assert lr is not None
            small = rearrange(lr, "b t c h w -> (b t) c h w")
            large = F.interpolate(small, size=frames.shape[-2:], mode="bilinear", align_corners=False)
            large = rearrange(large, "(b t) c h w -> b t c h w", b=len(lr))
            frames = torch.cat([frames, large.to(frames.dtype)], dim=2)
        return self.image(frames, self.temporal if over_time else nn.ModuleDict(), checkpointing)
