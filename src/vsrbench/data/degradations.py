"""How low resolution is made from high resolution where it is not on disk."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from vsrbench.errors import ConfigError
from vsrbench.nn.imresize import resize_axis

SCALES = (2, 3, 4, 8, 16)


class Degradation(ABC):
    """Makes 8-bit LR frames from 8-bit HR frames.

    name: under which the lists of the data sets know the LR folders that were made this way.
    margin: LR pixels around a crop that the crop's own pixels depend on.
    """

    name: str
    margin: int

    @abstractmethod
    def __call__(self, hr: Tensor, scale: int) -> Tensor:
        """uint8 (...,H,W) to uint8 (...,ceil(H/scale),ceil(W/scale))."""


@dataclass(frozen=True)
class Bicubic(Degradation):
    """BI: MATLAB's bicubic imresize with antialiasing.

    path: "double" rounds once at the end (image converted by im2double first), "uint8" after each axis
        (image resized as uint8); about 10 % of the values differ by 1 between them. Both are in use.
    Raises ConfigError for another path, and when called with a scale not in ``SCALES``.
    """

    path: str = "double"
    name: str = "bicubic"

    margin = 3  # the antialiased kernel reaches 2 LR pixels

    def __post_init__(self) -> None:
        if self.path not in ("double", "uint8"):
            raise ConfigError(f"degradation.path={self.path}: use double or uint8")

    def __call__(self, hr: Tensor, scale: int) -> Tensor:
        if scale not in SCALES:
            raise ConfigError(f"scale={scale}: the bicubic degradation has the scales {', '.join(map(str, SCALES))}")
        values = hr.double()
        values = resize_axis(values, -2, 1 / scale)
        if self.path == "uint8":
            values = _rounded(values)
        return _rounded(resize_axis(values, -1, 1 / scale)).to(torch.uint8)


def _rounded(values: Tensor) -> Tensor:
    return values.clamp(0, 255).add(0.5).floor()
