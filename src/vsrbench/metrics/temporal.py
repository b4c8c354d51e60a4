"""Warping errors: how far consecutive frames differ once motion is undone, in each paper's own definition."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from vsrbench.errors import DataError
from vsrbench.flow.warp import inside, resize_flow, warp
from vsrbench.metrics.masks import visible as visible_pixels

# ours: values are given x 1000, as the published warping errors are; they lie between 0.1 and 10 then.
FACTOR = 1000.0


def consistency(frames: Tensor, flow_forward: Tensor, visible: Tensor) -> Tensor:
    """Masked warping error of consecutive frames under given motion; lower is better, 0 is perfect.

    frames: (T,3,H,W) RGB in [0,1], what a method wrote. flow_forward: (T-1,2,H,W), flow[t→t+1] of the
    scene in pixels of this grid. visible: bool (T-1,H,W), pixels of frame t that count.
    Returns float64 (T-1,): mean of squared differences between frame t and frame t+1 warped onto its
    grid, over visible pixels and the three channels, x 1000.
    Raises DataError for shapes that do not fit and for a pair without a visible pixel.

    ours: the flow is that of the scene (exact, or of the ground truth), never of the output: an output
    that moves wrongly must not excuse itself. Squared differences are divided by 3 x visible pixels.
    """
    _check(frames, flow_forward, visible)
    return _masked(frames[:-1], warp(frames[1:], flow_forward, padding="border"), visible)


def lai(frames: Tensor, flow_forward: Tensor, visible: Tensor) -> Tensor:
    """Warping error of Lai et al. (2018), "Learning Blind Video Temporal Consistency", Sec. 4.3; lower is better.

    frames: (T,3,H,W) in [0,1], the output. flow_forward (T-1,2,H,W): flow[t→t+1] of the input video, which is
    the ground truth here, or exact. visible: their mask, ``masks.visible(..., "lai")``, or the data's own. Returns
    float64 (T-1,): mean over visible pixels and channels of the squared difference, x 1000 (they report it x 1).
    Raises DataError as ``consistency`` does, of which this is the case without a choice of flow and mask.

    ours: no JPEG between output and metric (their script reads JPEG frames); a pair without a visible pixel has no
    value (their script counts it as 0). Their flow is FlowNet2's.
    """
    return consistency(frames, flow_forward, visible)


def stablevsr(frames: Tensor, flow_backward: Tensor, visible: Tensor) -> Tensor:
    """WE as in StableVSR's released ``warp_error``; lower is better.

    frames: (T,3,H,W) in [0,1], the output. flow_backward (T-1,2,H,W): flow[t+1→t] of the ground truth. visible:
    ``masks.visible(flow_backward, flow_forward, "stablevsr")``, of frame t+1.
    Returns float64 (T-1,): squared difference of frame t+1 and frame t warped onto its grid, mean over visible pixels
    and channels, x 1000. Raises DataError as ``consistency`` does.

    The warp is the released one: it reads up to half a pixel beside the position and black outside the frame, so
    identical frames under zero flow have a WE above 0, up to the size of what the paper reports. ``lai`` is the
    same quantity with a correct warp.
    """
    _check(frames, flow_backward, visible)
    return _masked(frames[1:], warp(frames[:-1], flow_backward, "released"), visible)


def features(maps: Tensor, flow_forward: Tensor, visible: Tensor) -> Tensor:
    """E_warp of the thesis as we read it: the warping error of features instead of pixels; lower is better.

    maps: (T,C,h,w), features of the output, of length 1 over the channels (``features.VGGFeatures``). flow_forward
    (T-1,2,H,W) and visible (T-1,H,W): the reference's motion on the frames' grid. Returns float64 (T-1,): mean over
    visible positions of the squared difference, summed over the channels, x 1000; between 0 and 4000.
    Raises DataError as ``consistency`` does.

    ours, all of it: the thesis (Sec. 3.3) says that features of a VGG16 are extracted frame by frame, that the metric
    says "how well temporal correspondences align between the generated video and the reference sequence", and
    reports values x 1000. No formula, layer, flow or mask is given, so its reported values cannot be met.
    """
    small = resize_flow(flow_forward, (maps.shape[-2], maps.shape[-1]))
    mask = F.interpolate(visible.unsqueeze(1).float(), size=small.shape[-2:], mode="area").squeeze(1) == 1
    _check(maps, small, mask)
    return maps.shape[1] * _masked(maps[:-1], warp(maps[1:], small, padding="border"), mask)


def _check(frames: Tensor, flow: Tensor, visible: Tensor) -> None:
    pairs, size = frames.shape[0] - 1, tuple(frames.shape[-2:])
    if tuple(flow.shape) != (pairs, 2, *size) or tuple(visible.shape) != (pairs, *size):
        raise DataError(
            f"{pairs + 1} frames of {size} need flow ({pairs},2,H,W) and a mask ({pairs},H,W) of that size, "
            f"got {tuple(flow.shape)} and {tuple(visible.shape)}"
        )
    if (visible.sum(dim=(1, 2)) == 0).any():
        raise DataError("no pixel is visible in both frames: consistency is not defined for this pair")


def _masked(here: Tensor, warped: Tensor, visible: Tensor) -> Tensor:
    """Mean squared difference over visible pixels and channels, x 1000, of each pair."""
    error = (warped.double() - here.double()).square().mean(dim=1)
    return FACTOR * (error * visible).sum(dim=(1, 2)) / visible.sum(dim=(1, 2))


def warping_error(frames: Tensor, flow_forward: Tensor, visible: Tensor) -> Tensor:
    """E_warp and RWE of VideoGigaGAN (Sec. 4, Eq. 3 and 4), which differ only in the frames; lower is better.

    frames: (T,3,H,W) RGB in [0,1]; the output for E_warp, the ground truth for RWE. flow_forward (T-1,2,H,W) and
    visible (T-1,H,W): flow[t→t+1] and mask M_t, both from ``estimated(output, estimator)`` in either case: RWE asks
    whether the motion of the output carries one frame of the ground truth to the next, so a black clip has E_warp 0
    and an RWE as large as the ground truth moves. The ground truth as output has RWE = E_warp, above 0 on
    real footage.
    Returns float64 (T-1,): squared difference of frame t and frame t+1 warped onto its grid, summed over the
    channels, mean over visible pixels, x 1000; between 0 and 3000. Raises DataError as ``consistency`` does.

    ours: channels are summed, as the norm of the equations reads; whether the reported values are is not said, and
    the code of Lai et al. averages them. An indication for the sum: StableVSR on REDS4 has E_warp 3.957 in Figure 6,
    but WE 1.51 in its own paper, a channel mean under other flow.
    ours: M_t is by default the forward-backward check of Ruder et al. alone (with pixels that leave the frame out):
    the text says "non-occluded", and a motion boundary is visible in both frames. ``masks.visible`` with "ruder" leaves
    boundaries out as well, which is the other reading of the citation.
    """
    return 3 * consistency(frames, flow_forward, visible)


def on_hr_grid(flow: Tensor, occluded: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Exact flow and occlusion of the LR grid on the HR grid.

    flow: (N,2,h,w) in LR pixels; occluded: bool (N,h,w). Returns the flow (N,2,sh,sw) in HR pixels
    (bilinear between pixel centres) and the mask of visible pixels, bool (N,sh,sw).

    ours: the occluded area grows by one LR pixel in each direction, since at its rim a bilinear flow
    mixes two motions; pixels that leave the frame do not count.
    """
    height, width = (scale * n for n in flow.shape[-2:])
    fine = resize_flow(flow, (height, width))
    grown = F.max_pool2d(occluded.unsqueeze(1).float(), kernel_size=3, stride=1, padding=1)
    hidden = F.interpolate(grown, scale_factor=scale, mode="nearest") > 0
    return fine, (inside(fine) & ~hidden).squeeze(1)


def estimated(
    frames: Tensor, estimator: Callable[[Tensor, Tensor], Tensor], mask: str = "occlusion"
) -> tuple[Tensor, Tensor]:
    """Motion of frames whose exact flow is not known: ground truth, or an output for ``warping_error``.

    frames: (T,3,H,W) in [0,1]; estimator(a, b) gives flow[a→b]; mask: a rule of ``masks.visible``. Returns
    flow[t→t+1] (T-1,2,H,W) and the mask of pixels that count, bool (T-1,H,W).
    """
    forward = estimator(frames[:-1], frames[1:])
    return forward, visible_pixels(forward, estimator(frames[1:], frames[:-1]), mask)
