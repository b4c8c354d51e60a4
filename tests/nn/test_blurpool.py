"""The low-pass filter's gains, and that its two bands lose nothing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vsrbench.nn.blurpool import BlurPool, low_pass, split_bands


def wave(frequency: float, size: int = 24) -> Tensor:
    """cos along both axes, in radians per sample, (1,1,size,size) float64."""
    line = torch.cos(frequency * torch.arange(size, dtype=torch.float64))
    return (line * line[:, None])[None, None]


@given(st.floats(-1e4, 1e4, width=32))
def test_a_constant_has_no_high_band(value: float) -> None:
    low, high = split_bands(torch.full((1, 3, 7, 6), value))
    assert torch.equal(high, torch.zeros(1, 3, 7, 6))
    assert torch.equal(low, torch.full((1, 3, 4, 3), value))


@pytest.mark.parametrize(("frequency", "gain"), [(0.0, 1.0), (math.pi / 2, 0.25), (math.pi, 0.0)])
def test_gains(frequency: float, gain: float) -> None:
    x = wave(frequency)
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(low_pass(x)[inner], gain**2 * x[inner], rtol=0, atol=1e-12)


def test_nyquist_is_gone_up_to_the_border() -> None:
    assert low_pass(wave(math.pi)).abs().max() < 1e-12  # mirrored, the wave goes on


def test_bands_are_lossless_and_the_filter_is_the_same() -> None:
    x = torch.randn(2, 3, 9, 12, dtype=torch.float64)
    low, high = split_bands(x)
    torch.testing.assert_close(low, low_pass(x)[..., ::2, ::2])
    torch.testing.assert_close(high, x - low_pass(x))


def test_gradient_of_the_bands() -> None:
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad((x - low_pass(x)).pow(3).sum() + low_pass(x)[..., ::2, ::2].pow(3).sum(), x)[0]
    low, high = split_bands(x)
    torch.testing.assert_close(torch.autograd.grad(high.pow(3).sum() + low.pow(3).sum(), x)[0], plain)


def test_strides_keep_every_second_sample() -> None:
    x = torch.randn(1, 2, 8, 11)
    torch.testing.assert_close(BlurPool()(x), low_pass(x)[..., ::2, ::2])
    assert BlurPool()(x).shape == (1, 2, 4, 6)


def test_an_even_filter_reads_between_the_samples() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert BlurPool((1, 3, 3, 1))(ramp).shape == (1, 1, 4, 4)
    torch.testing.assert_close(low_pass(ramp, (1, 3, 3, 1))[0, 0, 0, 1:-1], torch.arange(1.5, 6.5))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 9)])
def test_maps_too_small_to_mirror(size: tuple[int, int]) -> None:
    assert low_pass(torch.ones(1, 1, *size)).shape[-2:] == size
    torch.testing.assert_close(low_pass(torch.ones(1, 1, *size)), torch.ones(1, 1, *size))
