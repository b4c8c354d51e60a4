import torch
from torch import Tensor

from vsrbench.nn.colour import replace_low_band


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
