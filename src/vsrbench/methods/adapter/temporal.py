"""What makes the image upscaler's U-Net a video network (Upscale-A-Video): convolution and attention over time.

Features of a clip travel folded, (B*T,C,H,W) with the frames of a clip side by side; ``frames`` says how many those
are. Names of parameters are those of the published checkpoint.
"""

import math
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.nn.functional import zero_init

BUCKETS, REACH = 32, 32  # of the relative positions in time


def unfold(x: Tensor, frames: int) -> Tensor:
    """(B*T,C,H,W) to (B,C,T,H*W)."""
    return rearrange(x, "(b t) c h w -> b t c (h w)", t=frames).transpose(1, 2)


def fold(x: Tensor, like: Tensor) -> Tensor:
    """(B,C,T,H*W) back to (B*T,C,H,W)."""
    return rearrange(x, "b c t (h w) -> (b t) c h w", h=like.shape[-2])


def clip_norm(norm: nn.GroupNorm, x: Tensor, frames: int, whole: bool = True) -> Tensor:
    """Group norm with the statistics of the whole clip, as published, or of each frame (whole=False)."""
    return fold(norm(unfold(x, frames)), x) if whole else norm(x)


def over_time(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A convolution of kernel (k,1,1) on x (B,C,T,H*W), as one over (T, H*W), which is faster than conv3d."""
    return F.conv2d(x, conv.weight.squeeze(-1), conv.bias, padding=(conv.weight.shape[2] // 2, 0))


def resnet(block: Any, x: Tensor, emb: Tensor | None, frames: int, whole: bool) -> Tensor:
    """A diffusers ResnetBlock2D on folded frames. emb: (B*T,E). whole: see ``clip_norm``."""
    if not whole:
        return block(x, emb)
    hidden = block.conv1(F.silu(clip_norm(block.norm1, x, frames)))
    if block.time_emb_proj is not None:
        assert emb is not None
        hidden = hidden + block.time_emb_proj(F.silu(emb))[..., None, None]
    hidden = block.conv2(F.silu(clip_norm(block.norm2, hidden, frames)))
    return hidden + (x if block.conv_shortcut is None else block.conv_shortcut(x))


class TemporalResBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm x))))), convolutions over time of ``kernel`` and 3 frames.

    embedding: width of the time embedding that is added in between, None: without.
    """

    def __init__(self, channels: int, kernel: int = 3, embedding: int | None = None, groups: int = 32) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv1 = nn.Conv3d(channels, channels, (kernel, 1, 1))
        self.time_emb_proj = None if embedding is None else nn.Linear(embedding, channels)
        self.norm2 = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv2 = nn.Conv3d(channels, channels, (3, 1, 1))

    def forward(self, x: Tensor, frames: int, emb: Tensor | None = None, whole: bool = True) -> Tensor:
        """x: (B*T,C,H,W); emb: (B,E)."""
        hidden = unfold(F.silu(clip_norm(self.norm1, x, frames, whole)), frames)
        hidden = over_time(self.conv1, hidden)
        if self.time_emb_proj is not None and emb is not None:
            hidden = hidden + self.time_emb_proj(F.silu(emb))[..., None, None]
        hidden = F.silu(clip_norm(self.norm2, fold(hidden, x), frames, whole))
        return x + fold(over_time(self.conv2, unfold(hidden, frames)), x)


class StageModule(nn.Module):
    """After a stage of the U-Net: a temporal ResBlock of 5 and 3 frames, an image ResBlock, and a 1x1 convolution that
    starts at zero, added to the stage's output.

    spatial=False leaves the image ResBlock out (ours: the miniature's size).
    """

    def __init__(self, channels: int, embedding: int, groups: int = 32, spatial: bool = True) -> None:
        super().__init__()
        from diffusers.models.resnet import ResnetBlock2D

        self.resblocks_3d_temporal = TemporalResBlock(channels, 5, embedding, groups)
        self.resblocks_3d_spatial: Any = None
        if spatial:
            self.resblocks_3d_spatial = ResnetBlock2D(
                in_channels=channels, temb_channels=embedding, groups=groups, eps=1e-6
            )
        self.shift_conv = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, frames: int, emb: Tensor, whole: bool = True) -> Tensor:
        """x: (B*T,C,H,W); emb: (B,E)."""
        hidden = self.resblocks_3d_temporal(x, frames, emb, whole)
        if self.resblocks_3d_spatial is not None:
            hidden = resnet(self.resblocks_3d_spatial, hidden, emb.repeat_interleave(frames, 0), frames, whole)
        return x + self.shift_conv(hidden)


class Rotary(nn.Module):
    """Rotary code of positions in time (Su et al. 2021) on the first ``width`` channels of a head, pairs side by side.

    One set of frequencies serves all attention layers; it is stored with the weights and not trained.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = 10000.0 ** -(torch.arange(0, width, 2).float() / width)
        self.freqs = nn.Parameter(frequencies, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (...,T,d)."""
        frequencies = self.freqs.detach()
        angle = torch.outer(torch.arange(x.shape[-2], device=x.device).to(frequencies), frequencies)
        width = 2 * len(frequencies)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        even, odd = x[..., 0:width:2], x[..., 1:width:2]
        rotation = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)
        return torch.cat([rotation, x[..., width:]], dim=-1)


class RelativePositions(nn.Module):
    """A learned bias per head and bucket of distance in time (T5's buckets: exact near by, logarithmic up to 32)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def forward(self, frames: int) -> Tensor:
        """(heads,T,T): query, key."""
        place = torch.arange(frames, device=self.relative_attention_bias.weight.device)
        bias = self.relative_attention_bias(bucket(place[None] - place[:, None]))
        return rearrange(bias, "query key heads -> heads query key")


def bucket(distance: Tensor) -> Tensor:
    """Bucket 0..31 of a key's place relative to the query's; the future has the upper half."""
    half, exact = BUCKETS // 2, BUCKETS // 4
    far = distance.abs().clamp(min=1).float() / exact
    logarithmic = exact + (far.log() / math.log(REACH / exact) * (half - exact)).long()
    near = torch.where(distance.abs() < exact, distance.abs(), logarithmic.clamp(max=half - 1))
    return near + half * (distance > 0)


class TemporalAttention(nn.Module):
    """Self-attention over the frames at every pixel; its output weights start at zero."""

    def __init__(self, channels: int, heads: int, rotary: Rotary) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([zero_init(nn.Linear(channels, channels))])
        self.time_rel_pos_bias = RelativePositions(heads)
        self.rotary_emb = rotary

    def forward(self, x: Tensor) -> Tensor:
        """x: (pixels,T,C)."""
        query, key, value = (
            rearrange(layer(x), "n t (heads d) -> n heads t d", heads=self.heads)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        bias = self.time_rel_pos_bias(x.shape[1]).to(query.dtype)
        y = F.scaled_dot_product_attention(self.rotary_emb(query), self.rotary_emb(key), value, bias[None])
        return self.to_out[0](rearrange(y, "n heads t d -> n t (heads d)"))


class Inflated(nn.Module):
    """An image network with temporal parts beside it; together they have a published checkpoint's keys."""

    image: Any
    video: nn.Module

    def published_state(self) -> dict[str, Tensor]:
        """The state dict under the published checkpoint's names."""
        return {**self.image.state_dict(), **self.video.state_dict()}

    def load_published_state(self, values: dict[str, Tensor]) -> None:
        """Load what ``published_state`` has the keys of."""
        own = self.video.state_dict()
        self.video.load_state_dict({key: value for key, value in values.items() if key in own}, assign=True)
        self.image.load_state_dict({key: value for key, value in values.items() if key not in own}, assign=True)
