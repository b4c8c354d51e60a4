"""The flows between neighbouring frames of a clip, each pair computed once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vsrbench.flow.estimators import Exact
from vsrbench.flow.warp import resize_flow
from vsrbench.types import Clip


@dataclass(frozen=True)
class FlowBank:
    """to_previous[:, t] = flow[t+1→t], to_next[:, t] = flow[t→t+1]; both (B,T-1,2,H,W) in pixels of that grid."""

    to_previous: Tensor
    to_next: Tensor

    def toward(self, frame: int, neighbour: int) -> Tensor:
        """flow[frame→neighbour] (B,2,H,W) for neighbouring frame numbers within the clip; ValueError for others."""
        pairs = self.to_next.shape[1]
        if neighbour == frame - 1 and 0 <= neighbour < pairs:
            return self.to_previous[:, neighbour]
        if neighbour == frame + 1 and 0 <= frame < pairs:
            return self.to_next[:, frame]
        raise ValueError(f"no flow from frame {frame} to {neighbour}: neighbours within {pairs + 1} frames are kept")


def clip_flows(clip: Clip, estimator: nn.Module, frames: Tensor) -> FlowBank:
    """Flows of a clip on the grid of ``frames`` (B,T,3,H,W), the clip's frames as the estimator is to see them.

    ``Exact`` takes the clip's own flow and resizes it. Each pair is estimated by itself, so a flow never
    depends on which other frames are in the clip.
    """
    height, width = frames.shape[-2:]
    batch, count = frames.shape[:2]
    if isinstance(estimator, Exact):
        if clip.flow_forward is None or clip.flow_backward is None:
            estimator(frames[:, 0], frames[:, 0])  # raises its own error
        assert clip.flow_forward is not None and clip.flow_backward is not None
        resized = [
            resize_flow(flow.flatten(0, 1), (height, width)).unflatten(0, (batch, count - 1))
            for flow in (clip.flow_backward, clip.flow_forward)
        ]
        return FlowBank(*resized)
    empty = frames.new_zeros(batch, 0, 2, height, width)
    previous = [estimator(frames[:, t + 1], frames[:, t]) for t in range(count - 1)]
    following = [estimator(frames[:, t], frames[:, t + 1]) for t in range(count - 1)]
    if count == 1:
        return FlowBank(empty, empty)
    return FlowBank(torch.stack(previous, 1), torch.stack(following, 1))
