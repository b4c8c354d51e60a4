"""VideoGigaGAN's asymmetric U-Net: three encoder levels, 3 + k decoder levels, styled convolutions throughout.

VideoGigaGAN Sec. 3.1: G = D_{k+2} .. D_3 (up 2^k) o D_2 D_1 D_0 (up 8) o E_2 E_1 E_0 (down 8); k = 2 for 4x, 3 for 8x.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_arguments
from vsrbench.errors import ConfigError
from vsrbench.methods.videogigagan.blocks import (
    DecoderLevel,
    Down,
    EncoderLevel,
    Level,
    Shortcut,
    Shuttle,
    ToRGB,
)
from vsrbench.nn.attention import L2Attention
from vsrbench.nn.blurpool import pad_mirrored
from vsrbench.nn.functional import zero_init
from vsrbench.nn.imresize import imresize
from vsrbench.nn.modulated import Style, StyledConv
from vsrbench.nn.temporal import Kind, TemporalModule

MULTIPLE = 8  # of the LR sides: three halvings
LEVELS = {4: 5, 8: 6}  # decoder levels by scale


class UNet(nn.Module):
    """LR frames and features beside them to HR frames; without temporal modules the image model.

    scale: 4 or 8. encoder, decoder: widths of the levels (3; 5 for 4x, 6 for 8x; further ones are not used);
    encoder_blocks, decoder_blocks: blocks of each. style: width of w; experts: kernels per convolution, one number or
    one for each level, the encoder's first. attention_depth, heads, head_dim: of the spatial attention in D_0;
    attention_at: ``out``, after its blocks, ``in``, before its enlargement, or ``both``, as many layers at each.
    temporal: how many decoder levels, from D_0 on, have a temporal module (0: none), its heads temporal_head_dim wide;
    temporal_depth: layers of attention over time, one number or one for each of those levels; temporal_in: layers of a
    module before D_0's enlargement, 0 for none; temporal_attention: see ``TemporalAttention``.
    down, shuttle: see ``EncoderLevel``. features: channels beside the RGB, 0 for none; stem: ``concat`` sees both,
    ``replace`` the features alone where there are any. up_blur: see ``enlarge``. residual: ``bilinear`` or ``bicubic``
    (MATLAB's) adds the enlarged LR at the end (ours, for small networks), ``none`` nothing; zero_start: the layers to
    RGB start at zero, so that training starts at the enlarged LR (ours, for short trainings). checkpointing: blocks are
    computed again in the backward pass. Raises ConfigError for settings that do not fit.
    """

    @check_arguments("method.generator")
    def __init__(
        self,
        scale: int = 4,
        encoder: Sequence[int] = (512, 512, 512),
        encoder_blocks: Sequence[int] = (3, 3, 3),
        decoder: Sequence[int] = (512, 512, 512, 256, 128, 64),
        decoder_blocks: Sequence[int] = (4, 4, 4, 4, 3, 3),
        style: int = 512,
        experts: int | Sequence[int] = (4, 2, 1, 1, 2, 4, 8, 16, 16),
        attention_depth: int = 2,
        heads: int = 8,
        head_dim: int = 64,
        attention_at: Literal["out", "in", "both"] = "both",
        temporal: int = 3,
        temporal_depth: int | Sequence[int] = (2, 2, 1),
        temporal_in: int = 2,
        temporal_attention: Kind = "l2",
        temporal_head_dim: int = 64,
        down: Down = "blur",
        shuttle: Shuttle = "hf",
        features: int = 0,
        stem: Literal["concat", "replace"] = "concat",
        up_blur: bool = True,
        residual: Literal["none", "bilinear", "bicubic"] = "none",
        zero_start: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check(scale, encoder, encoder_blocks, decoder, decoder_blocks)
        if down == "stride" and shuttle != "full":
            raise ConfigError(
                f"method.shuttle={shuttle} needs the low-pass of method.down=blur: with method.down=stride use "
                "method.shuttle=full"
            )
        self.scale, self.residual, levels = scale, residual, LEVELS[scale]
        replaced = stem == "replace" and features > 0
        self.stem = None if replaced else nn.Conv2d(3, encoder[0], 3, padding=1)
        # one convolution over all channels, in two parts: the image model's and what the video model adds
        self.stem_features = nn.Conv2d(features, encoder[0], 3, padding=1, bias=replaced) if features else None
        if self.stem_features is not None and not replaced:
            zero_init(self.stem_features)  # an inflated model starts as the image model

        kernels = each(experts, 3 + levels, "method.generator.experts", "E_0, E_1, E_2 and the decoder's levels")
        widths = [encoder[0], *encoder]
        self.encoder = nn.ModuleList(
            EncoderLevel(widths[i], widths[i + 1], encoder_blocks[i], style, kernels[i], down, shuttle)
            for i in range(3)
        )
        timed = min(temporal, levels)
        depths = each(temporal_depth, timed, "method.generator.temporal_depth", "the levels with a temporal module")
        over_time = partial(TemporalModule, head_dim=temporal_head_dim, kind=temporal_attention)
        self.decoder = nn.ModuleList()
        inputs, skips = encoder[-1], [*reversed(encoder), *[0] * (levels - 3)]
        for i, (skip, width, count) in enumerate(zip(skips, decoder, decoder_blocks, strict=False)):
            before = attention_depth if i == 0 and attention_at != "out" else 0
            after = attention_depth if i == 0 and attention_at != "in" else 0
            attention = [L2Attention(channels, heads, head_dim) for channels in [inputs] * before + [width] * after]
            early = over_time(inputs, depth=temporal_in) if i == 0 and timed and temporal_in else None
            late = over_time(width, depth=depths[i]) if i < timed else None
            level = DecoderLevel(
                inputs, skip, width, count, style, kernels[3 + i], attention, before, early, late, up_blur
            )
            if zero_start:
                zero_init(level.to_rgb.conv)
            self.decoder.append(level)
            inputs = width
        self._name_noise(checkpointing)

    def _name_noise(self, checkpointing: bool) -> None:
        for name, module in self.named_modules():
            if isinstance(module, StyledConv):
                module.name = name
            if isinstance(module, Level):
                module.checkpointing = checkpointing

    def forward(self, lr: Tensor, features: Tensor | None, style: Style) -> Tensor:
        """lr (B,T,3,h,w) RGB in [0,1], features (B,T,c,h,w) or None: (B,T,3,s·h,s·w), [0,1] but not clamped.

        Sides that are no multiple of 8 are mirrored to one at the right and the bottom, and the result is cut.
        """
        clips, height, width = len(lr), lr.shape[-2], lr.shape[-1]
        rgb = padded(2 * rearrange(lr, "b t c h w -> (b t) c h w") - 1).to(memory_format=torch.channels_last)
        x = self.see(rgb, features)
        skips = []
        for encoder in self.encoder:
            x, skip = encoder(x, style)
            skips.append(skip)
        picture: Tensor | None = None
        for decoder in self.decoder:
            assert isinstance(decoder, DecoderLevel)
            x = decoder(x, skips.pop() if skips else None, style, clips)
            picture = decoder.add_rgb(x, picture, style)
        assert picture is not None
        if self.residual == "bilinear":
            picture = picture + F.interpolate(rgb, scale_factor=self.scale, mode="bilinear", align_corners=False)
        elif self.residual == "bicubic":
            picture = picture + imresize(rgb, self.scale)
        picture = picture[..., : height * self.scale, : width * self.scale]
        return rearrange(picture, "(b t) c h w -> b t c h w", b=clips) * 0.5 + 0.5

    def see(self, rgb: Tensor, features: Tensor | None) -> Tensor:
        """The stem: RGB in [-1,1], features, or the sum over both, as one convolution over all channels has it."""
        if self.stem_features is None or features is None:
            assert self.stem is not None and self.stem_features is None, "features are given exactly where asked for"
            return self.stem(rgb)
        maps = padded(rearrange(features, "b t c h w -> (b t) c h w"))
        x = self.stem_features(maps.to(memory_format=torch.channels_last))
        return x if self.stem is None else x + self.stem(rgb)

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table; together they hold every parameter once."""
        lines: dict[str, list[nn.Module]] = {"stem": [m for m in (self.stem, self.stem_features) if m is not None]}
        temporal: dict[str, list[nn.Module]] = {}
        for letter, levels in (("E", self.encoder), ("D", self.decoder)):
            for i, level in enumerate(levels):
                assert isinstance(level, EncoderLevel | DecoderLevel)
                lines[f"{letter}_{i} blocks"] = of_kind(level.blocks, StyledConv)
                if isinstance(level, EncoderLevel):
                    lines[f"{letter}_{i} convolution"] = [level.conv]
                    continue
                if level.temporal_in is not None:
                    temporal[f"{letter}_{i} temporal module at its input"] = [level.temporal_in]
                if level.temporal is not None:
                    temporal[f"{letter}_{i} temporal module"] = [level.temporal]
        lines["D_0 attention"] = of_kind(self, L2Attention)
        lines["shortcuts"] = of_kind(self, Shortcut)
        return lines | temporal | {"ToRGB": of_kind(self, ToRGB)}


def of_kind(network: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


def padded(x: Tensor) -> Tensor:
    """x (N,C,H,W), mirrored at the right and the bottom until both sides are multiples of 8."""
    height, width = x.shape[-2:]
    return pad_mirrored(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE))


def check(
    scale: int,
    encoder: Sequence[int],
    encoder_blocks: Sequence[int],
    decoder: Sequence[int],
    decoder_blocks: Sequence[int],
) -> None:
    """Raise ConfigError where scale or plan do not fit the U-Net."""
    if scale not in LEVELS:
        raise ConfigError(f"scale={scale}: VideoGigaGAN's generator upscales by {' or '.join(map(str, LEVELS))}")
    if len(encoder) != 3 or len(encoder_blocks) != 3:
        raise ConfigError(
            "method.generator.encoder and encoder_blocks take three numbers, one for each of E_0, E_1, E_2"
        )
    if min(len(decoder), len(decoder_blocks)) < LEVELS[scale]:
        raise ConfigError(
            f"method.generator.decoder and decoder_blocks take at least {LEVELS[scale]} numbers for scale={scale}"
        )


def each(value: int | Sequence[int], count: int, setting: str, what: str) -> Sequence[int]:
    """One number for each of ``count`` levels; raises ConfigError for a list of fewer."""
    values = [value] * count if isinstance(value, int) else value
    if len(values) < count:
        raise ConfigError(f"{setting}={list(values)}: give one number, or one for each of {what}: {count}")
    return values
