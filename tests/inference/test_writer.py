"""A video file is complete under its name or not there, with the times, colours and audio it was given."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from inference_fakes import VIDEO, audio_packets, decoded, make_video, picture
from vsrbench.data.colour import Colour, read_rgb
from vsrbench.errors import ConfigError, DataError, RunError
from vsrbench.inference.reader import FrameTime, VideoFormat
from vsrbench.inference.writer import Audio, VideoWriter

NTSC = Fraction(30000, 1001)
FORMAT = VideoFormat(NTSC, 1 / NTSC, Fraction(1), Colour(1, 1, 1), 8)
SIZE = (32, 48)


def write(
    path: Path,
    video_format: VideoFormat = FORMAT,
    frames: int = 6,
    size: tuple[int, int] = SIZE,
    times: list[Fraction] | None = None,
    audio: Audio | None = None,
    cut: bool = False,
    **settings: object,
) -> Path:
    with VideoWriter(path, size, video_format, {**VIDEO, **settings}, audio) as writer:
        for n in range(frames):
            start = times[n] if times else n / video_format.rate
            pixels = torch.from_numpy(picture(n, size)).permute(2, 0, 1) / 255
            writer.write(pixels, FrameTime(start, 1 / video_format.rate))
            assert not path.exists()
        writer.finish(cut)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
@pytest.mark.parametrize("size", [(32, 48), (17, 23)])
def test_size_count_rate_and_colours_are_kept(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    path = write(tmp_path / name, size=size)
    frames = decoded(path)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == NTSC
    assert len(frames) == 6
    assert (frames[0].height, frames[0].width) == size
    assert (frames[0].colorspace, frames[0].color_range) == (1, 1)
    assert Colour.of(frames[0]) == FORMAT.colour
    for n, frame in enumerate(frames):
        assert np.abs(read_rgb(frame, FORMAT.colour).astype(float) - picture(n, size)).mean() < 3
    assert list(tmp_path.iterdir()) == [path]


def test_ten_bits_stay_ten_bits_with_their_tags(tmp_path: Path) -> None:
    video_format = VideoFormat(NTSC, 1 / NTSC, Fraction(1), Colour(9, 9, 16), 10)
    frame = decoded(write(tmp_path / "a.mp4", video_format))[0]
    assert frame.format.name == "yuv420p10le"
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (9, 9, 16)


def test_time_stamps_and_pixel_aspect_are_kept(tmp_path: Path) -> None:
    times = [Fraction(n, 1000) for n in (0, 40, 83, 160, 400, 441)]
    video_format = VideoFormat(Fraction(25), Fraction(1, 1000), Fraction(4, 3), Colour(6, 6, 6), 8)
    path = write(tmp_path / "a.mp4", video_format, times=times)
    assert [f.pts * f.time_base for f in decoded(path)] == times
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_frames_with_one_time_stamp_are_all_kept(tmp_path: Path) -> None:
    frames = decoded(write(tmp_path / "a.mp4", times=[Fraction(0)] * 3 + [n / NTSC for n in (1, 5, 6)]))
    assert len({f.pts for f in frames}) == 6


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_audio_is_copied_bit_by_bit(tmp_path: Path, name: str) -> None:
    source = make_video(tmp_path / "in.mp4", 30, audio=True)
    path = write(tmp_path / "out" / name, frames=30, audio=Audio(source))
    given, copied = audio_packets(source), audio_packets(path)
    assert [bits for _, bits in copied] == [bits for _, bits in given]
    offset = 0 if name == "a.mp4" else float(copied[0][0] - given[0][0])  # Matroska has no negative times
    assert [float(t) - offset for t, _ in copied] == pytest.approx([float(t) for t, _ in given], abs=1e-3)


def test_audio_can_end_with_the_last_frame(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 60, audio=True)
    path = write(tmp_path / "out.mp4", frames=20, audio=Audio(source), cut=True)
    packets = audio_packets(path)
    assert [bits for _, bits in packets] == [bits for t, bits in audio_packets(source) if t < 20 / NTSC]
    assert 20 / NTSC - packets[-1][0] <= Fraction(1024, 16000)


def test_audio_that_does_not_fit_names_codec_and_remedy(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", audio=True)
    with pytest.raises(ConfigError, match=r"\.webm cannot hold the input's audio \(aac\): write OUT\.mkv"):
        write(tmp_path / "out.webm", audio=Audio(source))
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("settings", "size", "message"),
    [
        ({"codec": "h265000"}, SIZE, "video.codec=h265000 is no video encoder"),
        ({"codec": "aac"}, SIZE, "video.codec=aac is no video encoder"),
        ({"codec": "prores_ks"}, SIZE, "video.codec=prores_ks does not fit .webm"),
        ({"codec": "libx264", "preset": "quick"}, SIZE, "preset"),
        ({"pix_fmt": "yuv999"}, SIZE, "video.pix_fmt"),
        ({"pix_fmt": "yuv420p"}, (17, 23), "23x17 yuv420p"),
    ],
)
def test_encoders_that_cannot_do_it_are_refused_before_the_first_frame(
    tmp_path: Path, settings: dict[str, str], size: tuple[int, int], message: str
) -> None:
    name = "a.webm" if settings.get("codec") == "prores_ks" else "a.mp4"
    with pytest.raises(ConfigError, match=message):
        VideoWriter(tmp_path / name, size, FORMAT, {**VIDEO, **settings}, None)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_nothing_half_written_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before")

    def interrupted() -> None:
        with VideoWriter(path, SIZE, FORMAT, VIDEO, None) as writer:
            writer.write(torch.zeros(3, *SIZE), FrameTime(Fraction(0), 1 / NTSC))
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"before"


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not finite"), VideoWriter(tmp_path / "a.mp4", SIZE, FORMAT, VIDEO, None) as w:
        w.write(torch.full((3, *SIZE), torch.nan), FrameTime(Fraction(0), 1 / NTSC))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*file/a\.mp4"):
        VideoWriter(tmp_path / "file" / "a.mp4", SIZE, FORMAT, VIDEO, None)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1"])
def test_a_quality_that_the_encoder_does_not_have_is_refused_before_work(tmp_path: Path, codec: str) -> None:
    with pytest.raises(ConfigError, match=rf"video\.crf=99: {codec} takes 0 \(best\) to (51|63)"):
        write(tmp_path / "a.mkv", codec=codec, crf=99)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_title_and_chapters_are_taken_over(tmp_path: Path, name: str) -> None:
    from vsrbench.inference.reader import VideoStream

    def chapter(number: int, start: int, end: int, title: str) -> dict:
        return {
            "id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title},
        }  # fmt: skip

    chapters = [chapter(0, 0, 100, "One"), chapter(1, 100, 200, "Two")]
    with VideoWriter(tmp_path / name, SIZE, FORMAT, VIDEO, None, {"title": "My film"}, chapters) as writer:
        for n in range(6):
            frame = torch.from_numpy(picture(n, SIZE)).permute(2, 0, 1) / 255
            writer.write(frame, FrameTime(n / NTSC, 1 / NTSC))
        writer.finish(False)
    source = VideoStream(tmp_path / name, 4)
    assert source.tags.get("title") == "My film"
    assert [c["metadata"]["title"] for c in source.chapters] == ["One", "Two"]
