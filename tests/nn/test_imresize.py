"""imresize against its definition, written out sample by sample, and against frames made by it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vsrbench.nn.imresize import enlarge, imresize, weigh


def kernel(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def by_definition(row: list[float], scale: float, antialias: bool) -> list[float]:
    stretch = scale if antialias and scale < 1 else 1.0
    mirrored = row + row[::-1]
    result = []
    for out in range(math.ceil(len(row) * scale)):
        centre = (out + 0.5) / scale - 0.5
        reach = math.ceil(2 / stretch) + 1
        taps = range(math.floor(centre) - reach, math.floor(centre) + reach + 1)
        weights = [kernel(stretch * (centre - t)) for t in taps]
        values = [w * mirrored[t % len(mirrored)] for w, t in zip(weights, taps, strict=True)]
        result.append(sum(values) / sum(weights))
    return result


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("scale", [1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 0.7, 2, 3, 4])
def test_follows_the_definition(scale: float, antialias: bool) -> None:
    row = torch.rand(37, dtype=torch.float64)
    expected = by_definition(row.tolist(), scale, antialias)
    columns = imresize(row.expand(3, 37), scale, antialias)[0]
    rows = imresize(row[:, None].expand(37, 3), scale, antialias)[:, 0]
    torch.testing.assert_close(columns, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(rows, columns, rtol=0, atol=1e-12)


@settings(max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([2, 3, 4, 8, 16]))
def test_sizes_are_rounded_up(height: int, width: int, factor: int) -> None:
    frames = torch.zeros(2, 3, height, width)
    small = (2, 3, math.ceil(height / factor), math.ceil(width / factor))
    assert imresize(frames, 1 / factor).shape == small
    assert imresize(frames, factor).shape == (2, 3, factor * height, factor * width)


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 2, 4])
def test_mirrored_frames_give_mirrored_results(scale: float) -> None:
    frames = torch.rand(3, 24, 36, dtype=torch.float64)
    flipped = imresize(frames.flip(-1).flip(-2), scale)
    torch.testing.assert_close(flipped.flip(-1).flip(-2), imresize(frames, scale), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1 / 4, 4])
def test_constant_and_linear_frames_stay_so(scale: float) -> None:
    ramp = (torch.arange(64, dtype=torch.float64) + 0.5).expand(64, 64)
    inner = imresize(ramp, scale)[:, int(8 * scale + 2) : -int(8 * scale + 2)]
    step = inner[0].diff()
    torch.testing.assert_close(step, torch.full_like(step, 1 / scale), rtol=0, atol=1e-10)
    torch.testing.assert_close(imresize(torch.ones(9, 9), scale), torch.ones_like(imresize(torch.ones(9, 9), scale)))


def test_scale_one_changes_nothing() -> None:
    frames = torch.rand(2, 3, 7, 9)
    assert imresize(frames, 1).equal(frames)


def test_equals_matlab_to_the_bit(shared) -> None:
    for hr_file in sorted(shared.glob("material/vid4/GT/*/00000000.png")):
        hr = torch.from_numpy(np.asarray(Image.open(hr_file)).copy()).permute(2, 0, 1).double()
        lr = np.asarray(Image.open(str(hr_file).replace("/GT/", "/BIx4/")))
        ours = imresize(hr, 1 / 4).clamp(0, 255).add(0.5).floor().permute(1, 2, 0).numpy()
        assert (ours != lr).sum() == 0


@pytest.mark.parametrize("axis", [-1, -2])
def test_sums_are_those_of_a_loop_over_the_taps_to_the_bit(axis: int) -> None:
    values, weights = torch.rand(3, 24, 36, dtype=torch.float64), torch.rand(5, 50, dtype=torch.float64)
    positions = torch.randint(24, (5, 50))
    shape = (50, 1) if axis == -2 else (50,)
    expected = values.index_select(axis, positions[0]) * weights[0].view(shape)
    for position, weight in zip(positions[1:], weights[1:], strict=True):
        expected += values.index_select(axis, position) * weight.view(shape)
    assert torch.equal(weigh(values, axis, positions, weights), expected)


@pytest.mark.parametrize("size", [(1, 2), (5, 1500), (48, 64)])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_enlarging_for_pictures_is_within_rounding_of_the_exact_resizer(scale: int, size: tuple[int, int]) -> None:
    frames = (torch.randint(256, (2, 3, *size)) / 255).float()
    quick, exact = enlarge(frames, scale), imresize(frames.double(), scale)
    assert quick.shape == exact.shape and quick.dtype == torch.float32
    assert (quick - exact).abs().max() < 1e-6
    levels = [(255 * image.clamp(0, 1) + 0.5).floor().double() for image in (quick, exact)]
    error = (levels[0] - levels[1]).abs()
    assert error.max() <= 1  # at ties
    assert error.square().mean() < 255**2 / 10**7.0  # 70 dB
