"""Bicubic interpolation: the floor of every comparison and the check of every protocol."""

import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import NoiseSource
from vsrbench.methods.base import Method
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip, Progress, Trace


class Bicubic(Method):
    """MATLAB's bicubic kernel (a = -0.5), the one published PSNR rows are made of.

    Papers' no-reference rows use a = -0.75 instead, see docs/protocols.md.
    """

    def __init__(self, scale: int = 4, name: str = "bicubic") -> None:
        super().__init__()
        self.scale = scale

    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        # one frame at a time: float64 work on a whole chunk of a large film would take gigabytes
        frames = [imresize(clip.lr[:, t], self.scale).clamp(0, 1) for t in range(clip.frames)]
        return torch.stack(frames, dim=1)

    def parts(self) -> dict[str, nn.Module]:
        return {}
