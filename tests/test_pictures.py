import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsrbench.pictures import busiest, busiest_row, gradients, over_time, stacked, zoom


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=25)
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


def test_a_slice_over_time_has_one_line_per_frame() -> None:
    frames = np.stack([noise(6, 9, seed) for seed in range(4)])
    profile = over_time(frames, 2, 3, 2)
    assert profile.shape == (12, 18, 3)
    for t in range(4):
        assert np.array_equal(profile[3 * t, ::2], frames[t, 2])


def test_stacked_pictures_keep_their_pixels_with_white_between_them() -> None:
    upper, lower = noise(3, 5, 1), noise(4, 5, 2)
    picture = stacked([upper, lower], gap=2)
    assert np.array_equal(picture[:3], upper) and np.array_equal(picture[5:], lower)
    assert (picture[3:5] == 255).all()
