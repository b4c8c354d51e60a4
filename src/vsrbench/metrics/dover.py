"""DOVER (Wu et al. 2023), a score of a whole clip without reference; only where its package is installed."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vsrbench.metrics.perceptual import VARIABLE, find, weights_folder
from vsrbench.weights.files import read
from vsrbench.weights.report import load_strictly

FILE = "dover/DOVER.pth"
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# The published options for videos of any size (dover.yml, val-l1080p).
NETWORK: dict[str, Any] = {
    "backbone": {
        "technical": {"type": "swin_tiny_grpb", "checkpoint": True, "pretrained": None},
        "aesthetic": {"type": "conv_tiny"},
    },
    "backbone_preserve_keys": "technical,aesthetic",
    "divide_head": True,
    "vqa_head": {"in_channels": 768, "hidden_channels": 64},
}
VIEWS: dict[str, dict[str, int]] = {
    "technical": {
        "fragments_h": 7, "fragments_w": 7, "fsize_h": 32, "fsize_w": 32, "aligned": 32,
        "clip_len": 32, "frame_interval": 2, "num_clips": 3,
    },
    "aesthetic": {"size_h": 224, "size_w": 224, "clip_len": 32, "frame_interval": 2, "t_frag": 32, "num_clips": 1},
}  # fmt: skip


def why_no_dover(folder: Path | None = None) -> str | None:
    """One line with the remedy where DOVER cannot be computed, else None."""
    folder = folder or weights_folder()
    if importlib.util.find_spec("dover") is None:
        return "the package dover is not installed: pip install git+https://github.com/VQAssessment/DOVER"
    if find(FILE, folder) is None:
        return f"{folder / FILE} is missing: put the file of VQAssessment/DOVER there ({VARIABLE} moves the folder)"
    return None


class Dover:
    """The package's network and views over frames in memory. Its licence is S-Lab 1.0, non-commercial.

    ours: the technical view cuts patches at random places; torch's generator is seeded for each clip and put back
    afterwards, so a clip has one score.
    """

    def __init__(self, device: str = "cpu", folder: Path | None = None) -> None:
        from dover.models import DOVER

        path = find(FILE, folder or weights_folder())
        self.device = device
        self.net: Any = DOVER(**NETWORK).to(device).eval()
        load_strictly(self.net, read(path or Path(FILE)).tensors, f"{path} does not fit DOVER")

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> float:
        """Fused score in 0..1, higher is better, of uint8 (T,3,H,W), all frames of a clip."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            views = {name: self._view(frames, name) for name in VIEWS}
        technical, aesthetic = (float(part.mean()) for part in self.net(views))
        return fused(technical, aesthetic)

    def _view(self, frames: Tensor, name: str) -> Tensor:
        """Sampled, cut or resized, normalised frames (clips,3,T,h,w)."""
        from dover.datasets import UnifiedFrameSampler, get_single_view

        options = VIEWS[name]
        length, parts = options["clip_len"], options.get("t_frag", 1)
        sampler = (
            UnifiedFrameSampler(length // parts, parts, options["frame_interval"], options["num_clips"])
            if "t_frag" in options
            else UnifiedFrameSampler(length, options["num_clips"], options["frame_interval"])
        )
        indices = torch.as_tensor(sampler(len(frames), False))
        view = get_single_view(rearrange(frames[indices].float(), "t c h w -> c t h w"), name, **options)
        mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (MEAN, STD))
        parts = rearrange((view - mean) / std, "c (n t) h w -> n c t h w", n=options["num_clips"])
        return parts.to(self.device)


def fused(technical: float, aesthetic: float) -> float:
    """One score of the two, with the constants of the package's ``evaluate_one_video.py``."""
    x = (technical - 0.1107) / 0.07355 * 0.6104 + (aesthetic - 0.08285) / 0.03774 * 0.3896
    return 1 / (1 + math.exp(-x))
