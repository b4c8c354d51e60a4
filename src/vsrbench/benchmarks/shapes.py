"""Configurations whose weights are random, so that shapes alone are built, and the clips that are counted on."""

from typing import TYPE_CHECKING, Any

import torch

from vsrbench.config import compose
from vsrbench.errors import ConfigError
from vsrbench.types import Clip
from vsrbench.weights.folders import load_config

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Method

REDS = (720, 1280, 100)  # HR height, width and frames of a clip, as in the papers' cost tables
ON_CPU = {"paper": (32, 48)}  # LR pixels; other sizes: (48, 80). ours: minutes, not hours


def on_meta(method: str, size: str, variant: str) -> "DictConfig":
    """The method's own configuration with random weights everywhere."""
    return without_weights(compose([f"method={method}", f"size={size}", f"variant={variant}"], verb="bench"))


def without_weights(cfg: "DictConfig") -> "DictConfig":
    """A copy that reads no weights; a prior that is a folder is built from the folder's own configs."""
    copy = cfg.copy()
    _set_random(copy, prior=copy.prior is not None, flow=copy.flow is not None and "random" in copy.flow)
    return copy


def with_absent_as_random(cfg: "DictConfig") -> tuple["DictConfig", list[str]]:
    """A copy in which weights that nobody gave are random, and the names of these parts: time does not depend on
    them."""
    copy = cfg.copy()
    prior = copy.prior is not None and copy.prior.path is None
    flow = copy.flow is not None and "random" in copy.flow and copy.flow.weights is None
    _set_random(copy, prior, flow)
    trained = "trained part" if copy.module is not None and not (copy.ckpt_path or copy.weights) else None
    copy.untrained = True
    absent = [name for name, is_absent in (("prior", prior), ("flow", flow)) if is_absent]
    return copy, absent + ([trained] if trained else [])


def _set_random(cfg: "DictConfig", prior: bool, flow: bool) -> None:
    from omegaconf import open_dict

    with open_dict(cfg):
        if prior:
            if not cfg.prior.get("unet"):
                cfg.prior.update(_configs(cfg.prior.path))
            cfg.prior.random = True
        if flow:
            cfg.flow.random = True
            cfg.flow.weights = None


def _configs(path: str) -> dict[str, Any]:
    parts = {part: load_config(path, part) for part in ("unet", "vae")}
    return {name: {k: v for k, v in config.items() if not k.startswith("_")} for name, config in parts.items()}


def lr_size(cfg: "DictConfig", method: "Method", as_published: bool) -> tuple[int, int]:
    """LR pixels: ``bench.height`` and ``bench.width``, else those of 720p output, or what a CPU can do.

    Raises ConfigError for a size that the method cannot take.
    """
    scale = int(cfg.scale)
    small = ON_CPU.get(str(cfg.size), (48, 80))
    default = (REDS[0] // scale, REDS[1] // scale) if as_published else small
    height = default[0] if cfg.bench.height is None else int(cfg.bench.height)
    width = default[1] if cfg.bench.width is None else int(cfg.bench.width)
    if min(height, width) < method.minimum:
        raise ConfigError(f"bench.height={height} bench.width={width}: this method takes {method.minimum} or more")
    return height, width


def clip_length(cfg: "DictConfig", default: int) -> int:
    """Frames of the clip."""
    return default if cfg.bench.frames is None else int(cfg.bench.frames)


def random_clip(size: tuple[int, int], frames: int, scale: int, device: str | torch.device = "cpu") -> Clip:
    """A clip (1,T,3,h,w) of smooth random pictures, T times one of two: only its shape counts."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 4, 4, generator=generator)
    pictures = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    lr = pictures.repeat(-(-frames // 2), 1, 1, 1)[:frames].unsqueeze(0).to(device)
    return Clip(lr, None, ["bench"], torch.arange(frames).unsqueeze(0), scale)


def passes(cfg: "DictConfig") -> tuple[int, int]:
    """How often a thing is timed, and how often it runs before that."""
    return int(cfg.bench.repeats), int(cfg.bench.warmup)
