"""Flow networks that a method trains with the rest of it: which there are, the thin one, and the error of flow."""

from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_value
from vsrbench.errors import ConfigError
from vsrbench.flow.spynet import SpyNetwork, load_spynet
from vsrbench.flow.warp import resize_flow, warp
from vsrbench.nn.functional import charbonnier, full_precision, precise, zero_init
from vsrbench.types import Clip

FlowNet = Literal["spynet", "pyramid"]


def trained_flow(kind: FlowNet, levels: int, widths: Sequence[int], weights: str | None, settings: str) -> nn.Module:
    """``spynet`` (BasicVSR++), from a file of weights where one is given, or the thin ``pyramid`` (ours, small sizes).

    levels, widths: of the pyramid, see ``PyramidFlow``. settings: where these are set, for the errors, as in
    ``method.front``. Raises ConfigError for another kind and for weights of another, WeightsError for a file that does
    not fit.
    """
    check_value(f"{settings}.flow_net", kind, FlowNet)
    if kind == "spynet":
        return SpyNetwork() if weights is None else load_spynet(weights)
    if weights is not None:
        raise ConfigError(f"{settings}.flow_weights={weights} are SPyNet's: use {settings}.flow_net=spynet")
    return PyramidFlow(levels, widths)


def random_spynet(network: nn.Module | None, remedy: str) -> dict[str, str]:
    """{"SPyNet": remedy} where the network is a SPyNet whose weights came from nowhere, see ``Method.random_parts``."""
    return {"SPyNet": remedy} if isinstance(network, SpyNetwork) and not network.pretrained else {}


def mark_pretrained(network: nn.Module) -> None:
    """Note that a flow network's weights were loaded, for ``random_spynet``."""
    if isinstance(network, SpyNetwork):
        network.pretrained = True


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
        pyramid = [level]
        while len(pyramid) < len(self.levels):
            pyramid.insert(0, F.avg_pool2d(pyramid[0], 2))
        return pyramid


def _corrections(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv2d(inputs, outputs, kernel_size=5, padding=2), nn.ReLU()]
    zero_init(layers[-2])
    return nn.Sequential(*layers[:-1])


def flow_error(clip: Clip, to_next: Tensor, to_previous: Tensor) -> Tensor:
    """Mean endpoint error in LR pixels against exact flow; without it the error of the LR frames warped by the flow.

    to_next, to_previous: flow[t→t+1] and flow[t+1→t] (B,T-1,2,h,w). # ours: a flow network that starts from nothing
    learns motion from this much sooner than from the upscaled frames.
    """
    if clip.flow_forward is not None and clip.flow_backward is not None:
        error = torch.stack([to_next - clip.flow_forward, to_previous - clip.flow_backward])
        return (error.square().sum(dim=3) + 1e-6).sqrt().mean()
    earlier, later, to_next, to_previous = (
        rearrange(x, "b t c h w -> (b t) c h w") for x in (clip.lr[:, :-1], clip.lr[:, 1:], to_next, to_previous)
    )
    forward = warp(later, to_next, padding="border") - earlier
    backward = warp(earlier, to_previous, padding="border") - later
    return charbonnier(torch.stack([forward, backward]), eps=1e-6)
