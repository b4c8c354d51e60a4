"""Between video frames and RGB: the right matrix in both directions, and the tags that say which it is."""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from torch import Tensor

from vsrbench.errors import DataError

HD = 720  # ours: untagged video of at least so many rows is BT.709, below it is BT.601, as most players take it
# Matrix coefficients as files tag them (ITU-T H.273) and what swscale calls them.
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
UNTAGGED = (0, 2, 3)  # RGB, unspecified, reserved
# swscale's own default takes the nearest chroma sample and truncates: every value comes out about 1 too dark.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP


@dataclass(frozen=True)
class Colour:
    """Matrix coefficients, primaries and transfer function as numbers of ITU-T H.273."""

    matrix: int
    primaries: int
    transfer: int

    @classmethod
    def usual(cls, height: int) -> "Colour":
        """What untagged video of so many rows is taken for."""
        return cls(1, 1, 1) if height >= HD else cls(6, 6, 6)

    @classmethod
    def of(cls, frame: Any) -> "Colour":
        """The tags of a decoded frame, completed where they are absent.

        Raises DataError for a matrix that cannot be converted (YCgCo, ICtCp, constant luminance).
        """
        usual = cls.usual(frame.height)
        if int(frame.colorspace) not in (*MATRICES, *UNTAGGED):
            raise DataError(
                f"the video's colour matrix (number {int(frame.colorspace)} of H.273) is not supported: "
                "convert the file to BT.709"
            )
        tags = (int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc))
        filled = [u if tag in UNTAGGED else tag for tag, u in zip(tags, vars(usual).values(), strict=True)]
        return cls(*filled)


def depth(pixel_format: str) -> int:
    """Bits per value of a pixel format such as ``yuv420p10le``."""
    layout = av.VideoFormat(pixel_format, 16, 16)
    return max(part.bits for part in layout.components)


def read_rgb(frame: Any, colour: Colour) -> np.ndarray:
    """A decoded frame as RGB (h,w,3): uint8 in 0..255, or uint16 in 0..65535 for more than 8 bits per value."""
    # ours: a file that does not say so is in limited range; only JPEG-like formats are full, and tagged so
    value_range = int(frame.color_range) or ColorRange.MPEG
    return frame.to_ndarray(
        format="rgb48le" if depth(frame.format.name) > 8 else "rgb24",
        src_colorspace=MATRICES[colour.matrix],
        src_color_range=value_range,
        interpolation=EXACT,
    )


def write_rgb(pixels: np.ndarray, pixel_format: str, colour: Colour) -> Any:
    """RGB (h,w,3) uint8 or uint16 as a video frame in limited range, tagged with what it was made with."""
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.dtype == np.uint8 else "rgb48le")
    return frame.reformat(
        format=pixel_format,
        dst_colorspace=MATRICES[colour.matrix],
        dst_color_range=ColorRange.MPEG,
        interpolation=EXACT,
    )


def to_pixels(frame: Tensor, bits: int = 8) -> np.ndarray:
    """A frame (3,H,W) in [0,1] as (H,W,3): uint8, or uint16 in 0..65535 for more than 8 bits per value.

    Raises DataError for values that are not finite: they would silently become some colour.
    """
    if not frame.sum().isfinite() and not frame.isfinite().all():
        raise DataError("a frame holds values that are not finite: the method diverged; try inference.precision=fp32")
    peak, kind = (255, torch.uint8) if bits <= 8 else (65535, torch.uint16)
    levels = torch.empty(*frame.shape[1:], 3, dtype=kind)
    for rows, out in zip(frame.split(32, dim=1), levels.split(32), strict=True):  # which stay in the processor's cache
        out.copy_(rows.clamp(0, 1).mul_(peak).add_(0.5).to(kind).permute(1, 2, 0))  # an integer type rounds down
    return levels.numpy()
