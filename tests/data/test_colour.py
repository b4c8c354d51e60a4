"""RGB survives the way to YCbCr and back, and the numbers in between are those of the standards."""

import av
import numpy as np
import pytest
import torch

from inference_fakes import picture
from vsrbench.data.colour import Colour, depth, read_rgb, to_pixels, write_rgb
from vsrbench.errors import DataError

# Y'CbCr of full red in limited 8-bit range: 16 + 219 Kr, 128 - 224 Kr / (2 - 2 Kb), 240
RED = {Colour(1, 1, 1): (63, 102, 240), Colour(6, 6, 6): (81, 90, 240), Colour(9, 9, 14): (74, 97, 240)}


@pytest.mark.parametrize("colour", RED)
def test_red_has_the_values_of_its_matrix_and_comes_back(colour: Colour) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    frame = write_rgb(red, "yuv444p", colour)
    assert tuple(bytes(plane)[0] for plane in frame.planes) == RED[colour]
    assert np.abs(read_rgb(frame, colour).astype(int) - red).max() <= 2


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("colour", RED)
def test_the_way_there_and_back_neither_darkens_nor_tints(pixel_format: str, colour: Colour) -> None:
    deep = depth(pixel_format) > 8
    rgb = picture(3, (64, 96)).astype(np.uint16) * 257 if deep else picture(3, (64, 96))
    back = read_rgb(write_rgb(rgb, pixel_format, colour), colour)
    error = (back.astype(float) - rgb) / (257 if deep else 1)
    assert back.dtype == (np.uint16 if deep else np.uint8)
    assert np.abs(error).max() <= (1.5 if deep else 4)
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.35


def test_full_range_is_read_as_full_range() -> None:
    grey = np.full((16, 16, 3), 250, np.uint8)
    frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(
        format="yuv420p", dst_colorspace="ITU601", dst_color_range="JPEG"
    )
    assert np.abs(read_rgb(frame, Colour(6, 6, 6)).astype(int) - grey).max() <= 2  # limited range would make it 255


@pytest.mark.parametrize(("height", "matrix"), [(576, 6), (719, 6), (720, 1), (2160, 1)])
def test_untagged_video_is_taken_by_its_height(height: int, matrix: int) -> None:
    assert Colour.of(av.VideoFrame(32, height, "yuv420p")) == Colour(matrix, matrix, matrix)


def test_tags_are_kept_and_absent_ones_completed() -> None:
    frame = av.VideoFrame(32, 32, "yuv420p10le")
    frame.colorspace, frame.color_trc = 9, 16
    assert Colour.of(frame) == Colour(9, 6, 16)


def test_a_matrix_that_cannot_be_converted_is_refused() -> None:
    frame = av.VideoFrame(32, 32, "yuv420p")
    frame.colorspace = 8
    with pytest.raises(DataError, match=r"colour matrix.*BT\.709"):
        Colour.of(frame)


def test_pixels_are_rounded_and_clipped_in_either_depth() -> None:
    frame = torch.tensor([-1.0, 0.5, 2.0]).view(3, 1, 1)
    assert to_pixels(frame).tolist() == [[[0, 128, 255]]]
    noise = torch.rand(3, 70, 5) * 1.2 - 0.1
    expected = (noise.permute(1, 2, 0).clamp(0, 1) * 255 + 0.5).floor().numpy()
    assert to_pixels(noise).dtype == np.uint8 and (to_pixels(noise) == expected).all()
    assert to_pixels(frame, bits=10).tolist() == [[[0, 32768, 65535]]]
    with pytest.raises(DataError, match="not finite"):
        to_pixels(torch.full((3, 2, 2), torch.nan))
