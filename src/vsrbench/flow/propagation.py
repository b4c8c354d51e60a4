"""Flow-guided propagation of features through a clip: the second-order grid of BasicVSR++ (Chan et al. 2022).

Shared by the methods that look at a whole clip before they upscale it; plain modules.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vsrbench.annotations import check_value
from vsrbench.errors import ConfigError
from vsrbench.flow.deform import deform_conv2d
from vsrbench.flow.warp import resize_flow, warp
from vsrbench.nn.functional import full_precision, precise, recomputed, zero_init
from vsrbench.nn.residual import SLOPE, ConvResidualBlocks

Alignment = Literal["dcn", "warp"]
Order = Literal[1, 2]  # frames back
TAPS = 9  # of a 3x3 kernel


class GridPropagation(nn.Module):
    """Branches that run through the clip in turn, backward and forward, each reading what the earlier ones left.

    At frame t a branch computes aligned + backbone(cat(spatial_t, finished branches at t, aligned)), where aligned is
    what the alignment makes of the branch's own features one and two frames back (zero at its first frame).
    channels, blocks: width and residual blocks of each backbone. branches: 4 in the paper: backward_1, forward_1,
    backward_2, forward_2. alignment: flow-guided "dcn" or plain "warp" with one convolution. order: 2 frames back,
    or 1. groups, max_residue: of the deformable alignment. offload: finished branches wait in the host's memory.
    checkpointing: backbones are computed again in the backward pass. setting: where all this is set, for the errors.
    Parameter names are the published ones.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 7,
        branches: int = 4,
        alignment: Alignment = "dcn",
        order: Order = 2,
        groups: int = 16,
        max_residue: float = 10.0,
        offload: bool = False,
        checkpointing: bool = False,
        setting: str = "method",
    ) -> None:
        super().__init__()
        check_value(f"{setting}.branches", branches, Annotated[int, Ge(1)])
        self.offload, self.checkpointing = offload, checkpointing
        self.names = [f"{'forward' if i % 2 else 'backward'}_{i // 2 + 1}" for i in range(branches)]
        self.deform_align = nn.ModuleDict(
            {name: make_alignment(channels, alignment, order, groups, max_residue, setting) for name in self.names}
        )
        self.backbone = nn.ModuleDict(
            {name: ConvResidualBlocks((2 + i) * channels, channels, blocks) for i, name in enumerate(self.names)}
        )

    def forward(
        self, spatial: Tensor, to_next: Tensor, to_previous: Tensor, advance: Callable[[], object] | None = None
    ) -> dict[str, list[Tensor]]:
        """Features (B,C,h,w) of every frame, by branch.

        spatial: (B,T,C,h,w). to_next, to_previous: (B,T-1,2,h,w) in pixels, flow[t→t+1] and flow[t+1→t].
        advance: called after every frame of every branch.
        """
        finished: dict[str, list[Tensor]] = {}
        for name in self.names:
            backward = name.startswith("backward")
            flows = to_next if backward else to_previous
            features = self._branch(name, spatial, list(finished.values()), flows, backward, advance)
            finished[name] = [self._stored(feature) for feature in features]
        return finished

    def _branch(
        self,
        name: str,
        spatial: Tensor,
        finished: list[list[Tensor]],
        flows: Tensor,
        backward: bool,
        advance: Callable[[], object] | None,
    ) -> list[Tensor]:
        frames = spatial.shape[1]
        back = 1 if backward else -1  # where the frame before lies, in the order of the branch
        features: dict[int, Tensor] = {}
        for t in range(frames - 1, -1, -1) if backward else range(frames):
            current = spatial[:, t]
            aligned = torch.zeros_like(current)
            if t + back in features:
                # flow[t→t+back] is stored at the smaller of the two numbers
                first, second = flows[:, min(t, t + back)], None
                earlier = features.get(t + 2 * back)
                if earlier is not None:
                    step = flows[:, min(t + back, t + 2 * back)]
                    second = first + warp(step, first)
                aligned = self.deform_align[name](current, features[t + back], first, earlier, second)
            inputs = [current, *(branch[t].to(current.device) for branch in finished), aligned]
            features[t] = aligned + self._backbone(name, torch.cat(inputs, dim=1))
            if advance is not None:
                advance()
        return [features[t] for t in range(frames)]

    def _backbone(self, name: str, inputs: Tensor) -> Tensor:
        return recomputed(self.backbone[name], inputs, enabled=self.checkpointing)

    def _stored(self, feature: Tensor) -> Tensor:
        return feature.cpu() if self.offload else feature


def make_alignment(
    channels: int, alignment: Alignment, order: Order, groups: int, max_residue: float, setting: str = "method"
) -> nn.Module:
    """The alignment of one branch. Raises ConfigError for settings that mean nothing."""
    check_value(f"{setting}.order", order, Order)
    check_value(f"{setting}.alignment", alignment, Alignment)
    if alignment == "warp":
        return WarpAlignment(channels, order)
    if groups < 1 or groups % order or (order * channels) % groups:
        raise ConfigError(
            f"{setting}.groups={groups}: {order} x {channels} channels must divide into as many groups, and the groups "
            f"into {order} frames"
        )
    return DeformableAlignment(channels, order, groups, max_residue)


class WarpAlignment(nn.Module):
    """Features one (and two) frames back, warped by flow, then one 3x3 convolution (``alignment=warp``)."""

    def __init__(self, channels: int, order: int) -> None:
        super().__init__()
        self.order = order
        self.conv = nn.Conv2d(order * channels, channels, 3, padding=1)

    def forward(
        self, current: Tensor, n1: Tensor, f1: Tensor, n2: Tensor | None = None, f2: Tensor | None = None
    ) -> Tensor:
        """See ``DeformableAlignment.forward``."""
        warped = [warp(n1, f1)]
        if self.order == 2:
            warped.append(torch.zeros_like(n1) if n2 is None or f2 is None else warp(n2, f2))
        return self.conv(torch.cat(warped, dim=1))


class DeformableAlignment(nn.Module):
    """Flow-guided deformable alignment (BasicVSR++ Sec. 3.2, Eq. 3-6).

    A small network sees the current frame's features and the warped ones of the frames before, with the flows, and
    gives bounded offsets around the flow (max_residue * tanh) and masks in (0,1); the deformable convolution then
    reads the features *before* warping. The first half of the groups reads the frame before, the second half the one
    before that. The network's last layer starts at zero: offsets are the flow, masks 1/2.
    """

    def __init__(self, channels: int, order: int = 2, groups: int = 16, max_residue: float = 10.0) -> None:
        super().__init__()
        self.order, self.groups, self.max_residue = order, groups, max_residue
        self.weight = nn.Parameter(torch.empty(channels, order * channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        bound = (order * channels * TAPS) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        layers: list[nn.Module] = []
        for inputs in ((order + 1) * channels + 2 * order, channels, channels):
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.LeakyReLU(SLOPE)]
        last = nn.Conv2d(channels, 3 * TAPS * groups, 3, padding=1)
        self.conv_offset = nn.Sequential(*layers, zero_init(last))

    def forward(
        self, current: Tensor, n1: Tensor, f1: Tensor, n2: Tensor | None = None, f2: Tensor | None = None
    ) -> Tensor:
        """Features (B,C,h,w) on the current frame's grid.

        current: spatial features of the frame. n1, n2: the branch's features one and two frames back; f1, f2: flow
        from the current frame to those, in pixels. Without n2 (second frame of a branch) it is zeros.
        """
        neighbours, flows, conditions = [n1], [f1], [warp(n1, f1), current]
        if self.order == 2:
            has_second = n2 is not None and f2 is not None
            neighbours.append(n2 if n2 is not None else torch.zeros_like(n1))
            flows.append(f2 if f2 is not None else torch.zeros_like(f1))
            conditions.append(warp(neighbours[1], flows[1]) if has_second else torch.zeros_like(current))
        raw = self.conv_offset(torch.cat([*conditions, *(flow.to(current.dtype) for flow in flows)], dim=1))
        with full_precision(raw.device):
            offset, mask = self._displacements(precise(raw), flows)
            return deform_conv2d(torch.cat(neighbours, dim=1), offset, mask, self.weight, self.bias)

    def _displacements(self, raw: Tensor, flows: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(offsets, masks) from the network's output; each flow is added to the offsets of its groups, y before x."""
        # three equal parts, as published: offsets come first, masks last
        count = TAPS * self.groups
        offset = self.max_residue * torch.tanh(raw[:, : 2 * count])
        pairs = count // self.order  # of (y, x), per frame back
        base = torch.cat([flow.flip(1).repeat(1, pairs, 1, 1) for flow in flows], dim=1)
        return offset + base, torch.sigmoid(raw[:, 2 * count :])


def neighbour_flows(
    network: nn.Module, lr: Tensor, minimum: int = 1, batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """(to_next, to_previous) of a clip (B,T,3,h,w): (B,T-1,2,h,w) each, flow[t→t+1] and flow[t+1→t] in pixels.

    network(a, b): flow[a→b] of frames (N,3,h,w). minimum: frames with a shorter side are enlarged for the network,
    and the flow is brought back (ours; SPyNet's six levels want 64 pixels). batch: pairs per call; None: all.
    """
    b, t, _, height, width = lr.shape
    if t < 2:
        none = lr.new_zeros(b, 0, 2, height, width)
        return none, none
    factor = max(minimum / min(height, width), 1.0)
    frames = rearrange(lr, "b t c h w -> (b t) c h w")
    if factor > 1:
        size = (max(round(height * factor), minimum), max(round(width * factor), minimum))
        frames = nn.functional.interpolate(frames, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
    clip = rearrange(frames, "(b t) c h w -> b t c h w", b=b)
    earlier, later = (rearrange(part, "b t c h w -> (b t) c h w") for part in (clip[:, :-1], clip[:, 1:]))
    calls = len(earlier) if batch is None else batch
    pairs = list(zip(earlier.split(calls), later.split(calls), strict=True))
    flows = [torch.cat([network(x, y) for x, y in pairs]), torch.cat([network(y, x) for x, y in pairs])]
    flows = [resize_flow(flow, (height, width)) if factor > 1 else flow for flow in flows]
    to_next, to_previous = (rearrange(flow, "(b t) xy h w -> b t xy h w", b=b) for flow in flows)
    return to_next, to_previous
