import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vsrbench.analysis.strength import (
    MEASURES,
    Strength,
    canny,
    high_pass,
    high_pass_strength,
    laplacian,
    sobel,
)
from vsrbench.errors import ConfigError

NODE: dict[str, Any] = {
    "canny": [100, 200], "laplacian": "mean", "highpass": {"threshold": 30, "reference": 180, "measure": "energy"},
}  # fmt: skip


def step_edge(height: float, side: int = 16) -> Tensor:
    image = torch.zeros(side, side)
    image[:, side // 2 :] = height
    return image


def sine(cycles: int, side: int = 64, amplitude: float = 0.5) -> Tensor:
    x = torch.arange(side) / side
    return (0.5 + amplitude * torch.sin(2 * math.pi * cycles * x)).expand(side, side)


def texture(side: int = 48) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_a_constant_image_has_no_strength() -> None:
    assert Strength()(torch.full((3, 20, 20), 0.7), radius=2.0) == dict.fromkeys(MEASURES, pytest.approx(0, abs=1e-6))


def test_a_step_edge() -> None:
    """Both columns beside the step see half its height through Sobel, and 3/16 of it through the Laplacian."""
    edge = step_edge(0.8)
    response = sobel(edge[None])[0]
    assert torch.allclose(response[:, 7:9], torch.tensor(0.4))
    assert response[:, :7].abs().max() < 1e-6 and response[:, 9:].abs().max() < 1e-6
    bend = laplacian(edge[None])[0]
    assert torch.allclose(bend[:, 7], torch.tensor(0.15)) and torch.allclose(bend[:, 8], torch.tensor(-0.15))
    edges = canny(edge[None])[0]
    assert set(edges.unique().tolist()) == {0.0, 1.0}
    assert (edges.sum(1) == 1).all()  # one pixel per row


def test_canny_sees_what_its_thresholds_let_pass() -> None:
    faint = step_edge(0.1)[None]  # Sobel's sum over 8-bit values: 4 x 26 = 104
    assert canny(faint, 100, 200).sum() == 0
    assert canny(faint, 50, 100).sum() > 0


def test_edges_do_not_depend_on_how_images_are_stacked() -> None:
    images = texture()
    for operator in (canny, sobel, laplacian):
        assert torch.allclose(operator(images)[1, 2], operator(images[1, 2][None])[0], atol=1e-7)


def test_blur_lowers_every_strength() -> None:
    from torchvision.transforms.functional import gaussian_blur

    sharp = texture()
    before, after = Strength()(sharp, 8.0), Strength()(gaussian_blur(sharp, [5, 5], [1.0, 1.0]), 8.0)
    assert all(after[m] < before[m] for m in MEASURES)


def test_high_pass_of_single_frequencies() -> None:
    for relative, whole in (("share", 1.0), ("energy", 0.125)):  # the mean square of a sine of amplitude 0.5
        assert high_pass_strength(sine(3)[None], 8, relative).item() == pytest.approx(0, abs=1e-6)
        assert high_pass_strength(sine(20)[None], 8, relative).item() == pytest.approx(whole, rel=1e-4)
    assert high_pass_strength(sine(8)[None], 8, "share").item() == pytest.approx(0, abs=1e-6)  # the radius itself


def test_high_pass_of_a_mixture_keeps_the_fast_part() -> None:
    mixed = sine(3, amplitude=0.3) + sine(20, amplitude=0.1)
    assert torch.allclose(high_pass(mixed, 8), sine(20, amplitude=0.1) - 0.5, atol=1e-5)


def test_nothing_is_shared_where_there_is_no_energy() -> None:
    assert high_pass_strength(torch.ones(2, 8, 8), 1, "share").tolist() == [0, 0]


def test_the_radius_scales_with_the_feature_and_not_with_its_enlargement() -> None:
    """30 on 180x320 cuts the same share of the spectrum as 20 on 120x180."""
    assert Strength().radius(torch.empty(4, 180, 320)) == 30
    assert Strength().radius(torch.empty(4, 120, 180)) == pytest.approx(20)
    assert Strength(reference=None).radius(torch.empty(4, 120, 180)) == 30


def test_variance_of_the_laplacian() -> None:
    image = texture()
    found = Strength(laplacian="variance")(image, 8.0)["laplacian"]
    assert found == pytest.approx(laplacian(image).var(dim=(-2, -1), correction=0).mean().item())
    doubled = Strength(laplacian="variance")(2 * image, 8.0)["laplacian"]
    assert doubled == pytest.approx(4 * found, rel=1e-5)


def test_settings() -> None:
    assert Strength.from_config(NODE) == Strength()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"canny": [200, 100]}, "analysis.canny"),
        ({"laplacian": "median"}, "use mean or variance"),
        ({"highpass": {**NODE["highpass"], "measure": "power"}}, "use energy or share"),
        ({"highpass": {**NODE["highpass"], "threshold": -1}}, "threshold of 0 or more"),
        ({"highpass": {**NODE["highpass"], "reference": 0}}, "reference above 0"),
    ]
    for change, message in wrong:
        with pytest.raises(ConfigError, match=message):
            Strength.from_config({**NODE, **change})
