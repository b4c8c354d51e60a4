"""What a video file shows is what a reader gives: frames, times, colours, the right way up."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from inference_fakes import make_video, picture, tone
from vsrbench.data.colour import Colour
from vsrbench.errors import DataError
from vsrbench.inference.reader import VideoStream

NTSC = Fraction(30000, 1001)


def everything(path: Path) -> torch.Tensor:
    return VideoStream(path, 4).read(0, 10_000).lr[0]


def expected(frames: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.from_numpy(np.stack([picture(n, size) for n in range(frames)])).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "size"),
    [
        ("a.mp4", "libx264", "yuv420p", (32, 48)),
        ("a.mkv", "libx264", "yuv444p", (17, 23)),
        ("a.mp4", "libx264", "yuv420p10le", (32, 48)),
        ("a.webm", "libvpx-vp9", "yuv420p", (32, 48)),
        ("a.avi", "libx264", "yuv420p", (32, 48)),
        ("a.mkv", "libx264rgb", "rgb24", (17, 23)),
    ],
)
def test_frames_come_in_order_with_their_colours(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    path = make_video(tmp_path / name, 10, size, codec=codec, pix_fmt=pix_fmt)
    frames = everything(path)
    assert frames.shape == (10, 3, *size)
    assert frames.dtype == torch.float32
    bound = 0.08 if codec == "libvpx-vp9" else 0.03
    assert (frames - expected(10, size)).abs().mean() < bound / 3
    assert (frames.mean((0, 2, 3)) - expected(10, size).mean((0, 2, 3))).abs().max() < bound / 3


def test_ten_bits_are_more_than_eight(tmp_path: Path) -> None:
    stream = VideoStream(make_video(tmp_path / "a.mp4", 1, (64, 96), pix_fmt="yuv420p10le"), 4)
    assert stream.format.bits == 10
    values = stream.read(0, 1).lr * 255
    assert (values - values.round()).abs().max() > 0.2


@pytest.mark.parametrize("colour", [Colour(1, 1, 1), Colour(6, 6, 6), Colour(5, 5, 5)])
def test_tagged_files_are_read_with_their_own_matrix(tmp_path: Path, colour: Colour) -> None:
    stream = VideoStream(make_video(tmp_path / "a.mp4", 2, (32, 48), colour=colour), 4)
    assert stream.format.colour == colour
    assert (stream.read(0, 2).lr[0] - expected(2, (32, 48))).abs().mean() < 0.01


def test_overlapping_reads_decode_once_and_keep_only_what_they_need(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 20)
    whole, stream = everything(path), VideoStream(path, 4)
    for start, stop in [(0, 6), (2, 10), (6, 14), (10, 18), (14, 22)]:
        clip = stream.read(start, stop)
        assert clip.index.tolist() == [list(range(start, min(stop, 20)))]
        assert torch.equal(clip.lr[0], whole[start:stop])
        assert len(stream._kept) <= stop - start
    assert stream.count == 20
    assert stream.ended
    assert stream.read(20, 24).frames == 0
    with pytest.raises(ValueError, match="forgotten"):
        stream.read(3, 5)


def test_reading_may_begin_far_into_the_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 20)
    stream = VideoStream(path, 4)
    assert torch.equal(stream.read(15, 18).lr[0], everything(path)[15:18])
    assert VideoStream(path, 4).read(30, 34).frames == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_constant_rate_is_exact_in_every_container(tmp_path: Path, name: str) -> None:
    stream = VideoStream(make_video(tmp_path / name, 12), 4)
    stream.read(0, 12)
    assert stream.format.rate == NTSC
    assert [stream.frame_time(n).start for n in range(12)] == [n / NTSC for n in range(12)]
    assert all((stream.frame_time(n).start / stream.format.tick).denominator == 1 for n in range(12))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_rate_keeps_its_time_stamps(tmp_path: Path, name: str) -> None:
    pts = [0, 40, 80, 160, 203, 240, 400, 440, 480, 521]
    path = make_video(tmp_path / name, 10, rate=Fraction(25), pts=pts, tick=Fraction(1, 1000))
    stream = VideoStream(path, 4)
    stream.read(0, 10)
    told = [float(stream.frame_time(n).start * 1000) for n in range(10)]
    assert told == pytest.approx(pts, abs=1)
    assert stream.frame_time(3).start * 1000 == 160


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_video_comes_upright(tmp_path: Path, rotation: int) -> None:
    plain = everything(make_video(tmp_path / "plain.mp4", 2))
    stream = VideoStream(make_video(tmp_path / "turned.mp4", 2, rotation=rotation), 4)
    assert stream.size == ((32, 48) if rotation == 180 else (48, 32))
    # the file's angle counts counterclockwise, as rot90 does on (rows, columns)
    assert torch.equal(stream.read(0, 2).lr[0], torch.rot90(plain, rotation // 90, (-2, -1)))


def test_estimate_is_the_number_of_frames_where_the_file_says_it(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        assert VideoStream(make_video(tmp_path / name, 12), 4).estimate == 12


def test_real_files(shared: Path) -> None:
    stream = VideoStream(shared / "material/video/nasa_13013.mp4", 4)
    assert stream.size == (270, 480)  # FFmpeg's choice, not the first stream
    assert stream.format.rate == NTSC
    assert stream.estimate == 390
    assert stream.left_out == ["subtitle", "video", "audio", "subtitle"]
    assert VideoStream(shared / "material/video/h264_10bit.mp4", 4).format.bits == 10


@pytest.mark.parametrize(("name", "share"), [("a.mkv", 0.6), ("a.webm", 0.6), ("a.mp4", 0.6)])
def test_a_file_that_breaks_off_names_the_frame_and_what_can_be_had(tmp_path: Path, name: str, share: float) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    options = {"movflags": "faststart"} if name.endswith("mp4") else None
    path = make_video(tmp_path / name, 60, (64, 96), codec=codec, options=options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    stream = VideoStream(path, 4)
    with pytest.raises(DataError, match=r"a\.\w+ breaks off at frame \d+ .*max_frames=\d+"):
        stream.read(0, 60)
    assert 0 < stream.count < 60
    assert VideoStream(path, 4).read(0, stream.count).frames == stream.count


def test_files_without_video_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.mp4"
    text.write_text("no video")
    with pytest.raises(DataError, match=r"cannot open .*a\.mp4"):
        VideoStream(text, 4)
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        tone(out, out.add_stream("aac", rate=16000, layout="mono"), 1.0)
    with pytest.raises(DataError, match="no video stream"):
        VideoStream(tmp_path / "sound.mp4", 4)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 1)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # Matroska: everything before the first cluster
    with pytest.raises(DataError, match=r"no video frame|breaks off at frame 0|cannot open"):
        VideoStream(path, 4)


# --- fields --------------------------------------------------------------------------------------


def woven(path: Path, frames: int) -> Path:
    """A bar that moves 6 pixels per frame, recorded in two fields half a frame apart, top field first."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4", "x264-params": "tff=1"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for n in range(frames):
            pixels = np.full((64, 96, 3), 40, np.uint8)
            for field in (0, 1):
                place = 6 * n + 3 * field
                pixels[field::2, place : place + 12] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def combs(frames: torch.Tensor) -> float:
    """How much neighbouring lines differ: fields that were taken at two times make combs."""
    return (frames[..., 2:-2, :] - frames.roll(1, -2)[..., 2:-2, :]).abs().mean().item()


def test_interlaced_video_is_told_and_put_together_on_request(tmp_path: Path) -> None:
    path = woven(tmp_path / "a.mkv", 10)
    stream = VideoStream(path, 4)
    assert stream.interlaced and not VideoStream(make_video(tmp_path / "b.mkv", 2, (32, 48)), 4).interlaced
    whole = VideoStream(path, 4, deinterlace=True)
    fields, frames = stream.read(0, 20).lr[0], whole.read(0, 20).lr[0]
    assert fields.shape == frames.shape == (10, 3, 64, 96)
    assert combs(frames) < 0.3 * combs(fields)
    assert [whole.frame_time(n).start for n in range(10)] == [stream.frame_time(n).start for n in range(10)]
