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

    @classmethod
    def empty(cls, clip: Clip) -> "FlowBank":
        """No flow at all, for work that asks for none."""
        none = clip.lr.new_zeros(clip.lr.shape[0], 0, 2, *clip.lr.shape[-2:])
        return cls(none, none)

    def flow_to(self, frame: int, neighbour: int) -> Tensor:
        """flow[frame→neighbour] (B,2,H,W) for neighbouring frame numbers within the clip; ValueError for others."""
        pairs = self.to_next.shape[1]
        if neighbour == frame - 1 and 0 <= neighbour < pairs:
            return self.to_previous[:, neighbour]
        if neighbour == frame + 1 and 0 <= frame < pairs:
            return self.to_next[:, frame]
        raise ValueError(f"no flow from frame {frame} to {neighbour}: neighbours within {pairs + 1} frames are kept")


def pair_flow(estimator: nn.Module, a: Tensor, b: Tensor, exact: Tensor | None) -> Tensor:
    """flow[a→b] on the grid of ``a`` (B,3,H,W). exact: the data's own flow (B,2,h,w), which ``Exact`` takes."""
    if isinstance(estimator, Exact) and exact is not None:
        return resize_flow(exact, (a.shape[-2], a.shape[-1]))
    return estimator(a, b)  # Exact raises its own error here


def clip_flows(clip: Clip, estimator: nn.Module, frames: Tensor) -> FlowBank:
    """Flows of a clip on the grid of ``frames`` (B,T,3,H,W), the clip's frames as the estimator is to see them.

    ``Exact`` takes the clip's own flow and resizes it. Each pair is estimated by itself, so a flow never
    depends on which other frames are in the clip.
    """
    count = frames.shape[1]
    if count == 1:
        empty = frames.new_zeros(len(frames), 0, 2, *frames.shape[-2:])
        return FlowBank(empty, empty)

    def exact(flow: Tensor | None, t: int) -> Tensor | None:
        return None if flow is None else flow[:, t]

    previous, following = [], []
    for t in range(count - 1):
        previous.append(pair_flow(estimator, frames[:, t + 1], frames[:, t], exact(clip.flow_backward, t)))
        following.append(pair_flow(estimator, frames[:, t], frames[:, t + 1], exact(clip.flow_forward, t)))
    return FlowBank(torch.stack(previous, 1), torch.stack(following, 1))
