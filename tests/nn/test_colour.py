import pytest
import torch
from torch import Tensor

from vsrbench.nn.colour import adain_color, replace_low_band, wavelet_color, wavelet_split


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def waves(period: float) -> Tensor:
    """Horizontal waves (1,3,64,64)."""
    return torch.sin(torch.arange(64) * 2 * torch.pi / period).expand(1, 3, 64, 64)


def test_an_image_is_its_own_reference() -> None:
    image = noise(2, 3, 20, 24)
    assert torch.equal(replace_low_band(image, image, 4.0), image)


def test_a_wrong_colour_cast_disappears() -> None:
    image = noise(1, 3, 32, 32)
    cast = torch.tensor([0.2, -0.1, 0.05]).view(1, 3, 1, 1)
    assert torch.allclose(replace_low_band(image + cast, image, 4.0), image, atol=1e-5)


def test_fine_detail_stays_and_coarse_content_comes_from_the_reference() -> None:
    fine, coarse = waves(4), waves(64)
    flat = torch.zeros(1, 3, 64, 64)
    inner = slice(16, 48)
    assert torch.allclose(replace_low_band(fine, flat, 4.0)[..., inner], fine[..., inner], atol=0.02)
    assert torch.allclose(replace_low_band(flat, coarse, 2.0)[..., inner], coarse[..., inner], atol=0.05)


def test_each_image_by_itself() -> None:
    image, reference = noise(3, 3, 20, 24), noise(3, 3, 20, 24, seed=1)
    together = replace_low_band(image, reference, 3.0)
    alone = torch.cat([replace_low_band(i[None], r[None], 3.0) for i, r in zip(image, reference, strict=True)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_images_smaller_than_the_kernel() -> None:
    assert replace_low_band(noise(1, 3, 5, 7), noise(1, 3, 5, 7, seed=1), 4.0).shape == (1, 3, 5, 7)


def test_the_wavelets_low_band_is_a_blur_of_13_pixels() -> None:
    """Five levels: 63x63 pixels around an impulse, sum one, standard deviation sqrt(170.5) along each axis."""
    impulse = torch.zeros(1, 1, 129, 129, dtype=torch.double)
    impulse[..., 64, 64] = 1
    high, low = wavelet_split(impulse)
    assert torch.allclose(high + low, impulse)
    profile = low[0, 0].sum(0)
    assert float(profile.sum()) == pytest.approx(1)
    assert int((profile > 0).sum()) == 63
    assert float((profile * (torch.arange(129) - 64) ** 2).sum()) == pytest.approx(170.5)


def test_wavelet_colour_is_detail_of_one_on_colour_of_the_other() -> None:
    frames, reference = noise(2, 3, 40, 48), noise(2, 3, 40, 48, seed=1)
    assert torch.allclose(wavelet_color(frames, frames), frames, atol=1e-6)
    cast = torch.tensor([0.2, -0.1, 0.05]).view(1, 3, 1, 1)
    assert torch.allclose(wavelet_color(frames + cast, frames), frames, atol=1e-5)
    found = wavelet_color(frames, reference)
    assert torch.allclose(found - reference, wavelet_split(frames)[0] - wavelet_split(reference)[0], atol=1e-5)


@pytest.mark.parametrize("scope", ["frame", "clip"])
def test_adain_takes_over_mean_and_deviation(scope: str) -> None:
    frames, reference = noise(2, 3, 40, 48), 0.3 + 0.5 * noise(2, 3, 40, 48, seed=1) ** 2
    axes = (2, 3) if scope == "frame" else (0, 2, 3)
    found = adain_color(0.2 + 2 * frames, reference, scope)
    assert torch.allclose(found.mean(axes), reference.mean(axes), atol=1e-5)
    assert torch.allclose(found.std(axes), reference.std(axes), atol=1e-3)
    assert torch.allclose(found, adain_color(frames, reference, scope), atol=1e-3)


def test_autocast_does_not_round_colours() -> None:
    """The blurs are convolutions, which autocast would compute in bf16: an error of a grey level."""
    image, reference = noise(1, 3, 32, 32), noise(1, 3, 32, 32, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fixed = replace_low_band(image, reference, 2.0), wavelet_color(image, reference)
    assert torch.equal(fixed[0], replace_low_band(image, reference, 2.0))
    assert torch.equal(fixed[1], wavelet_color(image, reference))
