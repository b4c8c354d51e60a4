"""Small priors, methods and clips for tests of the latent methods."""

import copy
from functools import cache
from typing import Any

import vsrbench  # noqa: F401  # isort: skip  (before Lightning: see vsrbench.compat)
import torch
from torch import Tensor, nn

from vsrbench.config import build, compose
from vsrbench.diffusion.prior import Prior
from vsrbench.types import Clip

PLACES = ("encoder", "middle", "decoder")


@cache
def _prior(size: str) -> Prior:
    return build(compose(["method=ldm", f"size={size}"], verb="eval").prior)


def prior(size: str = "tiny") -> Prior:
    """A prior of its own for every caller; ``tiny`` has seeded random weights, ``mini`` the shipped ones."""
    return copy.deepcopy(_prior(size))


def method(name: str, *overrides: str, size: str = "tiny") -> Any:
    """A method as the configuration builds it, in eval mode; what starts at random is the same every time."""
    torch.manual_seed(0)
    built = build(compose([f"method={name}", f"size={size}", *overrides], verb="eval").method)
    return built.eval()


def module(name: str, *overrides: str, size: str = "tiny") -> Any:
    """The training of a method as the configuration builds it, likewise; the method itself is its ``method``."""
    cfg = compose([f"method={name}", f"size={size}", *overrides], verb="train")
    torch.manual_seed(0)
    return build(cfg.module, method=build(cfg.method)).eval()


def awake(guide: nn.Module, seed: int = 0, scale: float = 0.05) -> None:
    """Give an untrained guide's zero convolutions (and its zero input channels) random weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            if name.startswith("zero_") or name == "net.conv_in.weight":
                parameter += scale * torch.randn(parameter.shape, generator=generator)


def texture(frame: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Frame (3,H,W) in [0,1] of a smooth picture that moves by a pixel and a half per frame."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.meshgrid(torch.arange(width) + 1.5 * frame, torch.arange(height) - 0.5 * frame, indexing="xy")
    picture = torch.zeros(3, height, width)
    for _ in range(12):
        across, down = (torch.rand(2, generator=generator) - 0.5) * 1.2
        picture += torch.sin(across * x + down * y + 6.28 * torch.rand(3, 1, 1, generator=generator))
    return (picture / 10 + 0.5).clamp(0, 1)


def make_clip(frames: int = 3, size: tuple[int, int] = (16, 16), batch: int = 1, seed: int = 0) -> Clip:
    """A batch of moving textures with ground truth, scale 4; each sample has its own picture and name."""
    height, width = size
    hr = torch.stack(
        [torch.stack([texture(4 * t, 4 * height, 4 * width, seed + b) for t in range(frames)]) for b in range(batch)]
    )
    lr = nn.functional.avg_pool2d(hr.flatten(0, 1), 4).unflatten(0, (batch, frames))
    names = [f"clip#{seed + b}" for b in range(batch)]
    return Clip(lr, hr, names, torch.arange(frames).expand(batch, frames), 4)
