"""Flow estimators behind one call: ``estimator(a, b) -> flow[a→b]`` for frames (B,3,H,W) in [0,1].

DIS, Farneback, RAFT and the data's own flow; SPyNet has its network in ``spynet.py``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_arguments
from vsrbench.errors import ConfigError
from vsrbench.nn.functional import full_precision
from vsrbench.weights.cache import fetched
from vsrbench.weights.files import read
from vsrbench.weights.report import load_strictly, no_weights


class DIS(nn.Module):
    """Dense inverse search (Kroeger et al. 2016) from OpenCV: classical, no weights, on the CPU.

    preset: ultrafast, fast or medium. Frames below 24 pixels a side are extended to that size.
    """

    @check_arguments("flow")
    def __init__(self, preset: Literal["ultrafast", "fast", "medium"] = "medium") -> None:
        super().__init__()
        self.preset = preset

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] twice → (B,2,H,W) pixels, x first."""
        import cv2

        presets = {"ultrafast": 0, "fast": 1, "medium": 2}

        def solve(first: Any, second: Any) -> Any:
            # a solver of its own for each pair: it starts from what it found last, so pairs would depend on each other
            solver = cv2.DISOpticalFlow_create(presets[self.preset])  # type: ignore[attr-defined]
            return solver.calc(first, second, None)

        return _each_pair(solve, a, b)


class Farneback(nn.Module):
    """Polynomial expansion (Farneback 2003) from OpenCV: classical, no weights, on the CPU.

    Names are those of ``cv2.calcOpticalFlowFarneback``: pyr_scale in (0,1) between the ``levels`` of the pyramid;
    winsize, the averaging window in pixels; iterations per level; poly_n and poly_sigma, the neighbourhood of the
    polynomial and its Gaussian. Frames below 24 pixels a side are extended to that size.
    """

    # ours: DGAF-VSR (Supp. Table 7) prints no settings; these are the ones of OpenCV's own example
    def __init__(
        self,
        pyr_scale: float = 0.5,
        levels: int = 3,
        winsize: int = 15,
        iterations: int = 3,
        poly_n: int = 5,
        poly_sigma: float = 1.2,
    ) -> None:
        super().__init__()
        if not 0 < pyr_scale < 1:
            raise ConfigError(f"flow.pyr_scale={pyr_scale}: use a factor between 0 and 1, such as 0.5")
        for name, value, least in [
            ("levels", levels, 1), ("winsize", winsize, 1), ("iterations", iterations, 1), ("poly_n", poly_n, 3),
        ]:  # fmt: skip
            if value < least:
                raise ConfigError(f"flow.{name}={value}: use {least} or more")
        if poly_sigma <= 0:
            raise ConfigError(f"flow.poly_sigma={poly_sigma}: use a value above 0, such as 1.2")
        self.settings = (pyr_scale, levels, winsize, iterations, poly_n, poly_sigma)

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] twice → (B,2,H,W) pixels, x first."""
        import cv2

        solve: Any = cv2.calcOpticalFlowFarneback
        return _each_pair(lambda first, second: solve(first, second, None, *self.settings, 0), a, b)


class RAFT(nn.Module):
    """RAFT (Teed and Deng 2020) from torchvision, weights by path; the estimator of StableVSR and DGAF-VSR.

    weights: a state dict of ``raft_large`` (for example torchvision's C_T_SKHT_V2 file). updates: refinement
    steps (12 in the released codes). Frames are padded to multiples of 8 and to 128 pixels a side (RAFT's
    correlation pyramid), then cropped. Raises WeightsError for a file that does not fit, and for None unless
    ``random=True`` (counting, shape tests).

    batch_statistics: as the codes released with StableVSR and DGAF-VSR, which leave RAFT in train mode: the context
    encoder's BatchNorm normalises by the mean and variance of the frame at hand instead of the trained ones.
    There the running statistics drift along; they are never read again, so here they stay as loaded.
    """

    def __init__(
        self,
        weights: str | None = None,
        random: bool = False,
        updates: int = 12,
        batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        from torchvision.models.optical_flow import raft_large

        self.updates, self.batch_statistics = updates, batch_statistics
        self.net = raft_large(weights=None)
        if weights is None and not random and (file := fetched("raft_large")):
            weights = str(file)
        if weights is not None:
            state = read(Path(weights).expanduser(), "flow.weights").tensors
            load_strictly(self.net, state, f"flow.weights={weights} does not hold raft_large's state dict")
        elif not random:
            raise no_weights(
                "flow=raft",
                "`vsrbench weights fetch raft`, or set flow.weights=FILE (or VSRBENCH_RAFT) to torchvision's "
                "raft_large state dict (raft_large_C_T_SKHT_V2-ff5fadd5.pth), or use flow=dis, which needs none",
                "flow.random=true",
            )
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "RAFT":
        """Never in train mode; only BatchNorm is, without tracking, where batch statistics are asked for."""
        super().train(False)
        for norm in self.net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.training, norm.track_running_stats = self.batch_statistics, not self.batch_statistics
        return self

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] twice → (B,2,H,W) pixels, x first; the last refinement."""
        height, width = a.shape[-2:]
        bottom = max(128, -(-height // 8) * 8) - height
        right = max(128, -(-width // 8) * 8) - width
        first, second = (F.pad(2 * x.float() - 1, (0, right, 0, bottom), mode="replicate") for x in (a, b))
        # ours: each pair has statistics of its own, as in released sampling (one pair a call); in released training
        # a flow depends on the other samples of its batch
        size = 1 if self.batch_statistics else len(a)
        with full_precision(a.device):
            flows = [
                self.net(*pair, num_flow_updates=self.updates)[-1]
                for pair in zip(first.split(size), second.split(size), strict=True)
            ]
        return torch.cat(flows)[..., :height, :width]


class Exact(nn.Module):
    """Marks that the clip's own ground-truth flow is to be used (``flow=exact``); estimates nothing."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        raise ConfigError("flow=exact needs data that know their flow (data=sample): use flow=dis or flow=raft")


def _each_pair(solve: Callable[[Any, Any], Any], a: Tensor, b: Tensor) -> Tensor:
    """OpenCV's solver on every pair (8-bit luma, extended to 24 pixels a side); flow (B,2,H,W) like ``a``."""
    import numpy as np

    height, width = a.shape[-2:]
    pad = (0, max(0, 24 - width), 0, max(0, 24 - height))
    grey = [_grey8(F.pad(frames, pad, mode="replicate")) for frames in (a, b)]
    flows = [solve(first, second) for first, second in zip(*grey, strict=True)]
    stacked = rearrange(torch.from_numpy(np.stack(flows)), "n h w xy -> n xy h w")[..., :height, :width]
    return stacked.to(a.device, a.dtype).contiguous()


def _grey8(frames: Tensor) -> Any:
    """(B,3,H,W) in [0,1] → uint8 (B,H,W) of BT.601 luma."""
    weights = frames.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return ((frames * weights).sum(1).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
