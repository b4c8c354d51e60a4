"""Some consecutive frames of an output and of its data, and what several metrics need of them, computed once."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.metrics import changes, temporal
from vsrbench.metrics.frame import LUMAS, PEAK, quantise
from vsrbench.metrics.masks import visible
from vsrbench.metrics.perceptual import Lpips, at_once
from vsrbench.types import Clip


class Chunk:
    """out: uint8 (N,3,H,W); data: a Clip of the same frames, one sample, on the same device.

    flow: the estimator of scene and output motion; released: RAFT as StableVSR's codes have it, else the same one.
    luma: a name of ``frame.LUMAS``.
    ``who`` is "out" or "truth" everywhere.
    """

    def __init__(
        self,
        out: Tensor,
        data: Clip,
        scene_flow: str,
        flow: nn.Module | str,
        released: nn.Module | str,
        luma: str = "bt601_studio",
    ) -> None:
        self.data, self.scene_flow, self.to_luma = data, scene_flow, LUMAS[luma]
        self.estimators = {"plain": flow, "released": released}
        self.bytes = {"out": out}
        if data.hr is not None:
            self.bytes["truth"] = quantise(data.hr[0])
        self._kept: dict[Any, Any] = {}

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gave when the key was first asked for."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def pixels(self, who: str) -> Tensor:
        """(N,3,H,W) in [0,1]."""
        return self.once(("pixels", who), lambda: self.bytes[who] / PEAK)

    def luma(self, who: str) -> Tensor:
        """(N,1,H,W) in 16..235, of the kind that the protocol says."""
        return self.once(("luma", who), lambda: self.to_luma(self.bytes[who]))

    def image(self, who: str, channel: str) -> Tensor:
        """What learned metrics see: the frames, or their luma rounded to 8 bit in all three channels; in [0,1]."""
        if channel == "rgb":
            return self.pixels(who)
        return self.once(("image", who), lambda: ((self.luma(who) + 0.5).floor() / PEAK).float().expand(-1, 3, -1, -1))

    def features(self, who: str, net: Lpips, channel: str = "rgb", cut: bool = False) -> list[Tensor]:
        """LPIPS's features of ``image``; cut: of the part that TecoGAN evaluates."""
        frames = self.image(who, channel)
        if cut and changes.inner(frames).shape != frames.shape:
            return self.once(("cut", who, net, channel), lambda: net.features(changes.inner(frames)))
        return self.once(("features", who, net, channel), lambda: net.features(frames))

    def neighbours(self, who: str, net: Lpips, cut: bool) -> Tensor:
        """LPIPS (N-1,) between neighbours."""
        features = self.features(who, net, cut=cut)
        return self.once(
            ("neighbours", who, net, cut), lambda: net.distance([x[:-1] for x in features], [x[1:] for x in features])
        )

    def flow(self, who: str, forward: bool, kind: str = "plain") -> Tensor:
        """(N-1,2,H,W): flow[t→t+1], or flow[t+1→t] where not ``forward``."""
        frames, estimator = self.pixels(who), self.estimators[kind]
        assert isinstance(estimator, nn.Module)
        a, b = (frames[:-1], frames[1:]) if forward else (frames[1:], frames[:-1])
        key = ("flow", who, forward, id(estimator))
        fed = changes.released(estimator) if kind == "released" and self.differs else estimator
        size = at_once(frames)
        return self.once(key, lambda: torch.cat([fed(x, y) for x, y in zip(a.split(size), b.split(size), strict=True)]))

    @property
    def differs(self) -> bool:
        """Whether the released codes have a flow of their own."""
        return self.estimators["released"] is not self.estimators["plain"]

    def motion(self, who: str, mask: str) -> tuple[Tensor, Tensor]:
        """Estimated flow[t→t+1] and the pixels that count under a rule of ``masks.visible``."""
        flow = self.flow(who, forward=True)
        return flow, self.once(("mask", who, mask), lambda: visible(flow, self.flow(who, forward=False), mask))

    @cached_property
    def scene(self) -> str:
        """What the scene's motion is known from: "exact", "estimated" or "not_applicable"."""
        if self.scene_flow != "estimated" and self.data.flow_forward is not None:
            return "exact"
        return "estimated" if self.scene_flow != "exact" and "truth" in self.bytes else "not_applicable"

    def scene_motion(self, mask: str = "occlusion") -> tuple[Tensor, Tensor]:
        """The scene's flow[t→t+1] on the frames' grid and its visible pixels; mask: the rule where it is estimated."""
        if self.scene == "estimated":
            return self.motion("truth", mask)
        data = self.data
        assert data.flow_forward is not None
        flow = data.flow_forward[0]
        hidden = torch.zeros_like(flow[:, 0], dtype=torch.bool) if data.occlusion is None else data.occlusion[0, :, 0]
        return self.once("scene", lambda: temporal.on_hr_grid(flow, hidden, data.scale))
