"""The motion that temporal metrics are measured under: the scene's for consistency, the output's for E_warp and RWE."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vsrbench.evaluation.values import NOT_APPLICABLE, Value, unavailable
from vsrbench.flow.estimators import DIS
from vsrbench.metrics import temporal
from vsrbench.metrics.frame import quantise
from vsrbench.types import Clip

NOTHING_VISIBLE = "no pixel is visible in both frames of a pair"


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
        return unavailable(NOTHING_VISIBLE), kind
    value = temporal.consistency(torch.stack([out, following]), flow, visible)
    return float(value), kind


def warping_errors(out: Tensor, following: Tensor, clip: Clip, names: Sequence[str]) -> dict[str, Value]:
    """E_warp and RWE of one pair of output frames (``temporal.warping_error``), those of the two in ``names``.

    out, following: (3,H,W) in [0,1], frames t and t+1 of the output. clip: frames t and t+1 of the data; "rwe" does
    not apply without ground truth, which is rounded to 8 bit as the output is.

    Flow and mask are those of the output whatever ``consistency_flow`` says (VideoGigaGAN Sec. 4): under the scene's
    own flow, RWE would be the same for every method.
    ours: DIS instead of RAFT, since it needs no weights and is the same on every machine; values are not those of
    the paper for that reason.
    """
    pair = torch.stack([out, following])
    flow, visible = temporal.estimated(pair, DIS())
    frames = {"ewarp": pair, "rwe": None if clip.hr is None else quantise(clip.hr[0]) / 255}
    return {name: _warping_error(frames[name], flow, visible) for name in names}


def _warping_error(frames: Tensor | None, flow: Tensor, visible: Tensor) -> Value:
    if frames is None:
        return NOT_APPLICABLE
    if not visible.any():
        return unavailable(NOTHING_VISIBLE)
    return float(temporal.warping_error(frames, flow, visible))


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
