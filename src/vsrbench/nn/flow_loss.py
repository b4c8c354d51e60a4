"""The error of flow itself, for networks that learn to move while they learn to upscale."""

import torch
from torch import Tensor

from vsrbench.flow.warp import warp
from vsrbench.types import Clip


def flow_error(clip: Clip, to_next: Tensor, to_previous: Tensor) -> Tensor:
    """Mean endpoint error in LR pixels against exact flow; without it the error of the LR frames warped by the flow.

    to_next, to_previous: flow[t→t+1] and flow[t+1→t] (B,T-1,2,h,w). # ours: a flow network that starts from nothing
    learns motion from this much sooner than from the upscaled frames.
    """
    if clip.flow_forward is not None and clip.flow_backward is not None:
        error = torch.stack([to_next - clip.flow_forward, to_previous - clip.flow_backward])
        return (error.square().sum(dim=3) + 1e-6).sqrt().mean()
    earlier, later = clip.lr[:, :-1].flatten(0, 1), clip.lr[:, 1:].flatten(0, 1)
    forward = warp(later, to_next.flatten(0, 1), padding="border") - earlier
    backward = warp(earlier, to_previous.flatten(0, 1), padding="border") - later
    return (torch.stack([forward, backward]).square() + 1e-12).sqrt().mean()
