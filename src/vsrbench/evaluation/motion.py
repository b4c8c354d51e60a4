"""The scene's motion that consistency in time is measured under."""

import torch
from torch import Tensor

from vsrbench.evaluation.values import NOT_APPLICABLE, Value, unavailable
from vsrbench.flow.estimators import DIS
from vsrbench.metrics import temporal
from vsrbench.types import Clip


def consistency(out: Tensor, following: Tensor, clip: Clip, switch: str) -> tuple[Value, str]:
    """Consistency of one pair of output frames, and which motion it was measured under.

    out, following: (3,H,W) in [0,1], frames t and t+1 of the output. clip: frames t and t+1 of the data.
    switch: the protocol's ``consistency_flow``. Returns the value and "exact", "dis" or "not_applicable"
    (no motion of the kind that the protocol allows: no ground truth, or no exact flow).
    """
    kind = motion_kind(clip, switch)
    if kind == NOT_APPLICABLE:
        return NOT_APPLICABLE, kind
    flow, visible = _exact(clip) if kind == "exact" else _estimated(clip)
    if not visible.any():
        return unavailable("no pixel is visible in both frames of a pair"), kind
    value = temporal.consistency(torch.stack([out, following]), flow, visible)
    return float(value), kind


def motion_kind(clip: Clip, switch: str) -> str:
    """What a protocol's ``consistency_flow`` means for this clip: "exact", "dis" or "not_applicable"."""
    if switch != "dis" and clip.flow_forward is not None:
        return "exact"
    if switch != "exact" and clip.hr is not None:
        return "dis"
    return NOT_APPLICABLE


def _exact(clip: Clip) -> tuple[Tensor, Tensor]:
    assert clip.flow_forward is not None
    flow = clip.flow_forward[0]
    hidden = torch.zeros_like(flow[:, 0], dtype=torch.bool) if clip.occlusion is None else clip.occlusion[0, :, 0]
    return temporal.on_hr_grid(flow, hidden, clip.scale)


def _estimated(clip: Clip) -> tuple[Tensor, Tensor]:
    """ours: DIS at HR on the ground truth, since it needs no weights and is the same on every machine."""
    assert clip.hr is not None
    return temporal.estimated(clip.hr[0], DIS())
