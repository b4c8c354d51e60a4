"""tOF and tLPIPS: does the output change from frame to frame as the ground truth does? In both families of papers."""

from collections.abc import Callable

from torch import Tensor

FlowNet = Callable[[Tensor, Tensor], Tensor]
SKIP = 2  # frames that TecoGAN's script leaves out at either end of a clip


def tof_tecogan(flow_out: Tensor, flow_truth: Tensor) -> Tensor:
    """tOF of TecoGAN (Chu et al. 2020), ``metrics.py``: mean length of the difference of two flows; lower is better.

    flow_out, flow_truth: (N,2,H,W) in pixels, flow[t→t+1] of the output and of the ground truth by Farneback
    (0.5, 3, 15, 3, 5, 1.2, the defaults of ``flow.estimators.Farneback``). The flows are cut to ``inner`` first.
    Returns float64 (N,), pixels.
    """
    return (inner(flow_out).double() - inner(flow_truth).double()).square().sum(1).sqrt().mean((1, 2))


def tof_stablevsr(flow_out: Tensor, flow_truth: Tensor) -> Tensor:
    """tOF of StableVSR's and DGAF-VSR's ``eval.py``: mean absolute difference of two flows x 10; lower is better.

    flow_out, flow_truth: (N,2,H,W) in pixels, flow[t+1→t] by RAFT as ``released`` feeds it. Mean over pixels and both
    components. Returns float64 (N,), tenths of a pixel.
    """
    return 10 * (flow_out.double() - flow_truth.double()).abs().mean((1, 2, 3))


def tlpips_tecogan(out: Tensor, truth: Tensor) -> Tensor:
    """tLP of TecoGAN: |LPIPS(truth_t, truth_t+1) - LPIPS(out_t, out_t+1)| x 100; lower is better.

    out, truth: (N,), LPIPS (AlexNet) between the neighbours of the output and of the ground truth, of frames cut to
    ``inner``.
    """
    return 100 * (truth - out).abs()


def tlpips_stablevsr(out: Tensor, truth: Tensor) -> Tensor:
    """tLPIPS of StableVSR's and DGAF-VSR's ``eval.py``: as ``tlpips_tecogan``, of whole frames, x 1000."""
    return 1000 * (truth - out).abs()


def inner(frames: Tensor) -> Tensor:
    """The middle of (...,H,W) that TecoGAN's script takes: the largest multiples of 32 pixels that leave 16 or more.

    Frames too small for that (below 48 pixels a side) are evaluated whole (ours: the script would keep nothing).
    """
    height, width = (32 * ((n - 16) // 32) or n for n in frames.shape[-2:])
    top, left = ((n - size) // 2 for n, size in zip(frames.shape[-2:], (height, width), strict=True))
    return frames[..., top : top + height, left : left + width]


def released(estimator: FlowNet) -> FlowNet:
    """RAFT fed as StableVSR's codes feed it: [0,1] where the network expects [-1,1].

    estimator: takes [0,1] and brings it to [-1,1] itself (``flow.estimators.RAFT``).
    """
    return lambda a, b: estimator((a + 1) / 2, (b + 1) / 2)
