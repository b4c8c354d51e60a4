import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vsrbench.errors import RunError
from vsrbench.reports.pictures import (
    busiest,
    busiest_row,
    data_uri,
    framed,
    gradients,
    read_frames,
    zoom,
)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_frames_are_read_in_order(tmp_path: Path) -> None:
    frames = np.stack([noise(4, 6, seed) for seed in range(3)])
    for n in (2, 0, 1):
        Image.fromarray(frames[n]).save(tmp_path / f"{n:08d}.png")
    assert np.array_equal(read_frames(tmp_path), frames)


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no frames in"):
        read_frames(tmp_path)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(8, 24), width=st.integers(8, 24), side=st.integers(2, 30), seed=st.integers(0, 99))
def test_the_busiest_square_is_the_one_that_a_search_finds(height: int, width: int, side: int, seed: int) -> None:
    frame = noise(height, width, seed)
    y, x = busiest(frame, side)
    assert 0 <= y <= max(0, height - side) and 0 <= x <= max(0, width - side)
    h, w = min(side, height) - 1, min(side, width) - 1
    energy = gradients(frame)
    sums = [energy[a : a + h, b : b + w].sum() for a in range(height - h) for b in range(width - w)]
    assert energy[y : y + h, x : x + w].sum() == pytest.approx(max(sums))


def test_the_busiest_row_lies_within_the_square() -> None:
    frame = np.zeros((20, 20, 3), np.uint8)
    frame[3, ::2] = frame[11, ::4] = 255
    assert busiest_row(frame, 0, 20) == 3
    assert busiest_row(frame, 8, 8) == 11


def test_zoom_repeats_pixels_and_invents_none() -> None:
    image = noise(5, 7)
    large = zoom(image, 4, 3)
    assert large.shape == (20, 21, 3)
    assert np.array_equal(large[::4, ::3], image) and np.array_equal(large[3::4, 2::3], image)


def test_framing_leaves_the_original_alone() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    marked = framed(image, 4, 5, 8, 7)
    assert not image.any()
    assert marked[4, 5].any() and marked[11, 12].any() and marked[7, 0].any()
    assert not marked[0].any() and not marked[5, 6].any()


def test_a_png_in_the_page_is_the_picture_itself() -> None:
    image = noise(6, 9)
    head, data = data_uri(image).split(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), image)
