"""What turns an image network into a video network: convolution and attention over time, zero at the start.

VideoGigaGAN Sec. 3.2: a convolution of kernel 3 over time, then self-attention over time without spatial extent,
each at every position alone.
"""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.errors import ConfigError
from vsrbench.nn.attention import l2_attention
from vsrbench.nn.functional import zero_init

SEQUENCES = 32768  # attended at once: fused kernels of some GPUs take no more than 65,535, and memory is limited
Kind = Literal["dot", "l2"]


class TemporalAttention(nn.Module):
    """x (B,T,H,W,C) to x + O(attention over T of LN(x)), at every position alone; O starts at zero.

    kind: ``dot``, the usual scaled dot products; ``l2``, distances with one projection for queries and keys, as
    GigaGAN's attention over space. Heads are ``head_dim`` wide; where there are fewer channels, one head takes them
    all. ours: no positions but a learned bias per head and distance in time, zero at the start, up to ``reach`` frames;
    frames further apart share the last one. Raises ConfigError where heads do not divide channels.
    """

    def __init__(self, channels: int, head_dim: int = 64, reach: int = 16, kind: Kind = "dot") -> None:
        super().__init__()
        self.heads, self.reach, self.kind = max(1, channels // head_dim), reach, kind
        if channels % self.heads:
            raise ConfigError(f"head_dim={head_dim} makes {self.heads} heads, which do not divide {channels} channels")
        self.norm = nn.LayerNorm(channels)
        if kind == "dot":
            self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        else:
            self.to_kv = nn.Linear(channels, 2 * channels, bias=False)
        self.distance = nn.Parameter(torch.zeros(self.heads, 2 * reach + 1))
        self.to_out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        rows = max(1, SEQUENCES // (len(x) * x.shape[3] * self.heads))
        parts = [piece + self.attended(piece) for piece in x.split(rows, dim=2)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def attended(self, x: Tensor) -> Tensor:
        """Attention over time at every position of x (B,T,H,W,C)."""
        _, frames, height, width, _ = x.shape
        if self.kind == "dot":
            query, key, value = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        else:
            key, value = self.to_kv(self.norm(x)).chunk(2, dim=-1)
            query = key
        query, key, value = (
            rearrange(part, "b t h w (heads d) -> (b h w) heads t d", heads=self.heads) for part in (query, key, value)
        )
        bias = self.bias(frames).to(key.dtype)
        attend = F.scaled_dot_product_attention if self.kind == "dot" else l2_attention
        y = attend(query, key, value, bias)
        return self.to_out(rearrange(y, "(b h w) heads t d -> b t h w (heads d)", h=height, w=width))

    def bias(self, frames: int) -> Tensor:
        """(1,heads,T,T): what each head adds to the logits of a frame for one some frames later."""
        time = torch.arange(frames, device=self.distance.device)
        later = (time - time[:, None]).clamp(-self.reach, self.reach) + self.reach
        return self.distance[:, later].unsqueeze(0)


class TemporalModule(TemporalAttention):
    """x (B,T,C,H,W) to the same shape: y = x + Conv1d(x), then ``depth`` layers of attention over time.

    Convolution and the attention's last layers start at zero: the output equals the input bit for bit. Both get
    gradients at the first step, the rest of the attention from the second. The first layer's parameters are the
    module's own, so that a module of depth 1 has no list in its names; head_dim, reach, kind: see
    ``TemporalAttention``.
    """

    def __init__(self, channels: int, head_dim: int = 64, reach: int = 16, depth: int = 1, kind: Kind = "dot") -> None:
        conv = zero_init(nn.Conv1d(channels, channels, 3, padding=1))
        super().__init__(channels, head_dim, reach, kind)
        self.conv = conv
        self.deeper = nn.ModuleList(TemporalAttention(channels, head_dim, reach, kind) for _ in range(depth - 1))

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "b t c h w -> b t h w c")
        x = super().forward(x + self.convolved(x))
        for layer in self.deeper:
            x = layer(x)
        return rearrange(x, "b t h w c -> b t c h w")

    def convolved(self, x: Tensor) -> Tensor:
        """The convolution over time at every position of x (B,T,H,W,C)."""
        past, present, future = self.conv.weight.unbind(-1)
        y = F.linear(x, present, self.conv.bias)  # as matrix products: on the CPU twice as fast as conv3d
        y[:, 1:] += F.linear(x[:, :-1], past)
        y[:, :-1] += F.linear(x[:, 1:], future)
        return y
