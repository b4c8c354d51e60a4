"""SPyNet (Ranjan and Black 2017, "Optical Flow Estimation using a Spatial Pyramid Network"), as BasicVSR uses it.

``SpyNetwork`` is the plain differentiable network, for methods that train it; ``SpyNet`` is the frozen estimator
behind ``flow=spynet``.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.flow.warp import warp
from vsrbench.nn.functional import full_precision, precise
from vsrbench.weights.cache import fetched
from vsrbench.weights.files import read
from vsrbench.weights.key_maps import MEAN, STD, spynet_state
from vsrbench.weights.report import load_strictly, no_weights

KNOWN = "basicvsr_reds4"  # of the published files the one with the smallest error of flow (docs/weights.md)
LEVELS = 6
FILES = (
    "the weights of the BasicVSR line (spynet_20210409-c6c1bd09.pth) or of BasicSR (spynet_sintel_final-3d2a1287.pth)"
)
WIDTHS = (8, 32, 64, 32, 16, 2)  # first frame 3, warped second frame 3, flow 2 → correction of the flow 2


class SpyNetwork(nn.Module):
    """A pyramid of six small networks, each correcting the flow of the coarser one; 1,440,300 parameters.

    Any size is resized bilinearly to multiples of 32 and the flow is brought back; below 64 pixels a side the
    coarsest levels see a single pixel. Warping (border padding) and the enlargement of the flow (bilinear
    between corners, times 2) are those of the BasicVSR line, whose weights expect them. Parameter names are
    BasicSR's. Computes in float32 under autocast. pretrained: its weights came from somewhere.
    """

    mean: Tensor
    std: Tensor
    pretrained = False

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(
            nn.Sequential(OrderedDict(basic_module=_convolutions())) for _ in range(LEVELS)
        )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """RGB (B,3,H,W) in [0,1] twice → flow[a→b] (B,2,H,W) float32, pixels, x first; differentiable."""
        height, width = a.shape[-2:]
        step = 2 ** (LEVELS - 1)
        size = (-(-height // step) * step, -(-width // step) * step)
        with full_precision(a.device):
            flow = self._coarse_to_fine(*(self._pyramid(precise(frames), size) for frames in (a, b)))
            flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
            return flow * flow.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)

    def _pyramid(self, frames: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Normalised frames at 1/32, 1/16, ... 1 of ``size``."""
        levels = [(F.interpolate(frames, size=size, mode="bilinear", align_corners=False) - self.mean) / self.std]
        while len(levels) < LEVELS:
            levels.insert(0, F.avg_pool2d(levels[0], kernel_size=2))
        return levels

    def _coarse_to_fine(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        flow = torch.zeros_like(first[0][:, :2])
        for level, network in enumerate(self.basic_module):
            if level:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            warped = warp(second[level], flow, padding="border")
            flow = flow + network(torch.cat([first[level], warped, flow], dim=1))
        return flow


class SpyNet(nn.Module):
    """SPyNet as a frozen flow estimator.

    weights: a file of any layout that ``spynet_state`` knows; None: what ``weights fetch spynet`` fetched. Raises
    WeightsError for a file that does not fit, and for None where nothing was fetched, unless ``random=True``
    (counting, shape tests).
    """

    def __init__(self, weights: str | None = None, random: bool = False) -> None:
        super().__init__()
        if weights is None and not random and (file := fetched(KNOWN)):
            weights = str(file)
        if weights is None and not random:
            raise no_weights(
                "flow=spynet",
                f"`vsrbench weights fetch spynet`, or set flow.weights=FILE (or VSRBENCH_SPYNET) to {FILES}, or use "
                "flow=dis or flow=farneback, which need none",
                "flow.random=true",
            )
        self.net = SpyNetwork() if weights is None else load_spynet(weights)
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] twice → (B,2,H,W) pixels, x first."""
        return self.net(a, b)


def load_spynet(path: str) -> SpyNetwork:
    """A trainable SpyNetwork from a file. Raises WeightsError with a key report where it does not fit."""
    network, source = SpyNetwork(), f"flow.weights={path}"
    state = spynet_state(read(Path(path).expanduser(), "flow.weights").tensors, source)
    load_strictly(network, state, f"{source} does not hold SPyNet's weights")
    network.pretrained = True
    return network


def _convolutions() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(WIDTHS, WIDTHS[1:], strict=False):
        layers += [nn.Conv2d(inputs, outputs, kernel_size=7, padding=3), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
