"""Strips, slices over time and videos show what they say they show."""

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from training_fakes import fake_clip
from vsrbench.data.colour import Colour, read_rgb
from vsrbench.training import names
from vsrbench.training.media import RATE, SHORTEST, SMALLEST, compared, gif, show, strip, time_slice, write_video


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == RATE
        return [read_rgb(frame, Colour.of(frame)) for frame in container.decode(video=0)]


def test_strip_shows_bicubic_output_and_truth_of_the_middle_frame() -> None:
    clip = fake_clip("a", frames=3)
    picture = strip(compared(clip, torch.zeros_like(clip.hr)))
    width = clip.hr.shape[-1]
    assert picture.shape == (width, 3 * width, 3)
    assert picture.dtype == np.uint8
    assert (picture[:, width : 2 * width] == 0).all()
    assert (picture[:, 2 * width :] == np.floor(clip.hr[0, 1].permute(1, 2, 0).numpy() * 255 + 0.5)).all()


def test_slice_shows_steady_columns_for_what_stands_still_and_flicker_where_there_is_some() -> None:
    clip = fake_clip("a", frames=4)
    flicker = torch.zeros_like(clip.hr)
    flicker[:, ::2] = 1
    rows = compared(clip, flicker)
    picture = time_slice(rows)
    height = (picture.shape[0] - 4) // 3  # two gaps of two pixels
    bicubic, output, truth = (picture[n * (height + 2) : n * (height + 2) + height] for n in range(3))
    assert (bicubic == bicubic[0]).all() and (truth == truth[0]).all()
    one = height // 4
    assert (output[:one] == 255).all() and (output[one : 2 * one] == 0).all()


def test_a_video_plays_the_frames_in_order_and_long_enough(tmp_path: Path) -> None:
    film = np.stack([np.full((21, 33, 3), 60 * t, np.uint8) for t in range(4)])
    write_video(tmp_path / "a.mp4", film)
    decoded = frames(tmp_path / "a.mp4")
    assert len(decoded) == SHORTEST
    factor = -(-SMALLEST // 21)
    assert decoded[0].shape == (21 * factor // 2 * 2, 33 * factor // 2 * 2, 3)
    assert [round(frame.mean() / 60) for frame in decoded] == [0, 1, 2, 3] * (SHORTEST // 4)


def test_files_hold_what_the_loggers_get(tmp_path: Path) -> None:
    clip = fake_clip("val/0", frames=2)
    shown = show(clip, clip.hr * 0.5, tmp_path / "samples", 7)
    assert shown.files.keys() == set(names.MEDIA)
    for key, picture in shown.pictures.items():
        assert np.array_equal(np.asarray(Image.open(shown.files[key])), picture)
    assert shown.files[names.VIDEO].name == "step_000007_val_0.mp4"
    first = frames(shown.files[names.VIDEO])[0]
    factor = SMALLEST // shown.film.shape[1]
    assert np.abs(first[::factor, ::factor].astype(float) - shown.film[0]).mean() < 6


def test_a_gif_has_every_frame(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(gif(np.stack([np.full((8, 8, 3), 80 * t, np.uint8) for t in range(3)])))
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 3
