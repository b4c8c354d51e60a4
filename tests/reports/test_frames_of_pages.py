import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsrbench.errors import RunError
from vsrbench.reports.crops import data_uri, frame_files, framed, read_frames


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_frames_are_read_in_order(tmp_path: Path) -> None:
    frames = np.stack([noise(4, 6, seed) for seed in range(3)])
    for n in (2, 0, 1):
        Image.fromarray(frames[n]).save(tmp_path / f"{n:08d}.png")
    assert np.array_equal(read_frames(tmp_path), frames)


def test_names_without_padding_are_read_by_their_numbers(tmp_path: Path) -> None:
    for n in range(1, 13):
        (tmp_path / f"{n}.png").touch()
    assert [file.stem for file in frame_files(tmp_path)] == [str(n) for n in range(1, 13)]


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no frames in"):
        read_frames(tmp_path)


def test_framing_leaves_the_original_alone() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    marked = framed(image, 4, 5, 8, 7)
    assert not image.any()
    assert marked[4, 5].any() and marked[11, 12].any() and marked[7, 0].any()
    assert not marked[0].any() and not marked[5, 6].any()


def test_a_png_in_the_page_is_the_picture_itself() -> None:
    image = noise(6, 9)
    head, data = data_uri(image).split(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), image)
