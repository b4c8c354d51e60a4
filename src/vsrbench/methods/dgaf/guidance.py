"""Which neighbour guides a frame, when, and how it is aligned to the frame's grid: the knobs of DGAF-VSR."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vsrbench.annotations import check_fields
from vsrbench.errors import ConfigError
from vsrbench.flow.rescaled import check_rescaling, upscale_warp_downscale
from vsrbench.types import FULL_CLIP


@dataclass(frozen=True)
class Guidance:
    """OGWM and the order of guidance.

    rescale: s of OGWM. mode: interpolation around the warp (Table 3: nearest, bicubic, none). align, pick: see
    ``flow.rescaled``. in_pair: alternate forward and backward guidance (Sec. 4; Supp. Table 7 case 1 is without).
    neighbours: "last_step" takes the neighbour's x0 of the previous diffusion step (Sec. 4.1), so that all frames of
    a step are independent; "same_step" that of the same step, frame after frame, as released. projection: what that
    x0 is projected from by Eq. 3. "z_t" (Sec. 4.1 writes z_t→0): the step's own input, so it holds no fresh noise.
    "z_next" (Sec. 4.2 writes z_t-1→0, "after we obtain" z_t-1): the step's result, with the step's estimate of the
    noise; ancestral steps leave their fresh noise in it, deterministic ones change nothing.
    Raises ConfigError for values that mean nothing.
    """

    rescale: float = 4.0
    mode: Literal["nearest", "bicubic", "none"] = "nearest"
    align: Literal["exact", "released"] = "exact"
    pick: Literal["centre", "corner"] = "centre"
    in_pair: bool = True
    neighbours: Literal["last_step", "same_step"] = "last_step"
    projection: Literal["z_t", "z_next"] = "z_t"

    def __post_init__(self) -> None:
        check_fields(self, "method")
        check_rescaling(self.rescale, self.mode, self.pick)
        if self.same_step and self.projection == "z_next":
            raise ConfigError("method.projection=z_next needs method.neighbours=last_step: z_t-1 comes after the step")

    @property
    def same_step(self) -> bool:
        return self.neighbours == "same_step"

    def direction(self, step: int) -> int:
        """-1: guided by the previous frame, +1: by the next; they alternate in pairs of steps (Sec. 4)."""
        return -1 if step % 2 == 0 or not self.in_pair else 1

    def align_neighbour(self, x0: Tensor, flow: Tensor) -> Tensor:
        """OGWM: a neighbour's x0 (B,4,h,w) on the current frame's grid."""
        return upscale_warp_downscale(x0, flow, self.rescale, self.mode, self.align, self.pick)

    def context(self, steps: int) -> int:
        """Neighbour frames on either side that can influence a frame: each guided step reaches one frame on."""
        if self.same_step:
            return FULL_CLIP
        guided = [self.direction(step) for step in range(1, steps)]  # the first step has no x0 to be guided by
        return max(guided.count(-1), guided.count(1))
