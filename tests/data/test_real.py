"""Degradations of real films: drawn per clip from a key, with parts that equal independent computations."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from vsrbench.config import compose
from vsrbench.data import real
from vsrbench.data.catalog import Settings
from vsrbench.data.degradations import Bicubic
from vsrbench.data.degrade import degrade
from vsrbench.data.finder import find
from vsrbench.data.real import FIRST, KERNELS, PRESETS, SECOND, Real
from vsrbench.data.samples import ClipSamples, Recipe
from vsrbench.data.sampling import generator
from vsrbench.data.sources import Pairing
from vsrbench.errors import ConfigError, DataError


def clip(frames: int = 5, height: int = 96, width: int = 80) -> torch.Tensor:
    rng = np.random.default_rng(0)
    base = ndimage.gaussian_filter(rng.random((height + 20, width + 20, 3)), (3, 3, 0))
    base = (base - base.min()) / (base.max() - base.min()) * 255
    return torch.from_numpy(
        np.stack([base[2 * t : 2 * t + height, t : t + width].round().astype(np.uint8) for t in range(frames)])
    ).permute(0, 3, 1, 2)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scale", [2, 4])
def test_the_key_alone_decides_what_is_drawn(preset: str, scale: int) -> None:
    hr = clip(height=98, width=82)
    one = Real(preset).clip(hr, scale, 1, 2)
    assert one.dtype == torch.uint8 and one.shape == (5, 3, -(-98 // scale), -(-82 // scale))
    torch.rand(3)
    np.random.rand(3)
    assert torch.equal(Real(preset).clip(hr, scale, 1, 2), one)
    assert not torch.equal(Real(preset).clip(hr, scale, 1, 3), one)


def test_degraded_frames_still_show_the_clip() -> None:
    """Against bicubic LR of the same frame: nearer than the next clip's frames are, on average over many keys."""
    hr = clip(frames=3, height=128, width=128)
    clean = Bicubic()(hr, 4).float()
    own = [(Real().clip(hr, 4, k).float() - clean).abs().mean() for k in range(12)]
    other = (clean - clean.flip(-1)).abs().mean()
    assert np.mean(own) < 0.7 * other
    assert np.mean(own) > 3  # and they are degraded


@pytest.mark.parametrize("kind", KERNELS)
def test_kernels_have_sum_one_and_drift_slowly(kind: str) -> None:
    still = real.kernels(kind, 15, (0.2, 3.0), generator(7, kind), drift=False)
    first = next(still)
    assert first.shape == (15, 15) and first.sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(next(still), first)
    moving = real.kernels(kind, 15, (0.2, 3.0), generator(7, kind), drift=True)
    one, two = next(moving), next(moving)
    assert np.array_equal(one, first) and not np.array_equal(one, two)
    assert np.abs(one - two).sum() < 1


def test_an_isotropic_kernel_is_the_gaussian_of_scipy() -> None:
    kernel = next(real.kernels("iso", 21, (1.7, 1.7), generator(0), drift=False))
    spot = np.zeros((21, 21))
    spot[10, 10] = 1
    assert np.allclose(kernel, ndimage.gaussian_filter(spot, 1.7, truncate=10 / 1.7), atol=1e-6)


def test_the_low_pass_keeps_what_is_below_its_cutoff_and_drops_what_is_above() -> None:
    kernel = real.circular(21, math.pi / 3)
    x = np.arange(64)
    for omega, low, high in ((math.pi / 8, 0.9, 1.1), (0.8 * math.pi, 0.0, 0.05)):
        wave = np.tile(np.cos(omega * x), (64, 1)).astype(np.float32)
        passed = ndimage.convolve(wave, kernel)[32, 16:48]
        assert low <= np.abs(passed).max() <= high


def test_gray_noise_is_the_same_in_all_channels_and_gaussian_noise_has_its_strength() -> None:
    flat, kinds = [np.full((64, 64, 3), 0.5, np.float32)], set()
    for key in range(30):
        rng = generator(key)
        gray, poisson = rng.random() < real.GRAY, rng.random() < 0.5
        added = next(iter(real.noise(flat, FIRST, generator(key), drift=False))) - 0.5
        assert gray == np.allclose(added[..., 0], added[..., 2], atol=1e-6)
        if not poisson:
            sigma = float(rng.uniform(*FIRST.noise))
            assert added.std() * 255 == pytest.approx(sigma, rel=0.1)
        kinds.add((gray, poisson))
    assert len(kinds) == 4


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_fewer_bits_are_further_from_the_frames(codec: str) -> None:
    rng, errors = np.random.default_rng(0), []
    grain = ndimage.gaussian_filter(rng.random((4, 130, 146, 1)), (0, 0.7, 0.7, 0)).astype(np.float32)
    frames = list(np.repeat(grain, 3, axis=-1))  # gray, so that halved chroma costs nothing
    for bits in (3e3, 3e6):
        out = list(real.compress_video(frames, [codec], (bits, bits), generator(0)))
        assert [f.shape for f in out] == [f.shape for f in frames]
        errors.append(np.mean([np.abs(a - b).mean() for a, b in zip(out, frames, strict=True)]))
    assert errors[1] < 0.02 and errors[0] > 1.5 * errors[1]


@pytest.mark.parametrize("order", ["first", "last"])
def test_the_last_compression_comes_before_or_after_the_last_resizing(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    compress = real.compress_video

    def spy(frames, *rest):
        frames = list(frames)
        sizes.append(frames[0].shape[:2])
        return compress(frames, *rest)

    monkeypatch.setattr(real, "compress_video", spy)
    for key in range(4):
        Real(order=order).clip(clip(2, 160, 128), 4, key)
    last = sizes[1::2]
    assert len(sizes) == 8
    assert all(size == (40, 32) for size in last) if order == "last" else any(size != (40, 32) for size in last)


def test_what_the_releases_state() -> None:
    assert (FIRST.sigma, FIRST.factor, FIRST.noise, FIRST.poisson) == ((0.2, 3.0), (0.15, 1.5), (1, 30), (0.05, 3.0))
    assert (SECOND.sigma, SECOND.factor, SECOND.noise, SECOND.poisson) == ((0.2, 1.5), (0.3, 1.2), (1, 25), (0.05, 2.5))
    assert (FIRST.resize, SECOND.resize, SECOND.blur) == ((0.2, 0.7, 0.1), (0.3, 0.4, 0.3), 0.8)
    assert sum(real.SHARES) == pytest.approx(1) and not PRESETS["realesrgan"].codecs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "none"}, "degradation.preset=none"),
        ({"codecs": ["vp9"]}, "vp9 is none of"),
        ({"bits": [5, 1]}, "degradation.bits"),
        ({"order": "middle"}, "degradation.order=middle"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Real(**settings)


# --- in data sets --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        for n, frame in enumerate(clip(6)):
            file = tmp_path / "data" / "GT" / name / f"{n:08d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame.permute(1, 2, 0).numpy()).save(file)
    return tmp_path / "data"


def settings_of(folder, degradation) -> Settings:
    return Settings(set="folder", root=str(folder), lr="auto", role="hr", pairing=Pairing(4, degradation))


def test_a_part_of_a_stored_clip_is_that_part_of_the_whole(folder) -> None:
    source = find(settings_of(folder, Real()), {"partition": "all"}).sources[0]
    whole = source.read(0, 6).lr
    again = find(settings_of(folder, Real()), {"partition": "all"}).sources[0]
    assert torch.equal(again.read(2, 4).lr, whole[:, 2:4])
    assert source.first(3).read(0, 3).lr.shape[1] == 3


def test_a_training_sample_is_drawn_by_its_number(folder) -> None:
    sources = find(settings_of(folder, Real()), {"partition": "all"}).sources
    samples = ClipSamples(sources, Recipe(crop=16, frames=3, batch=1, samples_per_epoch=8), 0, every_frame=False)
    again = ClipSamples(sources, Recipe(crop=16, frames=3, batch=1, samples_per_epoch=8), 0, every_frame=False)
    assert torch.equal(samples[5].lr, again[5].lr) and samples[5].lr.shape == (1, 3, 3, 16, 16)
    assert not torch.equal(samples[0].lr, samples[8].lr)
    assert samples[5].hr is not None and samples[5].hr.shape[-1] == 64


def test_a_written_test_set_is_what_is_evaluated_without_it(folder, tmp_path) -> None:
    split = {"test": {"partition": "all"}}
    names = degrade(settings_of(folder, Real()), split, str(tmp_path / "out"))
    assert names == ["a", "b"]
    written = find(settings_of(tmp_path / "out", Bicubic()), split["test"]).sources
    direct = find(settings_of(folder, Real()), split["test"]).sources
    for one, other in zip(written, direct, strict=True):
        assert torch.equal(one.read(0, 6).lr, other.read(0, 6).lr)
        assert torch.equal(one.read(0, 6).hr, other.read(0, 6).hr)


def test_a_test_set_goes_on_and_is_not_mixed_with_another(folder, tmp_path) -> None:
    import shutil

    split, out = {"test": {"partition": "all"}}, tmp_path / "out"
    degrade(settings_of(folder, Real()), split, str(out))
    before = (out / "LR" / "a" / "00000000.png").stat().st_mtime_ns
    shutil.rmtree(out / "LR" / "b")
    degrade(settings_of(folder, Real()), split, str(out))
    assert (out / "LR" / "b" / "00000005.png").is_file()
    assert (out / "LR" / "a" / "00000000.png").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="another degradation"):
        degrade(settings_of(folder, Real("realesrgan")), split, str(out))
    with pytest.raises(DataError, match="holds other files"):
        degrade(settings_of(folder, Real()), split, str(folder))


def test_the_command_composes() -> None:
    cfg = compose(["method=basicvsrpp", "degradation=real", "degradation.codecs=[libx265]"], verb="train")
    assert cfg.degradation.codecs == ["libx265"] and cfg.degradation._target_ == "vsrbench.data.real.Real"
