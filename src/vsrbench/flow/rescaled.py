"""Warping at an enlarged size: the three steps of DGAF-VSR's OGWM (Sec. 4.1), for latents and for their analysis."""

from torch import Tensor
from torch.nn import functional as F

from vsrbench.errors import ConfigError
from vsrbench.flow.warp import resize_flow, warp

MODES = ("nearest", "bicubic", "none")
PICKS = {"centre": "nearest-exact", "corner": "nearest"}


def upscale_warp_downscale(
    x0: Tensor, flow: Tensor, factor: float = 4.0, mode: str = "nearest", align: str = "exact", pick: str = "centre"
) -> Tensor:
    """Bring a neighbour's x0 (B,C,h,w) onto the current frame's grid (DGAF-VSR Sec. 4.1, steps a-c).

    flow: flow[current→neighbour] (B,2,H,W) on any grid, in pixels of that grid. factor: s of the paper, 1 or more,
    need not be whole. mode: interpolation around the warp, "none" for direct warping. align: see ``warp``.
    pick: which sample of a cell nearest downscaling keeps: the one next to the "centre" (ours: the paper does not
    say which), or the top left "corner" as released.
    """
    size = enlarged_size(x0, factor)
    if mode == "none" or size == tuple(x0.shape[-2:]):
        return warp(x0, on_grid(flow, (x0.shape[-2], x0.shape[-1])), align)
    return downscale(warp(upscale(x0, factor, mode, pick), on_grid(flow, size), align), x0, mode, pick)


def upscale(x0: Tensor, factor: float, mode: str = "nearest", pick: str = "centre") -> Tensor:
    """Step a: (B,C,h,w) to (B,C,round(factor*h),round(factor*w))."""
    return _resize(x0, enlarged_size(x0, factor), mode, pick)


def downscale(enlarged: Tensor, like: Tensor, mode: str = "nearest", pick: str = "centre") -> Tensor:
    """Step c: back to the size of ``like``."""
    return _resize(enlarged, (like.shape[-2], like.shape[-1]), mode, pick)


def on_grid(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """A flow in pixels of the grid (H,W), resized only where it lives on another one."""
    return flow if tuple(flow.shape[-2:]) == size else resize_flow(flow, size)


def enlarged_size(x0: Tensor, factor: float) -> tuple[int, int]:
    """(H,W) of step a."""
    return round(factor * x0.shape[-2]), round(factor * x0.shape[-1])


def check_rescaling(factor: float, mode: str, pick: str) -> None:
    """Raise ConfigError for settings of OGWM that mean nothing."""
    if factor < 1:
        raise ConfigError(f"method.rescale={factor}: use 1 or more (the paper tries 1 to 6.4)")
    if mode not in MODES:
        raise ConfigError(f"method.rescale_mode={mode}: use one of {', '.join(MODES)}")
    if pick not in PICKS:
        raise ConfigError(f"method.pick={pick}: use one of {', '.join(PICKS)}")


def _resize(image: Tensor, size: tuple[int, int], mode: str, pick: str) -> Tensor:
    if mode == "nearest":
        return F.interpolate(image, size=size, mode=PICKS[pick])
    # ours: torch's bicubic (a = -0.75) without antialiasing; the paper names the interpolation and nothing else
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False)
