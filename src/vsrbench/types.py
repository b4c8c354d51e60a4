"""The few records that flow between the parts: Clip, Trace, Progress."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from vsrbench.errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FULL_CLIP = 1 << 30  # a method's ``context`` where all frames depend on each other: a chunk is then the whole clip


@dataclass(frozen=True)
class Clip:
    """A batch of clips.

    lr: float32 (B,T,3,h,w), RGB in [0,1].
    hr: float32 (B,T,3,scale*h,scale*w) or None where there is no ground truth.
    name: B strings; with ``index`` it identifies a frame whatever batch or chunk it travels in.
    index: long (B,T), the frames' numbers in the source clip.
    flow_forward, flow_backward: exact flow (B,T-1,2,h,w) in pixels of the LR grid, x first, or None.
        ``flow_forward[:, t]`` is flow[t→t+1]: it lives on frame t and points into frame t+1.
        ``flow_backward[:, t]`` is flow[t+1→t]: it lives on frame t+1 and points into frame t.
    occlusion: bool (B,T-1,2,h,w) or None; channel 0 marks pixels of frame t that frame t+1 does not
        show, channel 1 pixels of frame t+1 that frame t does not show.
    """

    lr: "Tensor"
    hr: "Tensor | None"
    name: list[str]
    index: "Tensor"
    scale: int
    flow_forward: "Tensor | None" = None
    flow_backward: "Tensor | None" = None
    occlusion: "Tensor | None" = None

    def __post_init__(self) -> None:
        if self.lr.ndim != 5 or self.lr.shape[2] != 3:
            raise DataError(f"Clip.lr must be (B,T,3,h,w), got {tuple(self.lr.shape)}")
        b, t, _, h, w = self.lr.shape
        expected = {
            "hr": (b, t, 3, self.scale * h, self.scale * w),
            "index": (b, t),
            "flow_forward": (b, t - 1, 2, h, w),
            "flow_backward": (b, t - 1, 2, h, w),
            "occlusion": (b, t - 1, 2, h, w),
        }
        for field, shape in expected.items():
            value = getattr(self, field)
            if value is not None and tuple(value.shape) != shape:
                raise DataError(f"Clip.{field} must be {shape}, got {tuple(value.shape)} (scale {self.scale})")
        if len(self.name) != b:
            raise DataError(f"Clip.name must hold {b} names, got {len(self.name)}")

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return self.lr.shape[1]

    def to(self, device: "torch.device | str") -> "Clip":
        """The same clip with every tensor on ``device``."""
        moved: dict[str, Any] = {k: v.to(device) for k, v in self._tensors().items()}
        return replace(self, **moved)

    def window(self, start: int, stop: int) -> "Clip":
        """Frames start..stop-1 with the flows between them."""
        cut: dict[str, Any] = {}
        for key, value in self._tensors().items():
            last = stop if key in ("lr", "hr", "index") else stop - 1
            cut[key] = value[:, start:last]
        return replace(self, **cut)

    def rows(self, rows: list[int]) -> "Clip":
        """Some samples of the batch."""
        cut: dict[str, Any] = {key: value[rows] for key, value in self._tensors().items()}
        return replace(self, name=[self.name[row] for row in rows], **cut)

    def _tensors(self) -> "dict[str, Tensor]":
        return {k: v for k, v in vars(self).items() if v is not None and k not in ("name", "scale")}


class Trace(Protocol):
    """Observer of a sampling run; ``frame`` is None for values that concern the whole clip."""

    def on_step(self, step: int, frame: int | None, **tensors: "Tensor") -> None: ...


class Progress(Protocol):
    """Told once how much work there is, then after each piece of it."""

    def start(self, total: int, what: str) -> None: ...

    def advance(self, count: int = 1) -> None: ...
