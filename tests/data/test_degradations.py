import numpy as np
import pytest
import torch
from PIL import Image

from vsrbench.data.degradations import SCALES, Bicubic
from vsrbench.errors import ConfigError


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
