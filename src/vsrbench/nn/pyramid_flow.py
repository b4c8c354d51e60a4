"""A thin flow network of SPyNet's kind, for methods that train their flow with the rest at small sizes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.flow.network import full_precision, precise
from vsrbench.flow.warp import resize_flow, warp


class PyramidFlow(nn.Module):
    """A pyramid of small networks, each correcting the flow of the coarser one (Ranjan and Black 2017).

    # ours: the finest of the ``levels`` works at 1/``finest`` of the frame, the others at half of that each; widths
    # are those of the hidden layers, all 5x5. Values in, values out are SPyNet's: both frames (the second one
    # warped, border repeated) and the flow so far. The last layers start at zero, so that training starts at no flow.
    Any size: frames are resized to what the levels need and the flow is brought back. float32 under autocast.
    """

    def __init__(self, levels: int = 4, widths: Sequence[int] = (16, 16, 16), finest: int = 2) -> None:
        super().__init__()
        self.finest = finest
        self.levels = nn.ModuleList(_corrections((8, *widths, 2)) for _ in range(levels))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """RGB (B,3,H,W) in [0,1] twice → flow[a→b] (B,2,H,W) float32, pixels, x first; differentiable."""
        size = (a.shape[-2], a.shape[-1])
        step = self.finest * 2 ** (len(self.levels) - 1)
        grid = (-(-size[0] // step) * step, -(-size[1] // step) * step)
        with full_precision(a.device):
            first, second = (self._pyramid(precise(frames) - 0.5, grid) for frames in (a, b))
            flow = first[0].new_zeros(len(a), 2, *first[0].shape[-2:])
            for frame, other, network in zip(first, second, self.levels, strict=True):
                flow = resize_flow(flow, (frame.shape[-2], frame.shape[-1]))
                flow = flow + network(torch.cat([frame, warp(other, flow, padding="border"), flow], dim=1))
            return resize_flow(flow, size)

    def _pyramid(self, frames: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Frames at the sizes of the levels, coarse to fine."""
        level = F.interpolate(frames, size=grid, mode="bilinear", align_corners=False)
        level = F.avg_pool2d(level, self.finest)
        found = [level]
        while len(found) < len(self.levels):
            found.insert(0, F.avg_pool2d(found[0], 2))
        return found


def _corrections(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv2d(inputs, outputs, kernel_size=5, padding=2), nn.ReLU()]
    last = layers[-2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers[:-1])
