"""SATeCo's video upscaler (Sec. 3.1, Fig. 3a): temporal mutual self-attention, then pixel shuffle.

The blocks are those of VRT (Liang et al. 2022, "VRT: A Video Restoration Transformer", Sec. 3.3 to 3.5).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.errors import ConfigError
from vsrbench.nn.imresize import imresize
from vsrbench.nn.residual import SLOPE
from vsrbench.nn.windows import (
    in_pieces,
    join,
    join_heads,
    may_attend,
    pad_to_windows,
    partition,
    split_heads,
)

KINDS = ("tmsa", "pixelshuffle", "bicubic")


def make_upscaler(settings: Mapping[str, Any], scale: int = 4) -> nn.Module:
    """The upscaler that ``settings`` name (kind, and for tmsa what ``TMSAUpscaler`` takes); see Table 3.

    Raises ConfigError for an unknown kind.
    """
    others = dict(settings)
    kind = others.pop("kind", "tmsa")
    if kind not in KINDS:
        raise ConfigError(f"method.upscaler.kind={kind}: use one of {', '.join(KINDS)}")
    if kind == "tmsa":
        return TMSAUpscaler(scale=scale, **others)
    return PixelShuffleUpscaler(scale) if kind == "pixelshuffle" else BicubicUpscaler(scale)


class TMSAUpscaler(nn.Module):
    """LR frames (B,T,3,h,w) in [0,1] to (B,T,3,s·h,s·w), not clamped.

    ours, as the paper names only "two TMSA blocks and a pixel-shuffle layer": width, heads and window are VRT's, every
    second block is shifted by half a window, and the network adds to the bilinearly enlarged frame. ``features``:
    channels of the enlarging part, which runs frame by frame. ``scale`` is a power of two.
    Raises ConfigError for settings that make no network.
    """

    def __init__(
        self,
        scale: int = 4,
        width: int = 120,
        heads: int = 6,
        blocks: int = 2,
        window: Sequence[int] = (2, 8, 8),
        features: int = 64,
        chunk: int = 256,
    ) -> None:
        super().__init__()
        if scale < 2 or scale & (scale - 1):
            raise ConfigError(f"scale={scale}: the TMSA upscaler doubles the size; use 2, 4 or 8")
        for name, size in (("heads", heads), ("features", features), ("blocks", blocks), ("chunk", chunk)):
            if size < 1:
                raise ConfigError(f"method.upscaler.{name}={size}: use 1 or more")
        half = [size // 2 for size in window]
        self.scale = scale
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            TMSA(width, heads, window, half if i % 2 else (0, 0, 0), chunk=chunk) for i in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.after = nn.Conv2d(width, width, 3, padding=1)
        enlarge: list[nn.Module] = [nn.Conv2d(width, features, 3, padding=1), nn.LeakyReLU(SLOPE)]
        for _ in range(int(math.log2(scale))):
            enlarge += [nn.Conv2d(features, 4 * features, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(SLOPE)]
        self.enlarge = nn.Sequential(*enlarge, nn.Conv2d(features, 3, 3, padding=1))

    def forward(self, lr: Tensor) -> Tensor:
        frames = rearrange(lr, "b t c h w -> (b t) c h w")
        shallow = self.first(frames)
        x = rearrange(shallow, "(b t) c h w -> b t h w c", b=len(lr))
        for block in self.blocks:
            x = block(x)
        deep = rearrange(rearrange(self.norm(x), "b t h w c -> (b t) h w c"), "n h w c -> n c h w")
        enlarged = in_pieces(self._enlarged, (shallow, deep, frames), 1)
        return rearrange(enlarged, "(b t) c h w -> b t c h w", b=len(lr))

    def _enlarged(self, shallow: Tensor, deep: Tensor, lr: Tensor) -> Tensor:
        bilinear = F.interpolate(lr, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.enlarge(shallow + self.after(deep)) + bilinear


class PixelShuffleUpscaler(nn.Module):
    """Table 3's "PixelShuffle": LR frames (B,T,3,h,w) in [0,1] to (B,T,3,s·h,s·w), frame by frame, not clamped.

    ours: three convolutions as in ESPCN (Shi et al. 2016); the paper names the layer alone.
    """

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 64, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(32, 3 * scale * scale, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, lr: Tensor) -> Tensor:
        enlarged = in_pieces(self.net, (rearrange(lr, "b t c h w -> (b t) c h w"),), 1)
        return rearrange(enlarged, "(b t) c h w -> b t c h w", b=len(lr))


class BicubicUpscaler(nn.Module):
    """LR frames (B,T,3,h,w) to (B,T,3,s·h,s·w) in [0,1] by MATLAB's bicubic; nothing to train."""

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, lr: Tensor) -> Tensor:
        return imresize(lr, self.scale).clamp(0, 1).to(lr.dtype)


class TMSA(nn.Module):
    """Temporal mutual self-attention and a gated MLP, each added to x (B,D,H,W,C).

    Within a window of two frames, self-attention over all positions and mutual attention, where each frame gathers the
    other's queries from its own values (a warp without flow), are joined by one projection. window: (2,h,w); shift:
    how far windows are moved, 0 along an axis that one window covers. mask_padding: padding is no key (ours; VRT's
    padding is). chunk: windows at once.
    Raises ConfigError for a window of other than two frames, or heads that do not divide the width.
    """

    position: Tensor
    index: Tensor

    def __init__(
        self,
        width: int,
        heads: int,
        window: Sequence[int],
        shift: Sequence[int],
        ratio: int = 2,
        mask_padding: bool = True,
        chunk: int = 256,
    ) -> None:
        super().__init__()
        if len(window) != 3 or window[0] != 2 or min(window) < 1:
            raise ConfigError(f"method.upscaler.window={list(window)}: mutual attention pairs two frames; use [2,h,w]")
        if width % heads or width % 4:
            raise ConfigError(f"method.upscaler.width={width}: use a multiple of 4 and of heads={heads}")
        self.heads, self.window, self.shift = heads, tuple(window), tuple(shift)
        self.mask_padding, self.chunk = mask_padding, chunk
        self.norm = nn.LayerNorm(width)
        self.table = nn.Parameter(torch.empty(math.prod(2 * size - 1 for size in window), heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.qkv_self = nn.Linear(width, 3 * width)
        self.qkv_mutual = nn.Linear(width, 3 * width)
        self.project = nn.Linear(2 * width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.gate, self.value = nn.Linear(width, ratio * width), nn.Linear(width, ratio * width)
        self.out = nn.Linear(ratio * width, width)
        self.register_buffer("position", sine_positions(window[1], window[2], width), persistent=False)
        self.register_buffer("index", relative_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attended(self.norm(x))
        hidden = self.norm_mlp(x)
        return x + self.out(F.gelu(self.gate(hidden)) * self.value(hidden))

    def attended(self, x: Tensor) -> Tensor:
        """Both attentions in all windows of x (B,D,H,W,C)."""
        size = x.shape[1:4]
        shift = tuple(0 if n <= w else s for n, w, s in zip(size, self.window, self.shift, strict=True))
        x = pad_to_windows(x, self.window)
        padded_size = x.shape[1:4]
        windows = partition(torch.roll(x, [-s for s in shift], (1, 2, 3)), self.window)
        allowed = may_attend(size, self.window, shift, x.device, self.mask_padding)
        # in time the mutual attention is not masked (VRT): a pair's other frame is all it may look at
        flat, flat_shift = (1, *size[1:]), (0, *shift[1:])
        mutual = may_attend(flat, (1, *self.window[1:]), flat_shift, x.device, self.mask_padding)
        number = torch.arange(len(windows), device=x.device)

        def change(part: Tensor, which: Tensor) -> Tensor:
            mine = None if allowed is None else allowed[which % len(allowed)]
            others = None if mutual is None else mutual[which % len(mutual)]
            return self.project(torch.cat([self._mutual(part, others), self._self(part, mine)], dim=-1))

        y = join(in_pieces(change, (windows, number), self.chunk), self.window, padded_size)
        return torch.roll(y, shift, (1, 2, 3))[:, : size[0], : size[1], : size[2]]

    def _self(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv_self(x).chunk(3, dim=-1))
        bias = rearrange(self.table[self.index], "query key heads -> heads query key").to(q.dtype)
        if allowed is not None:
            bias = bias.masked_fill(~allowed.unsqueeze(1), -math.inf)
        return join_heads(F.scaled_dot_product_attention(q, k, v, bias.expand(len(q), -1, -1, -1)))

    def _mutual(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        position = self.position.to(x.dtype).repeat(2, 1)
        q, k, v = (split_heads(part, self.heads) for part in self.qkv_mutual(x + position).chunk(3, dim=-1))
        half = x.shape[1] // 2
        mask = None if allowed is None else allowed.unsqueeze(1)
        first = F.scaled_dot_product_attention(q[:, :, half:], k[:, :, :half], v[:, :, :half], mask)
        second = F.scaled_dot_product_attention(q[:, :, :half], k[:, :, half:], v[:, :, half:], mask)
        return join_heads(torch.cat([first, second], dim=2))


def relative_index(window: Sequence[int]) -> Tensor:
    """long (N,N): row of the bias table for a query (row) and a key (column), by their distance along each axis."""
    axes = torch.meshgrid(*(torch.arange(size) for size in window), indexing="ij")
    place = torch.stack(axes).flatten(1)
    index = torch.zeros(place.shape[1], place.shape[1], dtype=torch.long)
    for row, size in zip(place, window, strict=True):
        index = index * (2 * size - 1) + (row[:, None] - row[None, :] + size - 1)
    return index


def sine_positions(height: int, width: int, channels: int) -> Tensor:
    """(h·w,C): sines and cosines of the row in the first half of the channels, of the column in the second."""
    half = channels // 2
    scale = 10000 ** (2 * (torch.arange(half) // 2) / half)

    def code(length: int) -> Tensor:
        angle = (torch.arange(length)[:, None] + 1) / length * 2 * math.pi / scale
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=-1).flatten(1)

    rows, columns = code(height)[:, None].expand(-1, width, -1), code(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
