"""A clip in memory that obeys the data's contract, and frames on disk to evaluate."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vsrbench.data.sources import Source, Window
from vsrbench.evaluation.frames import encode
from vsrbench.evaluation.protocol import Protocol, select
from vsrbench.types import Clip

SWITCHES = {
    "split": "test",
    "metrics": ["psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y", "sharpness", "consistency"],
    "container": "png",
    "order": "rgb",
    "quantisation": "round_half_up",
    "luma": "bt601_studio",
    "psnr": "mean_of_decibels",
    "ssim": "gaussian_11_1.5_valid",
    "channel": "rgb",
    "crop": 0,
    "window": None,
    "frames": "convention",
    "trim": 0,
    "averaging": "clips",
    "scene_flow": "exact_or_estimated",
    "flow": "dis",
    "mask": "occlusion",
}
DEGRADATION = {"_target_": "some.Class", "name": "bicubic", "path": "double"}


class MemorySource(Source):
    """hr: (T,3,2h,2w) 8-bit values in [0,1]; flow: (T-1,2,h,w) exact forward flow, or None."""

    def __init__(self, name: str, hr: Tensor, flow: Tensor | None = None, known: bool = True) -> None:
        self.name, self.hr, self.flow, self.known = name, hr, flow, known
        self.scale = 2
        self.frame_names = [f"{n:04d}" for n in range(len(hr))]
        self.longest_read = 0

    @property
    def size(self) -> tuple[int, int]:
        return self.hr.shape[2] // 2, self.hr.shape[3] // 2

    @property
    def has_hr(self) -> bool:
        return self.known

    def load(self, positions: Sequence[int], window: Window | None = None) -> Clip:
        self.longest_read = max(self.longest_read, len(positions))
        hr = self.hr[list(positions)][None]
        flow = None if self.flow is None else self.flow[list(positions)[:-1]][None]
        return Clip(
            lr=hr[..., ::2, ::2],
            hr=hr if self.known else None,
            name=[self.name],
            index=torch.tensor([list(positions)]),
            scale=2,
            flow_forward=flow,
        )


def pictures(frames: int, size: tuple[int, int] = (32, 40), seed: int = 0) -> Tensor:
    """Smooth random frames (T,3,H,W), 8-bit values in [0,1]."""
    coarse = torch.rand(frames, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (fine * 255).round() / 255


def blurred(frames: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False)


@pytest.fixture
def make_source() -> Callable[..., MemorySource]:
    """make_source(name, frames=3, seed=0, still=False, **more)"""

    def make(name: str, frames: int = 3, seed: int = 0, still: bool = False, **more) -> MemorySource:
        hr = pictures(1, seed=seed).expand(frames, 3, 32, 40) if still else pictures(frames, seed=seed)
        return MemorySource(name, hr.clone(), **more)

    return make


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """write(source, frames=None): frames (default: the blurred ground truth) in tmp_path/out/<clip>/."""

    def write_clip(source: MemorySource, frames: Tensor | None = None) -> Path:
        folder = tmp_path / "out" / source.name
        folder.mkdir(parents=True, exist_ok=True)
        for stem, frame in zip(source.frame_names, blurred(source.hr) if frames is None else frames, strict=True):
            (folder / f"{stem}.png").write_bytes(encode(frame))
        return tmp_path / "out"

    return write_clip


@pytest.fixture
def make_protocol() -> Callable[..., Protocol]:
    """make_protocol(switch=value, ..., block={...}): for data=memory at scale 2."""

    def make(id: str = "test", scale: int = 2, degradation=DEGRADATION, block=None, **changes) -> Protocol:
        node = {"id": id, "switches": {**SWITCHES, **changes}, "blocks": {"memory": block or {}}}
        return select(node, "memory", degradation, scale)

    return make
