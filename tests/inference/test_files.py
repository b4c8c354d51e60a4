"""From videos and folders to videos and folders: every frame once, at its time."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference_fakes import SETTINGS, VIDEO, Counter, Fake, audio_packets, decoded, make_video, picture
from vsrbench.errors import ConfigError
from vsrbench.inference.files import Job, notices, open_input

MADE = {"method": "fake"}


def job(path: Path, method: Fake | None = None, **changed: object) -> Job:
    return Job(method or Fake(context=1), open_input(path, 4), None, {**SETTINGS, **changed}, Counter())


@pytest.mark.parametrize(("frames", "chunk"), [(9, 4), (8, 4), (1, 4)])
def test_video_to_video_keeps_frames_rate_times_and_audio(tmp_path: Path, frames: int, chunk: int) -> None:
    source = make_video(tmp_path / "in.mp4", frames, size=(18, 22), audio=True)
    work = job(source, chunk=chunk)
    assert work.to_video(tmp_path / "out.mp4", VIDEO) == frames
    assert work.total.total == work.total.done == frames
    before, after = decoded(source), decoded(tmp_path / "out.mp4")
    assert [f.pts * f.time_base for f in after] == [f.pts * f.time_base for f in before]
    assert (after[0].height, after[0].width) == (72, 88)
    assert [b for _, b in audio_packets(tmp_path / "out.mp4")] == [b for _, b in audio_packets(source)]


def test_variable_rate_is_kept(tmp_path: Path) -> None:
    pts = [0, 40, 80, 160, 203, 240, 400, 441, 480, 521]
    source = make_video(tmp_path / "in.mkv", 10, rate=Fraction(25), pts=pts, tick=Fraction(1, 1000))
    job(source).to_video(tmp_path / "out.mp4", VIDEO)
    assert [float(f.time) * 1000 for f in decoded(tmp_path / "out.mp4")] == pytest.approx(pts, abs=1)


def test_max_frames_ends_picture_and_sound(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 60, audio=True)
    assert job(source, max_frames=5).to_video(tmp_path / "out.mp4", VIDEO) == 5
    assert len(decoded(tmp_path / "out.mp4")) == 5
    assert audio_packets(tmp_path / "out.mp4")[-1][0] < Fraction(5 * 1001, 30000)


def test_sound_can_be_notices(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 3, audio=True)
    job(source).to_video(tmp_path / "out.webm", {**VIDEO, "audio": False})
    assert len(decoded(tmp_path / "out.webm")) == 3


def test_rotated_video_comes_out_upright_and_untagged(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 2, size=(16, 32), rotation=90)
    job(source).to_video(tmp_path / "out.mp4", VIDEO)
    frame = decoded(tmp_path / "out.mp4")[0]
    assert (frame.height, frame.width, frame.rotation) == (128, 64, 0)


def test_video_to_folder_to_video(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 5, size=(16, 24))
    assert job(source).to_folder(tmp_path / "frames", MADE, force=False) == 5
    names = sorted(p.name for p in (tmp_path / "frames").glob("*.png"))
    assert names == [f"{n:08d}.png" for n in range(5)]
    again = job(tmp_path / "frames", Fake(scale=2))
    assert again.to_video(tmp_path / "out.mkv", {**VIDEO, "fps": "30000/1001"}) == 5
    last = decoded(tmp_path / "out.mkv")[-1]
    assert float(last.time) == pytest.approx(4 * 1001 / 30000, abs=1e-3)
    assert (last.height, last.width) == (128, 192)


def test_folder_to_folder_keeps_the_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(3):
        Image.fromarray(picture(n, (10, 12))).save(tmp_path / "in" / f"im{n + 1}.png")
    job(tmp_path / "in", Fake()).to_folder(tmp_path / "out", MADE, force=False)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["im1.png", "im2.png", "im3.png"]
    made = np.asarray(Image.open(tmp_path / "out" / "im2.png"))
    assert np.array_equal(made[::4, ::4], picture(1, (10, 12)))


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_second_call_makes_only_what_is_missing_and_the_same(tmp_path: Path, kind: str) -> None:
    source = make_video(tmp_path / "in.mp4", 12)
    if kind == "folder":
        job(source, Fake(scale=1)).to_folder(tmp_path / "in", MADE, force=False)
        source = tmp_path / "in"
    out = tmp_path / "out"
    job(source).to_folder(out, MADE, force=False)
    before = {p.name: p.read_bytes() for p in out.glob("*.png")}
    (out / "00000006.png").unlink()
    untouched = (out / "00000005.png").stat().st_mtime_ns
    method = Fake(context=1)
    assert job(source, method).to_folder(out, MADE, force=False) == 12
    assert {p.name: p.read_bytes() for p in out.glob("*.png")} == before
    assert (out / "00000005.png").stat().st_mtime_ns == untouched
    assert len(method.seen) == 1
    job(source, method).to_folder(out, MADE, force=True)
    assert (out / "00000005.png").stat().st_mtime_ns != untouched


@pytest.mark.parametrize("fps", [None, "fast", 0, "1/0", -3])
def test_a_folder_needs_a_frame_rate_to_become_a_video(tmp_path: Path, fps: object) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(picture(0, (10, 12))).save(tmp_path / "in" / "0.png")
    with pytest.raises(ConfigError, match=r"video\.fps"):
        job(tmp_path / "in").to_video(tmp_path / "out.mp4", {**VIDEO, "fps": fps})


def test_a_video_keeps_its_own_frame_rate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"video\.fps=50 is for folders"):
        job(make_video(tmp_path / "in.mp4", 2)).to_video(tmp_path / "out.mp4", {**VIDEO, "fps": 50})


def test_memory_holds_a_chunk_however_long_the_video(tmp_path: Path) -> None:
    method = Fake(context=1)
    work = job(make_video(tmp_path / "in.mp4", 40), method)
    for number, _ in work._frames(()):
        assert len(work.source._kept) <= 4 + 2
        assert work.source.count <= number + 4 + 1
    assert [clip.frames for clip in method.seen] == [5, *[6] * 8, 5]


def test_streams_that_are_left_out_are_named(tmp_path: Path, shared: Path) -> None:
    assert list(notices(open_input(make_video(tmp_path / "in.mp4", 2, audio=True), 4))) == []
    [notice] = notices(open_input(shared / "material/video/nasa_13013.mp4", 4))
    assert "4 streams (subtitle, video, audio, subtitle)" in notice


def test_a_real_film_starts_right(tmp_path: Path, shared: Path) -> None:
    """12 frames of 480x270 with a cut nowhere near: frame rate, size, colour tags and sound of the best streams."""
    source = shared / "material/video/nasa_13013.mp4"
    job(source, max_frames=12).to_video(tmp_path / "out.mp4", VIDEO)
    frames = decoded(tmp_path / "out.mp4")
    assert len(frames) == 12
    assert (frames[0].height, frames[0].width, frames[0].colorspace) == (1080, 1920, 1)
    original = open_input(source, 4).read(0, 12).lr[0]
    made = open_input(tmp_path / "out.mp4", 4).read(0, 12).lr[0][..., 1::4, 1::4]
    assert (made - original).abs().mean() < 0.02
    assert torch.equal(torch.tensor([f.pts for f in frames]).diff(), torch.full((11,), 1001))
