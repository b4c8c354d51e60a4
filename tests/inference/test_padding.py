"""Any size goes in, exactly scale times that size comes out."""

import pytest
import torch

from inference_fakes import Fake, noise_clip
from training_fakes import FakeMethod, FakeModule, fake_clip
from vsrbench.diffusion.frames import frame_noise
from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.methods.padding import enlarge, padded_size, upscale_padded
from vsrbench.types import Clip


def clip(size: tuple[int, int], **parts: torch.Tensor) -> Clip:
    lr = noise_clip(3, size)[None]
    return Clip(lr, None, ["a"], torch.arange(3)[None], 4, **parts)


@pytest.mark.parametrize("size", [(17, 23), (16, 24), (1, 1), (5, 40)])
@pytest.mark.parametrize(("multiple", "minimum"), [(1, 1), (8, 1), (8, 32)])
def test_padding_leaves_the_picture_as_it_is(size: tuple[int, int], multiple: int, minimum: int) -> None:
    small = clip(size)
    method = Fake(multiple=multiple, minimum=minimum)
    frames = upscale_padded(method, small, noise=None)
    assert frames.shape == (1, 3, 3, 4 * size[0], 4 * size[1])
    assert torch.equal(frames[..., ::4, ::4], small.lr)


def test_padding_repeats_the_last_row_and_column() -> None:
    padded = enlarge(clip((5, 6)), multiple=8, minimum=1).lr
    assert padded.shape[-2:] == (8, 8)
    assert torch.equal(padded[..., 5:, :6], padded[..., 4:5, :6].expand(-1, -1, -1, 3, -1))
    assert torch.equal(padded[..., 6:], padded[..., 5:6].expand(-1, -1, -1, -1, 2))


@pytest.mark.parametrize("frames", [1, 3])
def test_exact_flow_and_occlusion_are_padded_too(frames: int) -> None:
    flow = torch.rand(1, 2, 2, 5, 6)
    given = clip((5, 6), flow_forward=flow, occlusion=flow > 0.5).window(0, frames)
    padded = enlarge(given, multiple=4, minimum=1)
    assert padded.flow_forward.shape == (1, frames - 1, 2, 8, 8)
    assert padded.occlusion.dtype == torch.bool
    assert torch.equal(padded.flow_forward[..., :5, :6], given.flow_forward)


def test_padded_size_is_the_smallest_that_fits() -> None:
    assert [padded_size(n, 8, 16) for n in (1, 16, 17, 24)] == [16, 16, 24, 24]
    assert padded_size(5, 8, 20) == 24


def test_the_method_never_sees_the_ground_truth() -> None:
    lr = noise_clip(2, (4, 4))[None]
    method = Fake()
    upscale_padded(method, Clip(lr, torch.zeros(1, 2, 3, 16, 16), ["a"], torch.arange(2)[None], 4), noise=None)
    assert method.seen[0].hr is None


def test_validation_sees_the_frames_that_upscaling_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """LR of 12x12, for a network that needs multiples of 8: padded in both places, with the same noise."""
    seen: list[torch.Tensor] = []

    class Sized(FakeMethod):
        multiple = 8

        def upscale(self, clip: Clip, noise: NoiseSource, **others: object) -> torch.Tensor:
            assert all(side % 8 == 0 for side in clip.lr.shape[-2:]) and clip.hr is None
            seen.append(frame_noise(noise, clip, tuple(clip.lr.shape[2:]), "initial"))
            return super().upscale(clip, noise) + 0.1 * seen[-1].repeat_interleave(2, -1).repeat_interleave(2, -2)

    method, one = Sized(), fake_clip("val/0", 3)
    module = FakeModule(method)
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(FakeModule, "global_step", 0)
    module.noise, module.measure = Noise(0), lambda clip, output: {}
    with torch.no_grad():
        output = module.validation_step(one, 0)["output"]
    assert torch.equal(output, upscale_padded(method, one, Noise(0)))
    assert seen[0].equal(seen[1]) and seen[0].shape[-2:] == (16, 16) and output.shape[-2:] == (24, 24)
