from typing import Any

import pytest
import torch
from torch import Tensor

from vsrbench.analysis.alignment import Rescaling, enlarged_warped, rescaled, resized, warped
from vsrbench.analysis.report import loss
from vsrbench.analysis.strength import MEASURES, Strength
from vsrbench.errors import ConfigError
from vsrbench.flow.rescaled import upscale, upscale_warp_downscale

NODE: dict[str, Any] = {"mode": "nearest", "align": "exact", "pick": "centre", "padding": "border"}


def feature(height: int = 12, width: int = 16) -> Tensor:
    return torch.rand(1, 4, height, width, generator=torch.Generator().manual_seed(3))


def motion(height: int, width: int, x: float, y: float) -> Tensor:
    return torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, height, width)


@pytest.mark.parametrize("factor", [1, 1.6, 2, 4, 6.4])
def test_zero_flow_changes_nothing(factor: float) -> None:
    x0, still, how = feature(), motion(48, 64, 0, 0), Rescaling(factor)
    assert torch.allclose(warped(x0, still, how), x0, atol=1e-6)
    assert torch.allclose(rescaled(x0, still, how), x0, atol=1e-6)
    assert torch.allclose(enlarged_warped(x0, still, how), upscale(x0, factor), atol=1e-5)
    before, after = Strength()(x0, 2.0), Strength()(warped(x0, still, how), 2.0)
    assert [loss(after[m], before[m]) for m in MEASURES] == pytest.approx([0] * 4, abs=1e-2)  # percent


@pytest.mark.parametrize("factor", [1.6, 4])
def test_with_zeros_outside_it_is_what_the_method_does(factor: float) -> None:
    x0, flow = feature(), motion(48, 64, 5.3, -2.1)
    how = Rescaling(factor, padding="zeros")
    assert torch.equal(rescaled(x0, flow, how), upscale_warp_downscale(x0, flow, factor))
    assert torch.equal(warped(x0, flow, how), upscale_warp_downscale(x0, flow, factor, mode="none"))


def test_border_padding_adds_no_edge() -> None:
    flat, flow = torch.ones(1, 4, 12, 16), motion(12, 16, 4.5, 0)
    for way in (warped, rescaled):
        assert torch.allclose(way(flat, flow, Rescaling(4)), flat)
        assert not torch.allclose(way(flat, flow, Rescaling(4, padding="zeros")), flat)


def test_factor_one_is_direct_warping() -> None:
    x0, flow = feature(), motion(48, 64, 2.0, 1.0)
    assert torch.equal(rescaled(x0, flow, Rescaling(1)), warped(x0, flow, Rescaling(1)))


def test_direct_warping_by_half_a_pixel_loses_what_rescaled_warping_keeps() -> None:
    """The paper's second and third point on a constructed case: noise moved by half a latent pixel."""
    x0, flow, how, strength = feature(48, 48), motion(48, 48, 0.5, 0.5), Rescaling(4), Strength()
    before, direct, kept = (strength(x, 8.0) for x in (x0, warped(x0, flow, how), rescaled(x0, flow, how)))
    assert all(direct[m] < kept[m] for m in MEASURES if m != "canny")
    assert direct["highpass"] < 0.5 * before["highpass"]


def test_resizing() -> None:
    x0 = feature()
    sizes = {name: tuple(x.shape[-2:]) for name, x in resized(x0, Rescaling(4)).items()}
    assert sizes == {"upscaled": (48, 64), "downscaled": (3, 4)}
    assert resized(feature(3, 3), Rescaling(16))["downscaled"].shape[-2:] == (1, 1)


def test_settings() -> None:
    assert Rescaling.from_config(NODE, 4.0) == Rescaling()
    assert Rescaling().by(2).factor == 2
    for name in NODE:
        with pytest.raises(ConfigError, match=f"analysis.{name}=odd: use"):
            Rescaling.from_config({**NODE, name: "odd"}, 4.0)
    with pytest.raises(ConfigError, match=r"rescaling factor 0\.5: use 1 or more"):
        Rescaling.from_config(NODE, 0.5)
