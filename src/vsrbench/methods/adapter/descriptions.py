"""What replaces text where no text encoder exists: the miniature's prior learns to read these tokens.

ours, for size=mini alone. The shipped image prior never saw a prompt, so its cross-attention says nothing; a text-to-
video prior has learned to use a description of what is to be seen. Here a description is a fixed random projection of
simple statistics of the ground truth, region by region.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 10


def statistics(frames: Tensor, grid: int) -> Tensor:
    """(N,grid*grid,10) of frames (N,3,H,W) in [0,1]: colour, contrast and edge energy of each region, about unit size.

    Mean R, G, B; deviation of luma; mean absolute differences across, down and along both diagonals; the first two
    again on half the size.
    """
    luma = frames.mean(1, keepdim=True)
    half = F.avg_pool2d(luma, 2)

    def edges(x: Tensor, across: int, down: int) -> Tensor:
        neighbour = torch.roll(x, (down, across), (-2, -1))
        return F.adaptive_avg_pool2d((x - neighbour).abs(), grid)

    mean = F.adaptive_avg_pool2d(frames, grid)
    spread = (F.adaptive_avg_pool2d(luma.square(), grid) - F.adaptive_avg_pool2d(luma, grid).square()).clamp(min=0)
    fine = [edges(luma, *step) for step in ((1, 0), (0, 1), (1, 1), (1, -1))]
    coarse = [edges(half, *step) for step in ((1, 0), (0, 1))]
    features = torch.cat([4 * (mean - 0.5), 10 * spread.sqrt() - 1, *(20 * x - 1 for x in (*fine, *coarse))], dim=1)
    return rearrange(features, "n c h w -> n (h w) c")


class Descriptions(nn.Module):
    """Frames (B,T,3,H,W) in [0,1] to tokens (B,grid*grid,text) of about unit deviation; nothing of it is trained."""

    def __init__(self, text: int, grid: int = 8, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.grid = grid
        self.register_buffer(
            "words", torch.randn(FEATURES, text, generator=generator) / FEATURES**0.5, persistent=False
        )
        self.register_buffer("places", torch.randn(grid * grid, text, generator=generator), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        tokens = torch.stack([statistics(clip, self.grid).mean(0) for clip in frames])
        return (tokens @ self.get_buffer("words") + self.get_buffer("places")) / 2**0.5
