import av
import numpy as np
import pytest

from vsrbench.data.finder import find
from vsrbench.data.video import VideoReader
from vsrbench.errors import DataError

FRAMES = 20


@pytest.fixture
def film(tmp_path):
    """A lossless video whose frame n is grey 10 n."""
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for n in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * n, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_are_the_same_in_any_order(film) -> None:
    reader = VideoReader(film)
    assert (reader.count, reader.size) == (FRAMES, (48, 64))
    for position in (0, 1, 5, 4, 19, 0, 12, 11, 13):
        assert (reader[position] == 10 * position).all()


def test_overlapping_reads_decode_once(film, monkeypatch) -> None:
    reader = VideoReader(film)
    passes = []
    decode = reader._decode
    monkeypatch.setattr(reader, "_decode", lambda: passes.append(1) or decode())
    for n in range(FRAMES - 1):
        assert (reader[n] == 10 * n).all()
        assert (reader[n + 1] == 10 * (n + 1)).all()
    assert len(passes) == 1


def test_a_video_is_lr_or_hr(film, settings) -> None:
    (lr,) = find(settings("video", film, role="lr"), {"partition": "all"}).sources
    assert (lr.name, lr.frames, lr.size, lr.has_hr) == ("film", FRAMES, (48, 64), False)
    assert lr.frame_names[3] == "00000003"
    clip = lr.read(3, 6)
    assert clip.hr is None
    assert (clip.lr[0, 1] * 255).round().unique().tolist() == [40]
    (hr,) = find(settings("video", film, role="hr"), {"partition": "all"}).sources
    assert (hr.size, hr.read(0, 2).hr.shape) == ((12, 16), (1, 2, 3, 48, 64))


def test_real_videos(shared) -> None:
    """Of several streams, FFmpeg's choice; 10 bits become 8."""
    counts = {"big_buck_bunny_720p": 122, "nasa_13013": 390, "h264_10bit": 30}
    for name, count in counts.items():
        reader = VideoReader(shared / f"material/video/{name}.mp4")
        assert reader.count == count
        assert reader[2].dtype == np.uint8
        assert reader[2].shape == (*reader.size, 3)


def test_broken_files_are_named(tmp_path, film) -> None:
    with pytest.raises(DataError, match=r"no video file .*absent.mp4"):
        VideoReader(tmp_path / "absent.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text.mp4 as a video"):
        _ = VideoReader(tmp_path / "text.mp4").count
    with pytest.raises(DataError, match=r"film.mkv ends at frame 20"):
        VideoReader(film)[FRAMES]
