"""Faults that make a number lower without making it implausible are told; sound frames are not accused."""

import pytest
import torch

from vsrbench.evaluation.scoring import Expected, sanity_warnings, score
from vsrbench.metrics.frame import quantise
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip


@pytest.fixture
def clip():
    """Four frames of a texture that moves by three pixels a frame."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(3, 40, 60, generator=generator) * torch.tensor([1.0, 0.6, 0.3]).view(3, 1, 1)
    picture = torch.nn.functional.avg_pool2d(picture, 3, 1, 1)
    hr = torch.stack([picture[:, :32, 3 * t : 3 * t + 40] for t in range(4)])
    lr = imresize(hr, 0.5).clamp(0, 1)
    return Clip(lr=lr[None], hr=hr[None], name=["a"], index=torch.arange(4)[None], scale=2)


def told(clip: Clip, frames: torch.Tensor, bicubic: bool = False) -> list[str]:
    assert clip.hr is not None
    return sanity_warnings(quantise(frames), clip, quantise(clip.hr[0]), bicubic)


def noisy(frames: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    return (frames + 0.03 * noise).clamp(0, 1)


def test_sound_frames_are_not_suspected(clip):
    assert told(clip, noisy(clip.hr[0])) == []
    blurred = torch.nn.functional.avg_pool2d(clip.hr[0], 3, 1, 1)
    assert told(clip, blurred) == []


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda hr: hr.flip(1), "red and blue look swapped"),
        (lambda hr: hr.roll(1, 2), "shifted down by a pixel"),
        (lambda hr: hr.roll(-1, 2), "shifted up by a pixel"),
        (lambda hr: hr.roll(1, 3), "shifted right by a pixel"),
        (lambda hr: hr.roll(-1, 3), "shifted left by a pixel"),
        (lambda hr: torch.cat([hr[:1], hr[:-1]]), "one frame late"),
        (lambda hr: torch.cat([hr[1:], hr[-1:]]), "one frame early"),
    ],
)
def test_a_fault_is_told(clip, spoil, word):
    lines = told(clip, noisy(spoil(clip.hr[0])))
    assert len(lines) == 1 and word in lines[0]


def test_bicubic_frames_are_told_unless_they_are_meant_to_be(clip):
    enlarged = imresize(clip.lr[0], 2).clamp(0, 1)
    assert told(clip, enlarged) == ["the frames are bicubic interpolation of LR: is this the method's output?"]
    assert told(clip, enlarged, bicubic=True) == []


def test_still_frames_are_not_taken_for_late_ones(clip):
    still = Clip(lr=clip.lr[:, :1].expand(-1, 4, -1, -1, -1), hr=clip.hr[:, :1].expand(-1, 4, -1, -1, -1),
                 name=["a"], index=torch.arange(4)[None], scale=2)  # fmt: skip
    assert told(still, noisy(still.hr[0])) == []


def test_a_suspicion_stands_in_the_scores_with_the_clips_name(make_source, write, make_protocol):
    source = make_source("a")
    folder = write(source, noisy(source.hr.flip(1)))
    [line] = score(folder, [source], make_protocol()).warnings
    assert line == "a: red and blue look swapped: write RGB, not BGR"
    assert score(folder, [source], make_protocol(), expected=Expected(truth=True)).warnings == []
