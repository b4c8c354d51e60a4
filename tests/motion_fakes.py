"""Frames whose motion is known, and clips of them."""

import torch

from vsrbench.types import Clip


def texture(height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    """A smooth random picture (3,H,W) in [0,1]."""
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)[0]


def constant_flow(dx: float, dy: float, pairs: int, height: int, width: int) -> torch.Tensor:
    return torch.tensor([dx, dy], dtype=torch.float32).view(1, 2, 1, 1).expand(pairs, 2, height, width).clone()


def everything(flow: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(flow[:, 0], dtype=torch.bool)


def moving(step: int = 2, frames: int = 3, height: int = 64, width: int = 96, shift: int = 0) -> torch.Tensor:
    """Crops (T,3,H,W) of a larger picture, which moves ``step`` pixels to the right per frame, ``shift`` ahead."""
    wide = texture(height, width + 64, 2)
    return torch.stack([wide[..., 64 - step * t - shift :][..., :width] for t in range(frames)])


def noisy(frames: torch.Tensor, strength: float = 0.1, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(seed))
    return (frames + strength * noise).clamp(0, 1)


def clip_of(hr: torch.Tensor | None, lr: torch.Tensor, step: float | None = None) -> Clip:
    """One sample; hr (T,3,4h,4w) or None, lr (T,3,h,w); step: exact motion to the right in HR pixels per frame."""
    frames, _, height, width = lr.shape
    flow = None if step is None else constant_flow(step / 4, 0, frames - 1, height, width)[None]
    return Clip(
        lr=lr[None],
        hr=None if hr is None else hr[None],
        name=["clip"],
        index=torch.arange(frames)[None],
        scale=4,
        flow_forward=flow,
        flow_backward=None if flow is None else -flow,
        occlusion=None if flow is None else torch.zeros(1, frames - 1, 2, height, width, dtype=torch.bool),
    )


def moving_clip(step: int = 4, frames: int = 6, exact: bool = False) -> Clip:
    """A picture that moves to the right, with its LR frames; exact: the data know the motion."""
    hr = (moving(step, frames) * 255).round() / 255
    return clip_of(hr, torch.nn.functional.avg_pool2d(hr, 4), step if exact else None)
