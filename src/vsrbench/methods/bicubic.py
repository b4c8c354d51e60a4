"""Bicubic interpolation: the floor of every comparison and the check of every protocol."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.methods.base import Method
from vsrbench.nn.imresize import enlarge, imresize
from vsrbench.types import Clip, Progress, Trace


class Bicubic(Method):
    """kernel: "matlab" (a = -0.5), "cv2" (a = -0.75, OpenCV's and torch's) or "pil" (a = -0.5, Pillow).

    Published PSNR rows are made of the first, most published no-reference values of the second: on Vid4 0.09 dB
    apart, NIQE 7.25 and 7.54 (docs/protocols.md). Raises ConfigError for another kernel.
    """

    @check_arguments("method")
    def __init__(
        self, scale: int = 4, name: str = "bicubic", kernel: Literal["matlab", "cv2", "pil"] = "matlab"
    ) -> None:
        super().__init__()
        self.scale, self.kernel = scale, kernel
        self.register_buffer("place", torch.empty(0), persistent=False)  # what knows the device

    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        if self.kernel == "matlab" and not self.exact:
            frames = enlarge(clip.lr.flatten(0, 1), self.scale).clamp_(0, 1)
            return frames.unflatten(0, clip.lr.shape[:2])
        # one frame at a time: float64 work on a whole chunk of a large film would take gigabytes
        return torch.stack([self._enlarged(clip.lr[:, t]).clamp(0, 1) for t in range(clip.frames)], dim=1)

    def _enlarged(self, frames: Tensor) -> Tensor:
        if self.kernel == "matlab":
            return imresize(frames, self.scale)
        if self.kernel == "cv2":
            return F.interpolate(frames, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return torch.stack([_by_pillow(frame, self.scale) for frame in frames]).to(frames)

    def parts(self) -> dict[str, nn.Module]:
        return {}


def _by_pillow(frame: Tensor, scale: int) -> Tensor:
    """(3,h,w) in [0,1] through 8 bits, as Pillow has images."""
    pixels = (frame * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    size = (scale * pixels.shape[1], scale * pixels.shape[0])
    enlarged = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(enlarged).permute(2, 0, 1) / 255
