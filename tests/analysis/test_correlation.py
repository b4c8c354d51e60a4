import math

import pytest
import torch

from vsrbench.analysis.correlation import MEASURES, adjacent, correlation, cross_entropy, histograms, sigma, transformed


def image(seed: int, side: int = 24) -> torch.Tensor:
    return 255 * torch.rand(4, side, side, generator=torch.Generator().manual_seed(seed)) ** (1 + seed)


def test_f_of_known_values() -> None:
    assert transformed(torch.tensor([0.0, 1.0, 3.0])).tolist() == [1.0, 0.5, 0.25]


def test_sigma_of_two_levels() -> None:
    half = torch.zeros(2, 4, 4)
    half[:, :, 2:] = 10.0
    assert sigma(half).item() == 5.0
    assert sigma(torch.full((2, 4, 4), 9.0)).item() == 0


def test_histograms_count_every_pixel_and_the_largest_value_too() -> None:
    values = torch.tensor([[[0.0, 0.5, 128.0, 255.0]]])
    found = histograms(values, bins=2)
    assert found.shape == (1, 2)
    assert found[0].tolist() == pytest.approx([3 / 6, 3 / 6])  # one is added to each bin
    assert torch.allclose(histograms(image(1)).sum(-1), torch.ones(4, dtype=torch.float64))


def test_cross_entropy_of_known_histograms() -> None:
    """Two bins, 6 pixels: shares (7/8, 1/8) against (1/8, 7/8), after the added ones."""
    low, high = torch.zeros(1, 2, 3), torch.full((1, 2, 3), 255.0)
    assert cross_entropy(low, high, 2).item() == pytest.approx(-(7 / 8 * math.log(1 / 8) + 1 / 8 * math.log(7 / 8)))
    assert cross_entropy(low, low, 2).item() == pytest.approx(-(7 / 8 * math.log(7 / 8) + 1 / 8 * math.log(1 / 8)))


def test_identical_neighbours_correlate_most() -> None:
    same = correlation(image(0), image(0))
    assert same["psnr"] == math.inf and same["ssim"] == pytest.approx(1)
    for other in (image(1), image(2), image(0).flip(-1) * 0.9):
        found = correlation(image(0), other)
        assert found["psnr"] < math.inf and found["ssim"] < same["ssim"]
        assert found["f_entropy"] < same["f_entropy"]
    assert tuple(same) == MEASURES


def test_f_sigma_is_that_of_both_variables() -> None:
    flat = torch.zeros(4, 24, 24)
    alone = correlation(image(0), image(0))["f_sigma"]
    assert correlation(image(0), flat)["f_sigma"] == pytest.approx((alone + 1) / 2)


def test_adjacent_pairs_of_a_sequence() -> None:
    assert [(a.item(), b.item()) for a, b in adjacent(iter(torch.tensor([1, 2, 3])))] == [(2, 1), (3, 2)]
