from typing import Any

import pytest
import torch

import latent
from vsrbench.analysis.recording import Span, X0Recorder, check_method, choose_clips, record
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, DataError
from vsrbench.methods.padding import enlarge

NODE: dict[str, Any] = {"split": "test", "clips": None, "frames": 3}


class Short:
    """A source as far as choosing needs it."""

    def __init__(self, name: str, frames: int) -> None:
        self.name, self.frames = name, frames

    def first(self, frames: int | None) -> "Short":
        return Short(self.name, min(self.frames, frames or self.frames))


class Data:
    def __init__(self, **clips: int) -> None:
        self.sources: list[Any] = [Short(name, frames) for name, frames in clips.items()]

    def clips(self, split: str) -> list[Any]:
        return self.sources


class Last:
    """Trace that keeps x0 of the last step, on any device."""

    def on_step(self, step: int, frame: int | None, **tensors: torch.Tensor) -> None:
        self.x0 = tensors.get("x0", getattr(self, "x0", None))


def test_the_recorder_keeps_whole_clips_and_passes_over_the_rest() -> None:
    trace, x0 = X0Recorder(), torch.rand(1, 2, 4, 3, 3)
    trace.on_step(0, None, aligned=x0)
    trace.on_step(0, 1, x0=x0[:, 1])
    assert trace.steps == {}
    trace.on_step(0, None, x0=x0, x=x0)
    assert torch.equal(trace.steps[0], x0)


@pytest.mark.parametrize("size", [(16, 16), (18, 22)])
def test_a_recording_is_what_sampling_showed(size: tuple[int, int]) -> None:
    """With sizes that need padding the recording has the frames' own size."""
    method, clip, noise = latent.method("dgaf"), latent.make_clip(3, size), Noise(1)
    found = record(method, clip, noise, flows=True)
    trace, padded = Last(), enlarge(clip, method.multiple, method.minimum)
    method.upscale(padded, noise, trace=trace)
    height, width = size
    assert torch.equal(found.x0[-1], trace.x0[0, ..., :height, :width].float())
    assert found.timesteps == method.sampler.timesteps(method.prior.schedule) and len(found.x0) == 2
    assert found.to_previous is not None and found.frames == 3
    assert torch.equal(found.to_previous[1], method.flows(padded).flow_to(2, 1)[0, :, : 4 * height, : 4 * width])
    pairs = list(found.pairs(0))
    assert len(pairs) == 2 and torch.equal(pairs[1][0], found.x0[0][1:2])


def test_a_method_that_shows_no_x0_is_named() -> None:
    method = latent.method("dgaf")
    method.upscale = lambda *args, **kwargs: None
    with pytest.raises(ConfigError, match="show no x0 of whole clips"):
        record(method, latent.make_clip(2), Noise(1), flows=False)


def test_methods_that_cannot_be_analysed() -> None:
    with pytest.raises(ConfigError, match=r"task=warping needs .* optical flow \(dgaf, stablevsr\)"):
        check_method(latent.method("ldm"), "warping", warps=True)
    check_method(latent.method("ldm"), "correlation", warps=False)
    check_method(latent.method("dgaf"), "warping", warps=True)


def test_choice_of_clips() -> None:
    data = Data(a=9, b=2)
    assert [(s.name, s.frames) for s in choose_clips(data, NODE)] == [("a", 3), ("b", 2)]
    assert [s.name for s in choose_clips(data, {**NODE, "clips": ["b"], "frames": None})] == ["b"]


def test_clips_that_cannot_be_analysed() -> None:
    with pytest.raises(DataError, match=r"clip b has one frame: .* two are needed"):
        choose_clips(Data(a=3, b=1), NODE)
    with pytest.raises(ConfigError, match=r"analysis\.frames=1: .* two are needed"):
        choose_clips(Data(a=3), {**NODE, "frames": 1})
    with pytest.raises(DataError, match="no clip c; there are a, b"):
        choose_clips(Data(a=3, b=3), {**NODE, "clips": ["c"]})
    with pytest.raises(DataError, match="no clip in split 'test'"):
        choose_clips(Data(), NODE)


def test_span_brings_every_channel_to_unit_range() -> None:
    steps = [torch.randn(2, 4, 5, 6) * 3 + 1 for _ in range(3)]
    span = Span.of(steps)
    units = torch.stack([span.unit(x) for x in steps])
    assert torch.allclose(units.amin(dim=(0, 1, 3, 4)), torch.zeros(4), atol=1e-6)
    assert torch.allclose(units.amax(dim=(0, 1, 3, 4)), torch.ones(4), atol=1e-6)


def test_span_of_a_flat_channel() -> None:
    span = Span.of([torch.full((2, 4, 3, 3), 7.0)])
    assert span.unit(torch.full((4, 3, 3), 7.0)).abs().max() == 0
