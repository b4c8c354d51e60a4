"""Tiles cover a frame, blend without a trace, and know who they are."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_fakes import Fake, noise_clip
from vsrbench.diffusion.frames import frame_noise
from vsrbench.diffusion.noise import CroppedNoise, Noise
from vsrbench.errors import ConfigError
from vsrbench.inference.tiles import placed, upscale_tiled, weights
from vsrbench.methods.padding import upscale_padded
from vsrbench.types import Clip

SIZES = st.integers(1, 200)


def clip(lr: torch.Tensor) -> Clip:
    return Clip(lr[None], None, ["a"], torch.arange(len(lr))[None], 4)


@settings(max_examples=200)
@given(size=SIZES, overlap=st.integers(0, 24), extra=st.integers(1, 80), grid=st.sampled_from([1, 2, 8]))
def test_tiles_cover_every_pixel_with_at_least_the_overlap(size: int, overlap: int, extra: int, grid: int) -> None:
    tile = overlap + extra + grid - 1
    spans = placed(size, tile, overlap, grid)
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(start % grid == 0 for start, _ in spans)
    sides = [stop - start for start, stop in spans]
    assert (set(sides[:-1]) <= {tile} and tile - grid < sides[-1] <= tile) or sides == [size]
    for (_, stop), (start, _) in zip(spans, spans[1:], strict=False):
        assert stop - start >= overlap


@settings(max_examples=200)
@given(size=SIZES, overlap=st.integers(0, 24), extra=st.integers(1, 80), scale=st.sampled_from([1, 2, 4]))
def test_weights_sum_to_one_everywhere(size: int, overlap: int, extra: int, scale: int) -> None:
    spans = placed(size, overlap + extra, overlap)
    total = torch.zeros(size * scale)
    for (start, stop), ramp in zip(spans, weights(spans, size, overlap, scale), strict=True):
        assert (ramp >= 0).all()
        total[start * scale : stop * scale] += ramp
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("size", [(17, 23), (40, 64), (33, 100)])
@pytest.mark.parametrize("reach", [0, 2])
def test_tiles_equal_the_whole_frame_for_a_method_that_sees_a_quarter_of_the_overlap(
    size: tuple[int, int], reach: int
) -> None:
    whole = clip(noise_clip(2, size))
    method = Fake(reach=reach, multiple=8)
    expected = upscale_tiled(method, whole, None, None, 8)
    tiled = upscale_tiled(method, whole, None, 20, 8)
    # the bottom and right borders are where padding to the multiple ends, in tiles as in the whole frame
    inner = (..., slice(None, 4 * (size[0] - reach)), slice(None, 4 * (size[1] - reach)))
    torch.testing.assert_close(tiled[inner], expected[inner])


def test_a_constant_and_a_ramp_stay_what_they_are() -> None:
    ramp = torch.linspace(0, 1, 50).expand(1, 3, 30, 50)
    for lr in (torch.full((1, 3, 30, 50), 0.3), ramp):
        tiled = upscale_tiled(Fake(), clip(lr), None, 16, 6)
        torch.testing.assert_close(tiled[0, ..., ::4, ::4], lr)


def test_differing_tiles_are_blended_without_a_jump() -> None:
    class ByTile(Fake):
        """Tiles that disagree: the second one is brighter by one."""

        def upscale(self, clip: Clip, noise: object, **others: object) -> torch.Tensor:
            return super().upscale(clip, noise) * 0 + float(len(self.seen) > 1)

    frames = upscale_tiled(ByTile(), clip(noise_clip(1, (8, 24))), None, 16, 8)
    steps = frames[0, 0, 0, 0].diff()
    assert steps.min() >= 0
    assert steps.max() <= 0.07  # 8 LR pixels of overlap, half of them blend: 1/16 per HR pixel
    assert frames.max() == 1


class Grain(Fake):
    """Gives back the noise that it draws on a grid ``finer`` times as fine as the LR frame's."""

    finer = 1.0

    def upscale(self, clip: Clip, noise: Noise, **others: object) -> torch.Tensor:
        self.seen.append(clip)
        height, width = (-(-int(side * self.finer) // 1) for side in clip.lr.shape[-2:])
        grain = frame_noise(noise, clip, (3, height, width), "initial")[0]
        return F.interpolate(grain, size=[4 * side for side in clip.lr.shape[-2:]], mode="nearest")[None]


@pytest.mark.parametrize("finer", [0.25, 0.5, 1, 2, 4])
@pytest.mark.parametrize("size", [(24, 40), (32, 32)])
def test_tiles_are_cut_from_one_noise_field(finer: float, size: tuple[int, int], monkeypatch: Any) -> None:
    monkeypatch.setattr("vsrbench.inference.tiles.Tensor.clamp_", lambda self, *_: self)  # noise is no picture
    method = Grain(multiple=max(1, int(1 / finer)))
    method.finer = finer
    one = clip(noise_clip(2, size))
    whole = upscale_tiled(method, one, Noise(0), None, 4)
    tiled = upscale_tiled(method, one, Noise(0), 16, 4)
    assert len(method.seen) > 2 and {tuple(c.name) for c in method.seen} == {("a",)}
    torch.testing.assert_close(tiled, whole)


@pytest.mark.parametrize("size", [(17, 23), (16, 23), (17, 24), (5, 3)])
@pytest.mark.parametrize("finer", [1, 4])
def test_padding_does_not_change_the_noise_of_the_frame(finer: float, size: tuple[int, int]) -> None:
    plain, padding = Grain(), Grain(multiple=8, minimum=16)
    plain.finer = padding.finer = finer
    one = clip(noise_clip(2, size))
    assert torch.equal(upscale_padded(plain, one, Noise(0)), upscale_padded(padding, one, Noise(0)))
    assert padding.seen[0].lr.shape != one.lr.shape


def test_noise_beyond_the_frame_is_no_copy_of_what_is_inside() -> None:
    noise = CroppedNoise(Noise(0), (6, 6), (0, 0), (8, 8))
    draw = noise.normal((1, 8, 8), "initial", "a", 3, 0)
    assert torch.equal(draw[:, :6, :6], Noise(0).normal((1, 6, 6), "initial", "a", 3, 0))
    assert len(draw.unique()) == draw.numel()
    assert noise.normal((5,), "style", "a").equal(Noise(0).normal((5,), "style", "a")), "no grid, no crop"


@pytest.mark.parametrize(("tile", "overlap", "multiple"), [(8, 8, 1), (4, 8, 1), (None, -1, 1), (15, 8, 8)])
def test_an_overlap_that_does_not_fit_is_refused(tile: int | None, overlap: int, multiple: int) -> None:
    with pytest.raises(ConfigError, match=r"inference\.overlap"):
        upscale_tiled(Fake(multiple=multiple), clip(noise_clip(1, (32, 32))), None, tile, overlap)
