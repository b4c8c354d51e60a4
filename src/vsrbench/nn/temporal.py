"""What turns an image network into a video network: convolution and attention over time, zero at the start.

VideoGigaGAN Sec. 3.2: a convolution of kernel 3 over time, then self-attention over time without spatial extent,
each at every position alone.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.errors import ConfigError
from vsrbench.nn.functional import zero_init

SEQUENCES = 32768  # attended at once: fused kernels of some GPUs take no more than 65,535, and memory is limited


class TemporalModule(nn.Module):
    """x (B,T,C,H,W) to the same shape: y = x + Conv1d(x), out = y + O(attention over T of LN(y)).

    Convolution and O start at zero: the output equals the input bit for bit. Both get gradients at the first step,
    the rest of the attention from the second. Heads are ``head_dim`` wide; where there are fewer channels, one head
    takes them all. ours: no positions but a learned bias per head and distance in time, zero at the start, up to
    ``reach`` frames; frames further apart share the last one. Raises ConfigError where heads do not divide channels.
    """

    def __init__(self, channels: int, head_dim: int = 64, reach: int = 16) -> None:
        super().__init__()
        self.heads, self.reach = max(1, channels // head_dim), reach
        if channels % self.heads:
            raise ConfigError(f"head_dim={head_dim} makes {self.heads} heads, which do not divide {channels} channels")
        self.conv = zero_init(nn.Conv1d(channels, channels, 3, padding=1))
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.distance = nn.Parameter(torch.zeros(self.heads, 2 * reach + 1))
        self.to_out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "b t c h w -> b t h w c")
        x = x + self.convolved(x)
        rows = max(1, SEQUENCES // (len(x) * x.shape[3] * self.heads))
        parts = [piece + self.attended(piece) for piece in x.split(rows, dim=2)]
        return rearrange(parts[0] if len(parts) == 1 else torch.cat(parts, dim=2), "b t h w c -> b t c h w")

    def convolved(self, x: Tensor) -> Tensor:
        """The convolution over time at every position of x (B,T,H,W,C)."""
        past, present, future = self.conv.weight.unbind(-1)
        y = F.linear(x, present, self.conv.bias)  # as matrix products: on the CPU twice as fast as conv3d
        y[:, 1:] += F.linear(x[:, :-1], past)
        y[:, :-1] += F.linear(x[:, 1:], future)
        return y

    def attended(self, x: Tensor) -> Tensor:
        """Attention over time at every position of x (B,T,H,W,C)."""
        _, frames, height, width, _ = x.shape
        qkv = self.to_qkv(self.norm(x))
        q, k, v = rearrange(qkv, "b t h w (kind heads d) -> kind (b h w) heads t d", kind=3, heads=self.heads)
        y = F.scaled_dot_product_attention(q, k, v, self.bias(frames).to(q.dtype))
        return self.to_out(rearrange(y, "(b h w) heads t d -> b t h w (heads d)", h=height, w=width))

    def bias(self, frames: int) -> Tensor:
        """(1,heads,T,T): what each head adds to the logits of a frame for one some frames later."""
        time = torch.arange(frames, device=self.distance.device)
        later = (time - time[:, None]).clamp(-self.reach, self.reach) + self.reach
        return self.distance[:, later].unsqueeze(0)
