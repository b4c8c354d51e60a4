"""The bicubics that printed rows are made of, and the ground truth as a method."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, DataError
from vsrbench.methods.bicubic import Bicubic
from vsrbench.methods.gt import GroundTruth
from vsrbench.methods.padding import upscale_padded
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip


@pytest.fixture
def clip() -> Clip:
    pixels = torch.randint(0, 256, (1, 2, 3, 9, 11), generator=torch.Generator().manual_seed(0))
    hr = torch.rand(1, 2, 3, 36, 44, generator=torch.Generator().manual_seed(1))
    return Clip(lr=pixels / 255, hr=hr, name=["a"], index=torch.arange(2)[None], scale=4)


def bytes_of(frame: torch.Tensor) -> np.ndarray:
    return (frame * 255 + 0.5).floor().to(torch.uint8).permute(1, 2, 0).numpy()


def upscaled(clip: Clip, kernel: str) -> torch.Tensor:
    return Bicubic(kernel=kernel).upscale(clip, Noise(0))


def test_kernels_are_those_of_the_libraries(clip: Clip) -> None:
    lr = bytes_of(clip.lr[0, 0])
    by_cv2 = cv2.resize(lr, (44, 36), interpolation=cv2.INTER_CUBIC)
    by_pillow = np.array(Image.fromarray(lr).resize((44, 36), Image.Resampling.BICUBIC))
    ours = bytes_of(upscaled(clip, "cv2")[0, 0])
    assert np.abs(ours.astype(int) - by_cv2.astype(int)).max() <= 1
    assert (bytes_of(upscaled(clip, "pil")[0, 0]) == by_pillow).all()
    assert upscaled(clip, "matlab")[0, 0].equal(imresize(clip.lr[0, 0], 4).clamp(0, 1))


def test_the_kernels_differ(clip: Clip) -> None:
    frames = {kernel: upscaled(clip, kernel) for kernel in ("matlab", "cv2", "pil")}
    assert (frames["matlab"] - frames["cv2"]).abs().max() > 0.05  # a = -0.5 and -0.75
    inner = (frames["matlab"] - frames["pil"])[..., 12:-12, 12:-12].abs()
    assert 0 < inner.mean() < 0.5 / 255  # the same kernel; Pillow rounds and clips between the axes
    assert inner.mean() < 0.2 * (frames["matlab"] - frames["cv2"]).abs().mean()


def test_another_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.kernel=nearest: use matlab, cv2 or pil"):
        Bicubic(kernel="nearest")


def test_the_ground_truth_comes_back_unchanged_and_no_other_method_sees_it(clip: Clip) -> None:
    assert upscale_padded(GroundTruth(), clip, Noise(0)).equal(clip.hr)
    seen: list[torch.Tensor | None] = []

    class Spy(Bicubic):
        def upscale(self, clip: Clip, noise: Noise, trace: None = None, progress: None = None) -> torch.Tensor:
            seen.append(clip.hr)
            return super().upscale(clip, noise)

    upscale_padded(Spy(), clip, Noise(0))
    assert seen == [None]


def test_without_ground_truth_there_is_nothing_to_return() -> None:
    blind = Clip(lr=torch.zeros(1, 1, 3, 4, 4), hr=None, name=["a"], index=torch.zeros(1, 1).long(), scale=4)
    with pytest.raises(DataError, match="method=gt: a has no ground truth"):
        GroundTruth().upscale(blind, Noise(0))
