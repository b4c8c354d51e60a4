"""How low resolution is made from high resolution where it is not on disk."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vsrbench.annotations import check_fields
from vsrbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

SCALES = (2, 3, 4, 8, 16)
SIGMA = 1.6  # of both kinds of BD, in HR pixels


class Degradation(ABC):
    """Makes 8-bit LR frames from 8-bit HR frames.

    name: the degradation's name in the configuration. scales: the scales it is defined for.
    margin: LR pixels around a crop that the crop's own pixels depend on. by_clip: drawn for a whole clip by ``clip``;
    otherwise every frame is made by itself.
    """

    name: str
    scales: tuple[int, ...]
    margin: int
    by_clip = False

    @property
    def kind(self) -> str:
        """Under which the lists of the data sets know the LR folders that were made this way."""
        return self.name

    def check(self, scale: int) -> None:
        """Raise ConfigError for a scale that the degradation is not defined for."""
        if type(scale) is not int or scale not in self.scales:
            known = ", ".join(map(str, self.scales))
            raise ConfigError(f"scale={scale}: degradation={self.name} is defined for {known}")

    @abstractmethod
    def __call__(self, hr: "Tensor", scale: int) -> "Tensor":
        """uint8 (...,H,W) to uint8 (...,ceil(H/scale),ceil(W/scale)). Raises ConfigError as ``check`` does."""

    def clip(self, hr: "Tensor", scale: int, *key: object) -> "Tensor":
        """All frames of a clip, as ``__call__``. key: what random choices depend on."""
        return self(hr, scale)


@dataclass(frozen=True)
class Bicubic(Degradation):
    """BI: MATLAB's bicubic imresize with antialiasing.

    path: "double" rounds once at the end (image converted by im2double first), "uint8" after each axis
        (image resized as uint8); about 10 % of the values differ by 1 between them. Both are in use.
    Raises ConfigError for another path.
    """

    path: Literal["double", "uint8"] = "double"
    name: str = "bicubic"

    scales = SCALES
    margin = 3  # the antialiased kernel reaches 2 LR pixels

    def __post_init__(self) -> None:
        check_fields(self, "degradation")

    def __call__(self, hr: "Tensor", scale: int) -> "Tensor":
        from vsrbench.nn.imresize import resize_axis

        self.check(scale)
        values = hr.double()
        values = resize_axis(values, -2, 1 / scale)
        if self.path == "uint8":
            values = _rounded(values)
        return _rounded(resize_axis(values, -1, 1 / scale)).byte()


@dataclass(frozen=True)
class Blur:
    """A Gaussian of so many taps; ``first``: where the taps of LR pixel i begin, relative to HR pixel 4 i."""

    taps: int
    first: int
    border: str

    @property
    def kernel(self) -> "Tensor":
        """Weights (taps,) float64 with sum 1, centred in the taps."""
        import torch

        x = torch.arange(self.taps, dtype=torch.float64) - (self.taps - 1) / 2
        weights = torch.exp(-(x**2) / (2 * SIGMA**2))
        return weights / weights.sum()

    def positions(self, length: int) -> "Tensor":
        """HR positions (taps,length/4) that the LR pixels of an axis of ``length`` HR pixels are made of."""
        import torch

        pixel = torch.arange(length // 4) * 4 + self.first + torch.arange(self.taps)[:, None]
        if self.border == "replicate":
            return pixel.clamp(0, length - 1)
        pixel = pixel.remainder(2 * (length - 1))  # mirrored, the border sample not repeated: -1 is 1
        return torch.where(pixel < length, pixel, 2 * (length - 1) - pixel)


FLAVOURS = {
    # even kernel, so its centre lies between pixels: LR pixel i is centred at HR pixel 4 i + 1.5, as in BI
    "basicvsr": Blur(taps=12, first=-4, border="replicate"),
    # centred at HR pixel 4 i: shifted by 1.5 HR pixels against BI
    "duf": Blur(taps=13, first=-6, border="reflect"),
}


@dataclass(frozen=True)
class BlurDown(Degradation):
    """BD: Gaussian blur of sigma 1.6, then every fourth pixel.

    flavour: "basicvsr" (BasicVSR's BD_degradation.m; mmagic's BDx4, VideoGigaGAN) or "duf" (VSR-DUF, BasicSR's
        duf_downsample, PFNL's blur4). They are 1.5 HR pixels apart: a network trained on one and tested on
        the other loses up to 13 dB, and nothing in an LR frame tells which it is.
    Raises ConfigError for another flavour, DataError for HR whose sides are no multiples of 4.
    """

    flavour: Literal["basicvsr", "duf"] = "basicvsr"
    name: str = "blur_down"

    scales = (4,)
    margin = 2  # DUF's kernel reaches 6 HR pixels

    def __post_init__(self) -> None:
        check_fields(self, "degradation")

    @property
    def kind(self) -> str:
        return f"blur_down_{self.flavour}"

    def __call__(self, hr: "Tensor", scale: int) -> "Tensor":
        from vsrbench.nn.imresize import weigh

        self.check(scale)
        height, width = hr.shape[-2:]
        if height % 4 or width % 4:
            raise DataError(f"HR of {width}x{height} is no multiple of 4: set data.crop_to_multiple=true")
        blur = FLAVOURS[self.flavour]
        values = hr.double()
        for axis in (-2, -1):
            values = weigh(values, axis, blur.positions(hr.shape[axis]), blur.kernel[:, None])
        # ours: rounded half up in both flavours, as MATLAB's imwrite does for BasicVSR's. BasicSR feeds DUF's
        # unrounded to the network and VSR-DUF's stored frames are truncated; rounding is nearest to the former.
        return _rounded(values).byte()


def _rounded(values: "Tensor") -> "Tensor":
    return values.clamp(0, 255).add(0.5).floor()
