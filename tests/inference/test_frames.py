"""Folders of frames: complete or refused on the way in, kept and never mixed on the way out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference_fakes import noise_clip, picture
from vsrbench.errors import DataError, RunError
from vsrbench.inference.files import FrameFolder, open_folder

MADE = {"method": "fake", "seed": 1}


def save(folder: Path, names: list[str], size: tuple[int, int] = (12, 16)) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(picture(number, size)).save(folder / name)
    return folder


def test_frames_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    source = open_folder(save(tmp_path / "in", ["f9.png", "f10.png", "f11.png"]), 4)
    assert source.frame_names == ["f9", "f10", "f11"]
    clip = source.read(0, 3)
    assert clip.scale == 4
    assert torch.equal((clip.lr[0, 1] * 255).byte(), torch.from_numpy(picture(1, (12, 16))).permute(2, 0, 1))


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", ["0.png", "1.png"])
    Image.fromarray(picture(0, (12, 18))).save(folder / "2.png")
    with pytest.raises(DataError, match=r"2\.png has 18x12 pixels, 0\.png has 16x12"):
        open_folder(folder, 4)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frames"):
        open_folder(tmp_path, 4)


def test_frames_are_written_as_8_bit_png_under_their_names(tmp_path: Path) -> None:
    frame = noise_clip(1)[0]
    FrameFolder(tmp_path / "a", ["f9"], MADE, force=False).write(0, frame)
    FrameFolder(tmp_path / "b", None, MADE, force=False).write(7, frame)
    values = np.asarray(Image.open(tmp_path / "a" / "f9.png"))
    assert np.array_equal(values, (frame * 255 + 0.5).byte().permute(1, 2, 0).numpy())
    assert (tmp_path / "b" / "00000007.png").is_file()


def test_finished_frames_are_known_to_the_next_call_with_the_same_settings(tmp_path: Path) -> None:
    FrameFolder(tmp_path / "a", None, MADE, force=False).write(1, noise_clip(1)[0])
    again = FrameFolder(tmp_path / "a", None, MADE, force=False)
    assert [n in again for n in range(3)] == [False, True, False]
    assert 1 not in FrameFolder(tmp_path / "a", None, MADE, force=True)


def test_frames_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    FrameFolder(tmp_path / "a", None, MADE, force=False)
    with pytest.raises(RunError, match=r"other settings \(seed\).*force=true"):
        FrameFolder(tmp_path / "a", None, {**MADE, "seed": 2}, force=False)
    FrameFolder(tmp_path / "a", None, {**MADE, "seed": 2}, force=True)


def test_a_folder_of_other_origin_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", ["0.png"])
    with pytest.raises(RunError, match="other origin"):
        FrameFolder(folder, None, MADE, force=False)


def test_the_end_finds_what_does_not_belong_and_what_is_missing(tmp_path: Path) -> None:
    folder = FrameFolder(tmp_path / "a", None, MADE, force=False)
    folder.write(0, noise_clip(1)[0])
    folder.finish(1)
    with pytest.raises(RunError, match=r"00000001\.png is missing"):
        folder.finish(2)
    save(tmp_path / "a", ["z.png"])
    with pytest.raises(RunError, match=r"z\.png is no frame of this input"):
        folder.finish(1)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*file"):
        FrameFolder(tmp_path / "file" / "a", None, MADE, force=False)
