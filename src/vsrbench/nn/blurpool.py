"""Anti-aliased subsampling: a binomial low-pass filter before samples are dropped, and what it takes away.

Zhang, "Making convolutional networks shift-invariant again" (2019); VideoGigaGAN Sec. 3.4, 3.5 and 4.1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BINOMIAL = (1, 4, 6, 4, 1)  # VideoGigaGAN Sec. 4.1: gain 0 at the Nyquist frequency, 1/4 at half of it


def low_pass(x: Tensor, taps: tuple[int, ...] = BINOMIAL, stride: int = 1) -> Tensor:
    """Filter x (N,C,H,W) along both axes with ``taps`` (normalised to sum 1), borders mirrored.

    Of the result every stride-th sample is kept. An odd number of taps keeps the grid, ceil(H/stride) rows; an even
    number reads between the samples, (H-2)//stride + 1 rows, and is meant for stride 2.
    """
    channels, pad = x.shape[1], (len(taps) - 1) // 2
    row = torch.tensor(taps, dtype=x.dtype, device=x.device) / sum(taps)
    x = pad_mirrored(x, (pad, pad, pad, pad))
    x = F.conv2d(x, row.expand(channels, 1, 1, -1).contiguous(), stride=(1, stride), groups=channels)
    column = row.unsqueeze(-1).expand(channels, 1, -1, 1).contiguous()
    return F.conv2d(x, column, stride=(stride, 1), groups=channels)


def split_bands(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (N,C,H,W) as its low band, every second sample of LPF(x), and its high band x - LPF(x) at full resolution.

    Nothing is lost: the low band goes down the network, the high band across (VideoGigaGAN Sec. 3.5).
    """
    # The filter runs on differences to one sample of each map: a constant then has a high band of exactly 0, which
    # rounding of the taps' products would otherwise leave at 1e-7 of its value.
    first = x[..., :1, :1].detach()
    rest = x - first
    low = low_pass(rest)
    return low[..., ::2, ::2] + first, rest - low


def pad_mirrored(x: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    """Pad x (N,C,H,W) by (left, right, top, bottom), mirrored without the border sample.

    ours: maps too small to mirror repeat their border.
    """
    fits = max(pad[:2]) < x.shape[-1] and max(pad[2:]) < x.shape[-2]
    return F.pad(x, pad, mode="reflect" if fits else "replicate")


class BlurPool(nn.Module):
    """``low_pass`` with a stride as a module; (N,C,H,W) to (N,C,H/stride,W/stride). Without parameters."""

    def __init__(self, taps: tuple[int, ...] = BINOMIAL, stride: int = 2) -> None:
        super().__init__()
        self.taps, self.stride = taps, stride

    def forward(self, x: Tensor) -> Tensor:
        return low_pass(x, self.taps, self.stride)

    def extra_repr(self) -> str:
        return f"taps={self.taps}, stride={self.stride}"
