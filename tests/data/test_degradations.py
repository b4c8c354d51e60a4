import numpy as np
import pytest
import torch
from PIL import Image

from vsrbench.data.catalog import Settings
from vsrbench.data.degradations import FLAVOURS, SCALES, Bicubic, BlurDown
from vsrbench.data.readers import list_frames
from vsrbench.data.sources import FolderSource, Pairing, Window
from vsrbench.errors import ConfigError, DataError
from vsrbench.metrics.frame import luma, psnr, quantise
from vsrbench.nn.imresize import imresize, resize_axis


def load(path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)


@pytest.mark.parametrize(("path", "lowest", "highest"), [("double", 0.0, 0.0), ("uint8", 0.08, 0.13)])
def test_vid4_lr_comes_from_the_double_path(shared, path: str, lowest: float, highest: float) -> None:
    """The stored frames are met to the bit; the other path differs in about a tenth of the values."""
    different = total = 0
    for hr in sorted(shared.glob("material/vid4/GT/*/00000001.png")):
        made = Bicubic(path)(load(hr), 4)
        different += int((made != load(str(hr).replace("/GT/", "/BIx4/"))).sum())
        total += made.numel()
    assert lowest <= different / total <= highest


def test_rows_are_resized_before_columns_as_matlab_does() -> None:
    """Where both sides have one scale; the uint8 path rounds in between, so that the order shows."""
    hr = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def reduced(values: torch.Tensor, axis: int) -> torch.Tensor:
        return resize_axis(values.double(), axis, 1 / 4).clamp(0, 255).add(0.5).floor()

    expected = reduced(reduced(hr, -2), -1)
    assert Bicubic("uint8")(hr, 4).equal(expected.byte())
    assert not reduced(reduced(hr, -1), -2).equal(expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", ["double", "uint8"])
def test_flat_frames_keep_their_colour(path: str, scale: int) -> None:
    hr = torch.full((2, 3, 48, 33), 77, dtype=torch.uint8)
    lr = Bicubic(path)(hr, scale)
    assert lr.dtype == torch.uint8
    assert lr.shape == (2, 3, -(-48 // scale), -(-33 // scale))
    assert (lr == 77).all()


def test_overshoot_is_clipped() -> None:
    hr = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    hr[..., 16:] = 255
    assert set(Bicubic()(hr, 2).unique().tolist()) >= {0, 255}


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match=r"degradation.path=float.*double or uint8"):
        Bicubic("float")
    with pytest.raises(ConfigError, match=r"scale=5.*2, 3, 4, 8, 16"):
        Bicubic()(torch.zeros(3, 10, 10, dtype=torch.uint8), 5)


# --- blur_down -----------------------------------------------------------------------------------

SHIFT = {"basicvsr": 1.5, "duf": 0.0}  # centre of LR pixel i in HR pixels is 4 i + shift


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("flavour", "taps"), [("basicvsr", 12), ("duf", 13)])
def test_kernels_are_the_published_ones(flavour: str, taps: int) -> None:
    """MATLAB's fspecial for BasicVSR; for DUF the Gaussian that SciPy smooths a unit impulse to."""
    from scipy.ndimage import gaussian_filter

    kernel = torch.outer(FLAVOURS[flavour].kernel, FLAVOURS[flavour].kernel).numpy()
    if flavour == "duf":
        expected = np.zeros((taps, taps))
        expected[6, 6] = 1
        expected = gaussian_filter(expected, 1.6)
    else:
        y, x = np.mgrid[-5.5:6, -5.5:6]
        expected = np.exp(-(x**2 + y**2) / (2 * 1.6**2))
        expected /= expected.sum()
    assert kernel.shape == (taps, taps)
    assert np.abs(kernel - expected).max() < 1e-15


def test_basicvsr_flavour_is_its_matlab_script() -> None:
    """imfilter with replicated borders (origin of 12 taps: the sixth), then rows and columns 2, 6, ... from 1."""
    hr = noise(3, 24, 32)
    padded = np.pad(hr.double().numpy(), ((0, 0), (5, 6), (5, 6)), mode="edge")
    y, x = np.mgrid[-5.5:6, -5.5:6]
    kernel = np.exp(-(x**2 + y**2) / (2 * 1.6**2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (12, 12), axis=(1, 2))
    blurred = (windows * kernel / kernel.sum()).sum((-2, -1))
    expected = np.floor(blurred[:, 1::4, 1::4] + 0.5)
    assert (BlurDown("basicvsr")(hr, 4).numpy() == expected).all()


def test_duf_flavour_is_its_padded_convolution() -> None:
    """Reflect 14 pixels, 13 taps at stride 4, two LR pixels off each side."""
    hr = noise(3, 24, 32)
    kernel = torch.outer(FLAVOURS["duf"].kernel, FLAVOURS["duf"].kernel)
    padded = torch.nn.functional.pad(hr.double()[:, None], [14] * 4, "reflect")
    expected = torch.nn.functional.conv2d(padded, kernel[None, None], stride=4)[:, 0, 2:-2, 2:-2]
    assert BlurDown("duf")(hr, 4).equal((expected + 0.5).floor().to(torch.uint8))


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_ramp_shows_where_the_pixels_are_centred(flavour: str, axis: int) -> None:
    ramp = (2 * torch.arange(96)).to(torch.uint8).expand(96, 96)
    hr = ramp if axis == -1 else ramp.T
    lr = BlurDown(flavour)(hr.expand(3, 96, 96), 4)[0].movedim(axis, -1)
    inside = torch.arange(2, 22)
    assert (lr[:, inside] == 2 * (4 * inside + SHIFT[flavour])).all()


def test_both_sides_of_the_border() -> None:
    """Left of pixel 0 BasicVSR repeats it; DUF mirrors without it, so its first LR pixel of a ramp is E|x|."""
    ramp = (2 * torch.arange(96)).to(torch.uint8).expand(3, 96, 96)
    weights, x = FLAVOURS["duf"].kernel, torch.arange(-6.0, 7)
    assert BlurDown("duf")(ramp, 4)[0, 0, 0] == round(float((weights * 2 * x.abs()).sum()))
    weights, x = FLAVOURS["basicvsr"].kernel, torch.arange(-4.0, 8)
    assert BlurDown("basicvsr")(ramp, 4)[0, 0, 0] == round(float((weights * 2 * x.clamp(min=0)).sum()))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_blurring_keeps_flat_frames_and_their_shape(flavour: str) -> None:
    lr = BlurDown(flavour)(torch.full((2, 3, 4, 20), 77, dtype=torch.uint8), 4)
    assert lr.dtype == torch.uint8 and lr.shape == (2, 3, 1, 5)
    assert (lr == 77).all()


@pytest.mark.parametrize("window", [(0, 0, 4, 4), (3, 5, 8, 8), (8, 12, 4, 4), (5, 5, 1, 1), (0, 3, 12, 9)])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_margin_holds_all_that_a_crop_depends_on(make_tree, flavour: str, window) -> None:
    source = FolderSource("x", Pairing(4, BlurDown(flavour)), list_frames(make_tree({"x": 1}) / "x"), None)
    y, x, h, w = window
    crop, whole = source.load([0], Window(*window)), source.load([0])
    assert crop.lr.equal(whole.lr[..., y : y + h, x : x + w])


@pytest.mark.parametrize(
    ("clip", "basicvsr", "duf"), [("calendar", 0.25, 1.58), ("city", 0.20, 1.31), ("walk", 0.54, 3.09)]
)
def test_vid4_is_harder_by_what_was_measured(shared, clip: str, basicvsr: float, duf: float) -> None:
    """How much lower the bicubic row of each flavour is than that of bicubic LR, in dB (there over all frames)."""
    hr = load(shared / f"material/vid4/GT/{clip}/00000001.png")

    def row(degradation) -> float:
        enlarged = imresize(degradation(hr, 4).double() / 255, 4).clamp(0, 1).float()
        return float(psnr(luma(quantise(enlarged)), luma(hr)))

    reference = row(Bicubic())
    assert reference - row(BlurDown("basicvsr")) == pytest.approx(basicvsr, abs=0.08)
    assert reference - row(BlurDown("duf")) == pytest.approx(duf, abs=0.12)


def test_blur_down_refuses_what_nobody_published() -> None:
    with pytest.raises(ConfigError, match=r"degradation.flavour=tecogan: use basicvsr or duf"):
        BlurDown("tecogan")
    for use in (lambda: BlurDown()(noise(3, 16, 16), 8), lambda: Settings.of({"set": "vid4", "scale": 8}, BlurDown())):
        with pytest.raises(ConfigError, match=r"scale=8: degradation=blur_down is defined for 4"):
            use()
    with pytest.raises(DataError, match=r"18x16 is no multiple of 4: set data.crop_to_multiple=true"):
        BlurDown()(noise(3, 16, 18), 4)
