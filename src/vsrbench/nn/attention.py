"""Spatial self-attention with L2 distances and tied queries and keys, through the fused attention kernels.

Kim et al., "The Lipschitz constant of self-attention" (2021); GigaGAN Sec. 3.2 and App. A; VideoGigaGAN Sec. 4.1 puts
it into the first decoder block.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def l2_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(-|q_i - k_j|² / sqrt(d) + bias) v for query (...,N,d), key (...,M,d), value (...,M,d), bias (...,N,M).

    |q_i|² is the same in a whole row and cancels, so the logits are dot products of (2q, 1) with (k, -|k|²): exact,
    through any kernel of ``scaled_dot_product_attention``. Gradients of ``cdist`` are NaN where q = k.
    """
    width = query.shape[-1]
    exact = torch.promote_types(key.dtype, torch.float32)
    norm = key.to(exact).square().sum(-1, keepdim=True)
    high = norm.to(key.dtype)  # in 16 bits |k|² takes two columns: one would be off by more than the logits differ
    low = (norm - high.to(exact)).to(key.dtype)
    spare = -(width + 2) % 8  # fused kernels want a multiple of 8
    ones, none = torch.ones_like(query[..., :2]), query.new_zeros(*query.shape[:-1], spare)
    query = torch.cat([2 * query, ones, none], dim=-1)
    key = torch.cat([key, -high, -low, key.new_zeros(*key.shape[:-1], spare)], dim=-1)
    value = F.pad(value, (0, spare + 2))  # the fused kernel of the CPU wants one width for all three
    bias = None if bias is None else bias.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, bias, scale=1 / math.sqrt(width))[..., :width]


class ChannelRMSNorm(nn.Module):
    """Each position's channels divided by their root mean square, times a learned gain; channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.gain.shape, self.gain.to(x.dtype), eps=1e-6)


class L2Attention(nn.Module):
    """Self-attention and MLP over all positions of a map (N,C,H,W), each added with ``gain``.

    heads x head_dim is the inner width. A learned null key and value let a position attend to nothing. gain: 0.3
    (GigaGAN). ours: no positions; maps of more than ``limit`` positions are cut into windows of at most 64 x 64, so
    that the work grows linearly from there on.
    """

    def __init__(
        self, channels: int, heads: int, head_dim: int, mlp_ratio: int = 4, gain: float = 0.3, limit: int = 16384
    ) -> None:
        super().__init__()
        self.heads, self.gain, self.limit = heads, gain, limit
        inner = heads * head_dim
        self.norm = ChannelRMSNorm(channels)
        self.to_key = nn.Linear(channels, inner, bias=False)  # query and key are one
        self.to_value = nn.Linear(channels, inner, bias=False)
        self.null = nn.Parameter(torch.randn(2, heads, 1, head_dim))
        self.to_out = nn.Linear(inner, channels, bias=False)
        self.mlp_norm = ChannelRMSNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels), nn.GELU(), nn.Linear(mlp_ratio * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "n c h w -> n h w c")
        x = torch.add(x, self.attend(self.norm(x)), alpha=self.gain)
        x = torch.add(x, self.mlp(self.mlp_norm(x)), alpha=self.gain)
        return rearrange(x, "n h w c -> n c h w")

    def attend(self, x: Tensor) -> Tensor:
        """Attention over x (N,H,W,C), in windows where the map is too large for one."""
        height, width = x.shape[1:3]
        if height * width <= self.limit:
            return self._window(x)
        rows = x.tensor_split(math.ceil(height / 64), dim=1)
        windows = [row.tensor_split(math.ceil(width / 64), dim=2) for row in rows]
        return torch.cat([torch.cat([self._window(w) for w in row], dim=2) for row in windows], dim=1)

    def _window(self, x: Tensor) -> Tensor:
        count, height, width, _ = x.shape
        key, value = (
            rearrange(layer(x), "n h w (heads d) -> n heads (h w) d", heads=self.heads)
            for layer in (self.to_key, self.to_value)
        )
        null_key, null_value = self.null.to(key.dtype).unsqueeze(1).expand(-1, count, -1, -1, -1)
        y = l2_attention(key, torch.cat([null_key, key], dim=2), torch.cat([null_value, value], dim=2))
        return self.to_out(rearrange(y, "n heads (h w) d -> n h w (heads d)", h=height, w=width))
