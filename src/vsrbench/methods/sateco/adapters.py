"""Spatial feature adaptation (Sec. 3.2), temporal feature alignment (Sec. 3.3), and where they sit in a decoder."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_value
from vsrbench.errors import ConfigError
from vsrbench.nn.functional import recomputed, zero_init
from vsrbench.nn.windows import (
    in_pieces,
    join,
    join_heads,
    pad_to_windows,
    partition,
    real_positions,
    split_heads,
)

Kind = Literal["zero_conv", "sfa", "sfa_tfa"]
Init = Literal["identity", "paper"]
Norm = Literal["instance", "layer"]


class SFA(nn.Module):
    """Eq. 1-2: frames' features f (N,C,H,W), normalised, scaled and shifted at every pixel by what guidance g says.

    M = conv(g), S = conv(g), f~ = S·(f - mu)/sigma + M. init="paper" is Eq. 2 as printed: it replaces f, so the frozen
    decoder gets noise at the start. "identity" (ours) adds Eq. 2 to f with both convolutions at zero: exactly f at the
    start, and the same family of functions. ours: kernel 3 as in SPADE; norm: mu and sigma of each frame per channel
    ("instance") or over all channels ("layer").
    """

    def __init__(self, channels: int, kernel: int = 3, norm: Norm = "instance", init: Init = "identity") -> None:
        super().__init__()
        self.axes = (2, 3) if norm == "instance" else (1, 2, 3)
        self.residual = init == "identity"
        self.shift = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.scale = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        if self.residual:
            zero_init(self.shift), zero_init(self.scale)

    def forward(self, f: Tensor, g: Tensor) -> Tensor:
        variance, mean = torch.var_mean(f.float(), self.axes, keepdim=True, unbiased=False)
        normal = (f - mean) * (variance + 1e-5).rsqrt()
        change = self.scale(g) * normal + self.shift(g)
        return (f + change if self.residual else change).to(f.dtype)


class ZeroConv(nn.Module):
    """Variant A of Table 2: f + conv(g) with a 1x1 convolution that starts at zero, as in ControlNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, f: Tensor, g: Tensor) -> Tensor:
        return (f + self.conv(g)).to(f.dtype)


class TubeletAttention(nn.Module):
    """Eq. 3 (context = x) or Eq. 4 (context = LR tubelet): attention in tubelets (n,L,h,w,C), all positions of one.

    init="paper": the attention alone, as printed. "identity" (ours): added to x through a projection that starts at
    zero. kernel: of the 3D convolutions that make queries, keys and values, inside each tubelet, zeros around it.
    """

    def __init__(self, channels: int, heads: int, kernel: Sequence[int] = (1, 1, 1), init: Init = "identity") -> None:
        super().__init__()
        self.heads = heads
        self.to_query, self.to_key, self.to_value = (convolution(channels, kernel) for _ in range(3))
        self.to_out = zero_init(convolution(channels, (1, 1, 1))) if init == "identity" else None

    def forward(self, x: Tensor, context: Tensor, keys: Tensor | None = None) -> Tensor:
        """keys: bool (n,1,1,L·h·w), False for positions of the context that are padding; None where there are none."""
        q, k, v = (
            split_heads(rearrange(convolved(layer, tubes), "n l h w c -> n (l h w) c"), self.heads)
            for layer, tubes in ((self.to_query, x), (self.to_key, context), (self.to_value, context))
        )
        y = join_heads(F.scaled_dot_product_attention(q, k, v, keys)).view(*x.shape[:-1], -1)
        return y if self.to_out is None else x + convolved(self.to_out, y)


class TFA(nn.Module):
    """Eq. 3-4: features x (B·L,C,h,w) aligned over the L frames of a clip inside windows, guided by those of LR frames.

    Every window holds ``window`` x ``window`` pixels of all frames: self-attention in it, then cross-attention to the
    LR tubelet at the same place. Where windows do not divide the map its padding is no key, so a border window equals
    one of the size that remains. ours: ``head_dim`` channels to a head (the fewest heads that divide the channels and
    are no wider). chunk: windows at once, in whole rows of windows. Without a position code, as printed: the frames'
    order does not matter.
    """

    def __init__(
        self,
        channels: int,
        window: int = 8,
        kernel: Sequence[int] = (1, 1, 1),
        head_dim: int = 64,
        chunk: int = 1024,
        init: Init = "identity",
    ) -> None:
        super().__init__()
        self.window, self.chunk = window, chunk
        heads = next(n for n in range(1, channels + 1) if channels % n == 0 and channels <= n * head_dim)
        self.self_attention = TubeletAttention(channels, heads, kernel, init)
        self.cross_attention = TubeletAttention(channels, heads, kernel, init)

    def forward(self, x: Tensor, guide: Tensor, frames: int, overwrite: bool = False) -> Tensor:
        """overwrite: without gradients the result may take the place of ``x``."""
        maps = [rearrange(t, "(b l) c h w -> b l h w c", l=frames) for t in (x, guide)]
        across = len(maps[0]) * -(-x.shape[-1] // self.window)
        rows = max(1, self.chunk // across) * self.window
        y = in_pieces(self._aligned, maps, rows, dim=2, overwrite=overwrite)
        return rearrange(y, "b l h w c -> (b l) c h w")

    def _aligned(self, x: Tensor, guide: Tensor) -> Tensor:
        """Whole rows of windows of x (B,L,h,w,C)."""
        size = x.shape[1:4]
        window = (size[0], self.window, self.window)
        padded = pad_to_windows(x, window)
        tubes, context = (
            partition(t, window).unflatten(1, window) for t in (padded, pad_to_windows(guide.to(x.dtype), window))
        )
        real, keys = real_positions(size, window, x.device), None
        if real is not None:
            real = real.repeat(len(x), 1)
            keys = real[:, None, None]
        tubes = self.self_attention(tubes, tubes, keys)
        if real is not None:  # padding is zero for the next convolution as well
            tubes = tubes * real.view(*tubes.shape[:-1], 1)
        tubes = self.cross_attention(tubes, context, keys)
        y = join(tubes.flatten(1, 3), window, padded.shape[1:4])
        return y[:, :, : size[1], : size[2]].to(x.dtype)


class GuidancePoint(nn.Module):
    """One point of a decoder: a zero convolution, SFA, or SFA and TFA behind it."""

    def __init__(self, channels: int, kind: str, sfa: Mapping[str, Any], tfa: Mapping[str, Any]) -> None:
        super().__init__()
        self.spatial = ZeroConv(channels) if kind == "zero_conv" else SFA(channels, **sfa)
        self.temporal = TFA(channels, **tfa) if kind == "sfa_tfa" else None

    def forward(self, f: Tensor, g: Tensor, frames: int) -> Tensor:
        """f, g: (B·frames,C,H,W) of one size. Without gradients the result takes the place of ``f``."""
        f = self.spatial(f, g) if torch.is_grad_enabled() else in_pieces(self.spatial, (f, g), 1, overwrite=True)
        return f if self.temporal is None else self.temporal(f, g, frames, overwrite=True)


class Guidance(nn.Module):
    """What guides a decoder: one point per block, behind its last residual unit and before its upsampler (ours).

    There sizes and channels equal those of the encoder level that gives the guidance, and attention runs on a quarter
    of the positions that it would have behind the upsampler. channels: of the decoder's blocks, in its own order.
    kind: zero_conv | sfa | sfa_tfa (Table 2). part: unet | vae, whose decoder that is, for messages. init: see ``SFA``
    and ``TubeletAttention``; zero convolutions start at zero in both. Raises ConfigError for unknown settings.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kind: Kind = "sfa_tfa",
        part: str = "unet",
        kernel: int = 3,
        norm: Norm = "instance",
        window: int = 8,
        tfa_kernel: Sequence[int] = (1, 1, 1),
        head_dim: int = 64,
        chunk: int = 1024,
        init: Init = "identity",
    ) -> None:
        super().__init__()
        check_value(f"method.guidance.{part}", kind, Kind)
        check_value("method.init", init, Init)
        check_value("method.guidance.norm", norm, Norm)
        if isinstance(tfa_kernel, int) or len(tfa_kernel) != 3:
            raise ConfigError(f"method.guidance.tfa_kernel={tfa_kernel}: use three odd numbers, [frames,h,w]")
        for name, size in (("kernel", kernel), *(("tfa_kernel", size) for size in tfa_kernel)):
            if size < 1 or size % 2 == 0:
                raise ConfigError(f"method.guidance.{name}: {size} is no odd kernel size")
        for name, size in (("window", window), ("head_dim", head_dim), ("chunk", chunk)):
            check_value(f"method.guidance.{name}", size, Annotated[int, Ge(1)])
        sfa = {"kernel": kernel, "norm": norm, "init": init}
        tfa = {"window": window, "kernel": tfa_kernel, "head_dim": head_dim, "chunk": chunk, "init": init}
        self.points = nn.ModuleList(GuidancePoint(width, kind, sfa, tfa) for width in channels)

    def forward(self, point: int, f: Tensor, g: Tensor, frames: int, checkpointing: bool = False) -> Tensor:
        """Features f behind decoder block number ``point`` (B·frames,C,H,W), guided by g of the same shape."""
        return recomputed(self.points[point], f, g, frames, enabled=checkpointing)


def convolution(channels: int, kernel: Sequence[int]) -> nn.Conv3d:
    """A 3D convolution that keeps size and channels."""
    a, b, c = kernel
    return nn.Conv3d(channels, channels, (a, b, c), padding=(a // 2, b // 2, c // 2))


def convolved(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """A 3D convolution of channels-last x (n,L,h,w,C); of kernel 1 as a matrix product, which needs no copies."""
    if layer.kernel_size == (1, 1, 1):
        return F.linear(x, layer.weight.flatten(1), layer.bias)
    return rearrange(layer(rearrange(x, "n l h w c -> n c l h w")), "n c l h w -> n l h w c")
