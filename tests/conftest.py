"""Fixtures that tests of several parts share."""

import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

import vsrbench  # noqa: F401  (before anything imports torchvision)

REPOSITORY = Path(__file__).resolve().parents[1]

# no test depends on what somebody fetched; VSRBENCH_WEIGHTS=DIR pytest ... runs those of published files too
os.environ.setdefault("VSRBENCH_WEIGHTS", str(REPOSITORY / "no-weights"))

settings.register_profile("vsrbench", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("vsrbench")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference material: $VSRBENCH_SHARED, or ``shared`` beside the checkout."""
    folder = Path(os.environ.get("VSRBENCH_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "material").is_dir():
        pytest.skip(f"no reference material in {folder} (set VSRBENCH_SHARED)")
    return folder


def picture(key: str, size: tuple[int, int]) -> np.ndarray:
    """A picture (H,W,3) uint8 that depends on ``key`` alone: waves with a little noise."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(x * rng.uniform(0.1, 0.9) + y * rng.uniform(0.1, 0.9) + rng.uniform(0, 6)) for _ in range(3)]
    values = 128 + 80 * np.stack(waves, axis=-1) + rng.normal(0, 8, (*size, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


Tree = Callable[..., Path]


@pytest.fixture
def make_tree(tmp_path: Path) -> Tree:
    """``make_tree({"train_sharp/000": 5, ...})`` writes so many PNG frames into each folder and returns the root.

    size: (H,W) of the frames; name: template of the file names; first: number of the first frame. Called again,
    it adds to the same root.
    """

    def make(
        clips: Mapping[str, int], size: tuple[int, int] = (48, 64), name: str = "{:08d}.png", first: int = 0
    ) -> Path:
        root = tmp_path / "tree"
        for clip, frames in clips.items():
            folder = root / clip
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(first, first + frames):
                file = folder / name.format(number)
                Image.fromarray(picture(f"{clip}/{number}/{size}", size)).save(file, compress_level=1)
        return root

    return make
