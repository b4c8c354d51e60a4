"""One neighbour's features along the ways of DGAF-VSR's Observation 2: resized, warped, warped while enlarged."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from vsrbench.errors import ConfigError
from vsrbench.flow.rescaled import PICKS, downscale, enlarged_size, on_grid, upscale
from vsrbench.flow.warp import warp


@dataclass(frozen=True)
class Rescaling:
    """factor: s. mode: interpolation around the warp (Sec. 3.2: nearest). align, pick: see ``flow.rescaled``.

    padding: what is read outside the frame. ours: "border" repeats the frame's edge; "zeros", which the method
    itself reads, would count the outline of the hole as an edge of the feature.
    """

    factor: float = 4.0
    mode: str = "nearest"
    align: str = "exact"
    pick: str = "centre"
    padding: str = "border"

    @classmethod
    def from_config(cls, node: Mapping[str, Any], factor: float) -> "Rescaling":
        """From the node ``analysis``. Raises ConfigError for words and numbers that mean nothing."""
        choices = {
            "mode": ("nearest", "bicubic"), "align": ("exact", "released"),
            "pick": tuple(PICKS), "padding": ("border", "zeros"),
        }  # fmt: skip
        for name, allowed in choices.items():
            if node[name] not in allowed:
                raise ConfigError(f"analysis.{name}={node[name]}: use {' or '.join(allowed)}")
        if factor < 1:
            raise ConfigError(f"rescaling factor {factor:g}: use 1 or more (method.rescale, analysis.factors)")
        return cls(factor, *(node[name] for name in choices))

    def by(self, factor: float) -> "Rescaling":
        return replace(self, factor=factor)


def resized(x0: Tensor, how: Rescaling) -> dict[str, Tensor]:
    """Figure 2 (a): x0 (B,C,h,w) "upscaled" to s times its size and "downscaled" to 1/s, at least one pixel a side."""
    height, width = (max(1, round(n / how.factor)) for n in x0.shape[-2:])
    return {
        "upscaled": upscale(x0, how.factor, how.mode, how.pick),
        "downscaled": downscale(x0, x0[..., :height, :width], how.mode, how.pick),
    }


def warped(x0: Tensor, flow: Tensor, how: Rescaling) -> Tensor:
    """Direct warping at the features' own size; flow (B,2,H,W) on any grid, in its pixels."""
    return warp(x0, on_grid(flow, (x0.shape[-2], x0.shape[-1])), how.align, how.padding)


def enlarged_warped(x0: Tensor, flow: Tensor, how: Rescaling) -> Tensor:
    """s x warp: (B,C,s*h,s*w)."""
    enlarged = upscale(x0, how.factor, how.mode, how.pick)
    return warp(enlarged, on_grid(flow, enlarged_size(x0, how.factor)), how.align, how.padding)


def rescaled(x0: Tensor, flow: Tensor, how: Rescaling) -> Tensor:
    """s x warp x 1/s: OGWM's upscaling, warping and downscaling; direct warping where s changes no size."""
    if enlarged_size(x0, how.factor) == tuple(x0.shape[-2:]):
        return warped(x0, flow, how)
    return downscale(enlarged_warped(x0, flow, how), x0, how.mode, how.pick)
