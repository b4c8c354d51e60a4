import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from vsrbench.errors import DataError
from vsrbench.metrics.frame import luma, psnr, quantise, sharpness, ssim


def images(seed: int = 0, size: tuple[int, int] = (40, 48)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(2, 3, *size, generator=generator)
    b = (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    return quantise(a), quantise(b)


class TestQuantise:
    def test_rounds_half_up_and_clips(self):
        values = torch.tensor([-1.0, 0.0, 0.5 / 255, 1.49 / 255, 1.5 / 255, 1.0, 7.0], dtype=torch.float64)
        assert quantise(values).tolist() == [0, 0, 1, 1, 2, 255, 255]

    def test_every_8_bit_value_survives_float32(self):
        values = torch.arange(256)
        assert quantise(values.float() / 255).equal(values.to(torch.uint8))

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_refuses_values_that_are_not_finite(self, bad):
        with pytest.raises(DataError, match="not finite"):
            quantise(torch.tensor([0.0, bad]))


class TestLuma:
    @pytest.mark.parametrize(
        ("colour", "expected"),
        [
            ((255, 0, 0), 16 + 65.481),  # read as BGR it would be 16 + 24.966
            ((0, 255, 0), 16 + 128.553),
            ((0, 0, 255), 16 + 24.966),
            ((0, 0, 0), 16.0),
            ((255, 255, 255), 235.0),
            ((1, 1, 1), 16 + 219 / 255),  # not rounded
        ],
    )
    def test_is_bt601_in_studio_range(self, colour, expected):
        image = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 5)
        y = luma(image)
        assert y.shape == (1, 4, 5) and y.dtype == torch.float64
        assert y[0, 0, 0].item() == pytest.approx(expected, abs=1e-12)


class TestPSNR:
    def test_is_that_of_a_constant_difference(self):
        a = torch.full((3, 8, 8), 100, dtype=torch.uint8)
        assert psnr(a, a + 5).item() == pytest.approx(10 * math.log10(255**2 / 25))

    def test_does_not_wrap_around_in_8_bits(self):
        a, b = torch.zeros(3, 4, 4, dtype=torch.uint8), torch.full((3, 4, 4), 255, dtype=torch.uint8)
        assert psnr(a, b).item() == psnr(b, a).item() == 0.0

    def test_pools_the_channels_error(self):
        a = torch.zeros(3, 8, 8)
        b = torch.tensor([3.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 8, 8)
        assert psnr(a, b).item() == pytest.approx(10 * math.log10(255**2 / 3))

    def test_is_infinite_for_equal_images(self):
        a, _ = images()
        assert psnr(a, a).tolist() == [math.inf, math.inf]

    def test_treats_images_of_a_batch_alone(self):
        a, b = images()
        assert psnr(a, b).tolist() == [psnr(a[0], b[0]).item(), psnr(a[1], b[1]).item()]

    def test_border_leaves_pixels_out(self):
        a, b = images()
        assert psnr(a, b, border=4).tolist() == psnr(a[..., 4:-4, 4:-4], b[..., 4:-4, 4:-4]).tolist()


class TestSSIM:
    @pytest.mark.parametrize("size", [(40, 48), (11, 11), (23, 64)])
    def test_equals_the_definition_as_scikit_image_has_it(self, size):
        a, b = images(size=size)
        expected = [
            structural_similarity(
                x.permute(1, 2, 0).numpy().astype(np.float64),
                y.permute(1, 2, 0).numpy().astype(np.float64),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=255,
                channel_axis=2,
            )
            for x, y in zip(a, b, strict=True)
        ]
        assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-9)

    def test_is_one_for_equal_images_even_black_ones(self):
        a, _ = images()
        assert ssim(a, a).tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
        black = torch.zeros(3, 16, 16, dtype=torch.uint8)
        assert ssim(black, black).item() == pytest.approx(1.0, abs=1e-12)

    def test_is_symmetric_and_falls_with_noise(self):
        a, b = images()
        worse = quantise((a / 255 + 0.4 * torch.randn(a.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1))
        assert torch.allclose(ssim(a, b), ssim(b, a), atol=1e-12)
        assert (ssim(a, worse) < ssim(a, b)).all()

    def test_border_is_cut_before_the_window(self):
        a, b = images()
        assert torch.allclose(ssim(a, b, border=4), ssim(a[..., 4:-4, 4:-4], b[..., 4:-4, 4:-4]), atol=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_refuses_sizes_that_differ(metric):
    with pytest.raises(DataError, match="one shape"):
        metric(torch.zeros(3, 16, 16), torch.zeros(3, 16, 20))


@pytest.mark.parametrize(("metric", "border"), [(psnr, 8), (ssim, 3), (psnr, -1)])
def test_refuses_a_border_that_leaves_too_little(metric, border):
    with pytest.raises(DataError, match="crop="):
        metric(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16), border=border)


def test_meets_the_recorded_values_of_real_frames(shared):
    """Bicubic rows of Vid4's first frames, to the last digit given."""
    yaml = pytest.importorskip("yaml")
    from vsrbench.data.readers import read_image
    from vsrbench.nn.imresize import imresize

    root = shared / "material" / "vid4"
    recorded = yaml.safe_load((root / "bicubic.yaml").read_text())
    for clip, number in [("calendar", 0), ("walk", 11)]:
        frame = f"{clip}/{number:08d}.png"
        lr, hr = (torch.tensor(read_image(root / kind / frame)).permute(2, 0, 1) for kind in ("BIx4", "GT"))
        out = quantise(imresize(lr.double() / 255, 4))
        row = recorded[clip]
        assert round(psnr(out, hr).item(), 4) == row["psnr_rgb"][number]
        assert round(ssim(out, hr).item(), 5) == row["ssim_rgb"][number]
        assert round(psnr(luma(out), luma(hr)).item(), 4) == row["psnr_y"][number]
        assert round(ssim(luma(out), luma(hr)).item(), 5) == row["ssim_y"][number]


class TestSharpness:
    def test_is_one_for_the_reference_itself(self):
        image = torch.rand(1, 9, 11)
        assert sharpness(image, image).item() == pytest.approx(1)

    def test_grows_with_the_square_of_the_contrast_and_ignores_brightness(self):
        image = torch.rand(1, 9, 11)
        assert sharpness(2 * image + 30, image).item() == pytest.approx(4)

    def test_falls_when_an_image_is_blurred(self):
        image = torch.rand(1, 16, 16)
        blurred = torch.nn.functional.avg_pool2d(image, 3, stride=1, padding=1)
        assert sharpness(blurred, image) < 0.5
