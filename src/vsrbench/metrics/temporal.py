"""Consistency in time: how far consecutive output frames differ once the true motion is undone."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from vsrbench.errors import DataError
from vsrbench.flow.warp import consistent, inside, resize_flow, warp

# ours: values are printed x 1000, as the published warping errors are; they lie between 0.1 and 10 then.
FACTOR = 1000.0


def consistency(frames: Tensor, flow_forward: Tensor, visible: Tensor) -> Tensor:
    """Masked warping error of consecutive frames under given motion; lower is better, 0 is perfect.

    frames: (T,3,H,W) RGB in [0,1], what a method wrote. flow_forward: (T-1,2,H,W), flow[t→t+1] of the
    scene in pixels of this grid. visible: bool (T-1,H,W), pixels of frame t that count.
    Returns float64 (T-1,): mean of squared differences between frame t and frame t+1 brought onto its
    grid, over visible pixels and the three channels, x 1000.
    Raises DataError for shapes that do not fit and for a pair without a visible pixel.

    ours: the flow is that of the scene (exact, or of the ground truth), never of the output: an output
    that moves wrongly must not excuse itself. Squared differences are divided by 3 x visible pixels.
    """
    pairs = frames.shape[0] - 1
    size = tuple(frames.shape[-2:])
    if tuple(flow_forward.shape) != (pairs, 2, *size) or tuple(visible.shape) != (pairs, *size):
        raise DataError(
            f"{pairs + 1} frames of {size} need flow ({pairs},2,H,W) and a mask ({pairs},H,W) of that size, "
            f"got {tuple(flow_forward.shape)} and {tuple(visible.shape)}"
        )
    count = visible.sum(dim=(1, 2))
    if (count == 0).any():
        raise DataError("no pixel is visible in both frames: consistency is not defined for this pair")
    brought = warp(frames[1:], flow_forward, padding="border")
    error = (brought.double() - frames[:-1].double()).square().sum(dim=1)
    return FACTOR * (error * visible).sum(dim=(1, 2)) / (3 * count)


def warping_error(frames: Tensor, flow_forward: Tensor, visible: Tensor) -> Tensor:
    """E_warp and RWE of VideoGigaGAN (Sec. 4, Eq. 3 and 4), which differ only in the frames; lower is better.

    frames: (T,3,H,W) RGB in [0,1]; the output for E_warp, the ground truth for RWE. flow_forward (T-1,2,H,W) and
    visible (T-1,H,W): flow[t→t+1] and mask M_t, both from ``estimated(output, estimator)`` in either case: RWE asks
    whether the motion of the output carries one frame of the ground truth to the next, so a black clip has E_warp 0
    and an RWE as large as the ground truth moves. The ground truth as output has RWE = E_warp, above 0 on
    real footage.
    Returns float64 (T-1,): squared difference of frame t and frame t+1 brought onto its grid, summed over the
    channels, mean over visible pixels, x 1000; between 0 and 3000. Raises DataError as ``consistency`` does.

    ours: channels are summed, as the norm of the equations reads; whether the printed values are is not said, and
    the code of Lai et al. averages them. An indication for the sum: StableVSR on REDS4 has E_warp 3.957 in Figure 6,
    but WE 1.51 in its own paper, a channel mean under other flow.
    ours: M_t is the forward-backward check of Ruder et al. alone (with pixels that leave the frame out). Their motion
    boundaries stay in: the text says "non-occluded", and a boundary is visible in both frames.
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


def estimated(frames: Tensor, estimator: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Motion of frames whose exact flow is not known: ground truth, or an output for ``warping_error``.

    frames: (T,3,H,W) in [0,1]; estimator(a, b) gives flow[a→b]. Returns flow[t→t+1] (T-1,2,H,W) and the mask
    of pixels where it agrees with the flow back (Ruder et al. 2016), bool (T-1,H,W).
    """
    forward = estimator(frames[:-1], frames[1:])
    return forward, consistent(forward, estimator(frames[1:], frames[:-1])).squeeze(1)
