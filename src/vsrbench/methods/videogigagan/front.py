"""Flow-guided propagation before the U-Net: BasicVSR++'s grid, then both neighbours warped onto every frame.

VideoGigaGAN Sec. 3.3.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from vsrbench.flow.propagation import Alignment, GridPropagation, Order, neighbour_flows
from vsrbench.flow.trained import mark_pretrained
from vsrbench.flow.warp import warp
from vsrbench.nn.residual import ConvResidualBlocks
from vsrbench.weights.files import read
from vsrbench.weights.key_maps import is_published, own_state
from vsrbench.weights.report import load_strictly

BATCH = 32  # frames or pairs per call where none waits for another


@dataclass(frozen=True)
class Propagated:
    """A clip's features (B,T,C,h,w) and its flows to the next and to the previous frame (B,T-1,2,h,w), in pixels."""

    features: Tensor
    to_next: Tensor
    to_previous: Tensor


class Front(nn.Module):
    """LR clips to ``channels`` = 3 x width features per frame.

    flow(a, b): a differentiable network that gives flow[a→b] of frames (N,3,h,w). flow_minimum: see
    ``neighbour_flows``. width: channels of the propagation; feature_blocks: residual blocks of the features before it.
    The rest: see ``GridPropagation``; offload also keeps the features that come out of it in the host's memory.
    """

    def __init__(
        self,
        flow: nn.Module,
        width: int = 64,
        feature_blocks: int = 5,
        blocks: int = 7,
        branches: int = 4,
        alignment: Alignment = "dcn",
        order: Order = 2,
        groups: int = 16,
        max_residue: float = 10.0,
        flow_minimum: int = 64,
        offload: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.flow_minimum = 3 * width, flow_minimum
        self.flow = flow
        self.feat_extract = ConvResidualBlocks(3, width, feature_blocks)
        self.propagation = GridPropagation(
            width, blocks, branches, alignment, order, groups, max_residue, offload, checkpointing, "method.front"
        )
        self.fusion = nn.Conv2d((1 + branches) * width, width, 1)  # ours: the paper does not say how branches join

    def forward(self, lr: Tensor) -> Tensor:
        """(B,T,3,h,w) RGB in [0,1] to (B,T,channels,h,w)."""
        return self.around(self.propagate(lr), 0, lr.shape[1])

    def propagate(self, lr: Tensor, advance: Callable[[], object] | None = None) -> Propagated:
        """What the whole clip has to be seen for. advance: called after every frame of every branch."""
        clips = len(lr)
        flows = neighbour_flows(self.flow, lr, self.flow_minimum, None if self.training else BATCH)
        frames = rearrange(lr, "b t c h w -> (b t) c h w").split(BATCH)
        spatial = torch.cat([self.feat_extract(part) for part in frames])
        spatial = rearrange(spatial, "(b t) c h w -> b t c h w", b=clips)
        branches = self.propagation(spatial, *flows, advance)
        fused = []
        for t in range(lr.shape[1]):
            maps = [spatial[:, t], *(branch[t].to(lr.device) for branch in branches.values())]
            features = self.fusion(torch.cat(maps, dim=1))
            fused.append(features.cpu() if self.propagation.offload else features)
        return Propagated(torch.stack(fused, dim=1), *flows)

    def around(self, clip: Propagated, start: int, stop: int) -> Tensor:
        """Frames start to stop: features h_t, and those of the frame before and after, warped onto frame t.

        ours: at the clip's ends, where one neighbour is missing, h_t takes its place.
        """
        device, last = clip.to_next.device, clip.features.shape[1] - 1
        features = []
        for t in range(start, stop):
            own = clip.features[:, t].to(device)
            before = warp(clip.features[:, t - 1].to(device), clip.to_previous[:, t - 1]) if t else own
            after = warp(clip.features[:, t + 1].to(device), clip.to_next[:, t]) if t < last else own
            features.append(torch.cat([own, before, after], dim=1))
        return torch.stack(features, dim=1)

    def start_from(self, file: str) -> None:
        """Take flow network, features and branches of a BasicVSR++ (published, or of this project); ``fusion`` stays.

        Branches that are not here are left out. Raises WeightsError for a file that lacks or does not fit a part.
        """
        source = f"method.front.weights={file}"
        state = read(Path(file).expanduser(), "method.front.weights").tensors
        state = own_state(state, source) if is_published(state) else state
        state = {re.sub(r"^spynet\.", "flow.", key): value for key, value in state.items()}
        others = tuple(
            f"propagation.{part}.{key.split('.')[2]}."
            for key in state
            for part in ("backbone", "deform_align")
            if key.startswith("propagation.backbone.") and key.split(".")[2] not in self.propagation.names
        )
        left_out = ("reconstruction.", *others)
        values = {key: value.float() for key, value in state.items() if not key.startswith(left_out)}
        own = {key: value for key, value in self.state_dict().items() if key.startswith("fusion.")}
        where = f"{source} does not hold BasicVSR++'s propagation at these settings of method.front"
        load_strictly(self, values | own, where)
        mark_pretrained(self.flow)

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table."""
        return {
            "flow": [self.flow],
            "feature extraction": [self.feat_extract],
            "alignment": [self.propagation.deform_align],
            "backbones": [self.propagation.backbone],
            "fusion": [self.fusion],
        }
