"""The ground truth as a method: a row that says what the metrics give where nothing is wrong."""

from torch import Tensor, nn

from vsrbench.diffusion.noise import NoiseSource
from vsrbench.errors import DataError
from vsrbench.methods.base import Method
from vsrbench.types import Clip, Progress, Trace


class GroundTruth(Method):
    """Returns ``clip.hr``. Warping errors of real footage are above 0 for it: the printed ones of other rows mean
    little without (VideoGigaGAN Figure 6 has 2.127e-3 on REDS4, for E_warp and RWE alike).
    """

    def __init__(self, scale: int = 4, name: str = "gt") -> None:
        super().__init__()
        self.scale = scale

    def visible(self, clip: Clip) -> Clip:
        """Everything."""
        return clip

    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Raises DataError for a clip without ground truth."""
        if clip.hr is None:
            raise DataError(f"method=gt: {clip.name[0]} has no ground truth; evaluate it with another method")
        return clip.hr

    def parts(self) -> dict[str, nn.Module]:
        return {}
