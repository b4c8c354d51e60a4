"""Tiles cover a frame, blend without a trace, and know who they are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_fakes import Fake, noise_clip
from vsrbench.errors import ConfigError
from vsrbench.inference.tiles import placed, upscale_tiled, weights
from vsrbench.types import Clip

SIZES = st.integers(1, 200)


def clip(lr: torch.Tensor) -> Clip:
    return Clip(lr[None], None, ["a"], torch.arange(len(lr))[None], 4)


@settings(max_examples=200)
@given(size=SIZES, overlap=st.integers(0, 24), extra=st.integers(1, 80))
def test_tiles_cover_every_pixel_with_at_least_the_overlap(size: int, overlap: int, extra: int) -> None:
    spans = placed(size, overlap + extra, overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert len({stop - start for start, stop in spans}) == 1
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
            return super().upscale(clip, noise) * 0 + float(not clip.name[0].endswith("@0,0"))

    frames = upscale_tiled(ByTile(), clip(noise_clip(1, (8, 24))), None, 16, 8)
    steps = frames[0, 0, 0, 0].diff()
    assert steps.min() >= 0
    assert steps.max() <= 0.07  # 8 LR pixels of overlap, half of them blend: 1/16 per HR pixel
    assert frames.max() == 1


def test_tiles_have_names_of_their_own_and_whole_frames_keep_theirs() -> None:
    method = Fake()
    upscale_tiled(method, clip(noise_clip(1, (16, 28))), None, 16, 4)
    assert [c.name for c in method.seen] == [["a@0,0"], ["a@0,12"]]
    assert {c.lr.shape[-2:] for c in method.seen} == {(16, 16)}
    method = Fake()
    upscale_tiled(method, clip(noise_clip(1, (16, 30))), None, 30, 4)
    assert method.seen[0].name == ["a"]


@pytest.mark.parametrize(("tile", "overlap"), [(8, 8), (4, 8), (None, -1)])
def test_an_overlap_that_does_not_fit_is_refused(tile: int | None, overlap: int) -> None:
    with pytest.raises(ConfigError, match=r"inference\.overlap"):
        upscale_tiled(Fake(), clip(noise_clip(1)), None, tile, overlap)
