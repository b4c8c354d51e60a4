"""VMAF 0.6.1 (Netflix), a score of a clip against its ground truth; only where the package vmaf-torch is installed."""

import importlib.util
from typing import Any

import torch
from torch import Tensor

from vsrbench.metrics.frame import luma

AT_ONCE = 8  # ours: frames whose features are computed together


def why_no_vmaf() -> str | None:
    """One line with the remedy where VMAF cannot be computed, else None."""
    if importlib.util.find_spec("vmaf_torch") is None:
        return "the package vmaf_torch is not installed: pip install 'vsrbench[vmaf]'"
    return None


class Vmaf:
    """Mean over the frames of a clip of VMAF with its default model (v0.6.1), each clipped to 0..100; higher is better.

    It sees luma of 16..235 in whole numbers, as the tool reads from 8-bit video; its motion feature is the ground
    truth's, between neighbouring frames.
    """

    def __init__(self, device: str = "cpu") -> None:
        from vmaf_torch import VMAF

        self.device = device
        self.net: Any = VMAF(clip_score=True).to(device).eval()

    @torch.no_grad()
    def __call__(self, out: Tensor, truth: Tensor) -> float:
        """uint8 (T,3,H,W) RGB twice."""
        theirs, ours = (luma(frames).round().float() for frames in (truth, out))
        motion = self.net.compute_motion2(theirs.to(self.device))
        pieces = []
        for first, second in zip(theirs.split(AT_ONCE), ours.split(AT_ONCE), strict=True):
            pair = first.to(self.device), second.to(self.device)
            pieces.append((self.net.compute_adm_score(*pair), self.net.compute_vif_features(*pair)))
        adm, vif = (torch.cat(part) for part in zip(*pieces, strict=True))
        return float(self.net.predict(adm, motion, vif).double().mean())
