import io

import numpy as np
import pytest
import torch
from PIL import Image

from vsrbench.data.readers import FrameFiles
from vsrbench.errors import DataError
from vsrbench.evaluation.frames import check_sizes, encode, find, frame_numbers, read
from vsrbench.evaluation.matching import Frame


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


class TestFind:
    def test_gives_every_frame_by_clip_and_number(self, make_source, write, make_protocol):
        a, b = make_source("a"), make_source("b/0001", frames=2)
        write(a)
        folder = write(b)
        found = find(folder, [a, b], make_protocol()).files
        assert found["a"] == {n: Frame(folder / "a" / f"{n:04d}.png") for n in range(3)}
        assert list(found["b/0001"]) == [0, 1]

    def test_asks_only_for_the_frames_that_count(self, make_source, write, make_protocol):
        source = make_source("a")
        source.scored = [1]
        folder = write(source)
        assert list(find(folder, [source], make_protocol()).files["a"]) == [1]
        (folder / "a" / "0000.png").unlink()
        assert list(find(folder, [source], make_protocol()).files["a"]) == [1]
        with pytest.raises(DataError, match=r"a/0000\.png"):
            find(folder, [source], make_protocol(frames="all"))

    def test_a_missing_frame_is_named(self, make_source, write, make_protocol):
        folder = write(source := make_source("a"))
        (folder / "a" / "0001.png").unlink()
        with pytest.raises(DataError, match=r"1 frames are missing, the first is a/0001\.png"):
            find(folder, [source], make_protocol(frames="all"))

    def test_a_missing_clip_is_named(self, make_source, write, make_protocol):
        folder = write(make_source("a"))
        with pytest.raises(DataError, match=r"3 frames are missing, the first is b/0000\.png"):
            find(folder, [make_source("a"), make_source("b")], make_protocol())

    def test_the_ground_truths_own_folder_is_refused(self, make_source, write, make_protocol):
        folder = write(source := make_source("a"))
        source.hr_files = FrameFiles(str(folder / "a"), ("0000.png",), 0)
        with pytest.raises(DataError, match=r"holds the ground truth of a: .*method=gt"):
            find(folder, [source], make_protocol())

    def test_a_run_folder_stands_for_its_frames(self, make_source, write, make_protocol, tmp_path):
        write(source := make_source("a"))
        (tmp_path / "out").rename(tmp_path / "frames")
        (tmp_path / "config.yaml").touch()
        (tmp_path / "log.txt").touch()
        assert len(find(tmp_path, [source], make_protocol()).files["a"]) == 3

    def test_a_folder_around_the_clips_is_named(self, make_source, write, make_protocol, tmp_path):
        folder = write(source := make_source("a"))
        with pytest.raises(DataError, match=rf"did you mean predictions={folder}\?"):
            find(tmp_path, [source], make_protocol())

    @pytest.mark.parametrize("stray", ["a/Thumbs.db", "log.txt", "b/0000.png", "a/.0000.png"])
    def test_a_stray_file_is_named(self, make_source, write, make_protocol, stray):
        folder = write(source := make_source("a"))
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).touch()
        with pytest.raises(DataError, match="1 files are no frames of the data, the first is " + stray):
            find(folder, [source], make_protocol(frames="all"))

    def test_an_empty_or_absent_folder_is_refused(self, make_source, make_protocol, tmp_path):
        with pytest.raises(DataError, match="the folder is empty"):
            find(tmp_path, [make_source("a")], make_protocol())
        with pytest.raises(DataError, match="no such folder"):
            find(tmp_path / "nowhere", [make_source("a")], make_protocol())

    def test_an_empty_set_is_refused(self, make_source, write, make_protocol):
        source = make_source("a")
        source.scored = []
        with pytest.raises(DataError, match="no frame to evaluate"):
            find(write(source), [source], make_protocol())


def test_judged_follows_the_protocol(make_source):
    source = make_source("a", frames=4)
    assert (
        frame_numbers(source, "convention") == frame_numbers(source, "all") == frame_numbers(source, 9) == [0, 1, 2, 3]
    )
    assert (
        frame_numbers(source, 2) == [0, 1]
        and frame_numbers(source, "all", trim=1) == [1, 2]
        and frame_numbers(source, "all", 2) == []
    )
    source.scored = [2]
    assert frame_numbers(source, "convention") == [2]
    assert frame_numbers(source, "all") == [0, 1, 2, 3]


def test_another_size_is_named_before_anything_is_decoded(make_source, write, make_protocol):
    source = make_source("a")
    folder = write(source, source.hr[..., :-2])
    with pytest.raises(DataError, match=r"a/0000\.png has 38x32 pixels, a at scale=2 has 40x32"):
        check_sizes(source, find(folder, [source], make_protocol()).files["a"])


class TestRead:
    def test_gives_what_was_written(self, tmp_path):
        frame = torch.arange(3 * 16 * 20).remainder(256).view(3, 16, 20)
        (tmp_path / "0.png").write_bytes(encode(frame / 255))
        pixels = read(tmp_path / "0.png")
        assert pixels.dtype == torch.uint8 and pixels.equal(frame.to(torch.uint8))

    @pytest.mark.parametrize(
        "image",
        [Image.new("L", (20, 16)), Image.new("RGBA", (20, 16)), Image.new("P", (20, 16)), Image.new("I;16", (20, 16))],
        ids=lambda image: image.mode,
    )
    def test_refuses_everything_but_8_bit_rgb(self, tmp_path, image):
        (tmp_path / "0.png").write_bytes(png(image))
        with pytest.raises(DataError, match=r"0\.png is .*8-bit RGB"):
            read(tmp_path / "0.png")

    def test_refuses_16_bit_rgb_that_a_library_would_reduce(self, tmp_path):
        import cv2

        cv2.imwrite(str(tmp_path / "0.png"), np.zeros((16, 20, 3), np.uint16))
        with pytest.raises(DataError, match="16 bits"):
            read(tmp_path / "0.png")

    def test_refuses_a_jpeg_with_the_wrong_name(self, tmp_path):
        Image.new("RGB", (20, 16)).save(tmp_path / "0.png", format="JPEG")
        with pytest.raises(DataError, match="no RGB PNG"):
            read(tmp_path / "0.png")

    @pytest.mark.parametrize("kept", [0, 20, 40, 200])
    def test_refuses_a_truncated_file(self, tmp_path, kept):
        noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        (tmp_path / "0.png").write_bytes(png(Image.fromarray(noise))[:kept])
        with pytest.raises(DataError, match=r"0\.png"):
            read(tmp_path / "0.png")


def test_encode_refuses_values_that_are_not_finite():
    with pytest.raises(DataError, match="not finite"):
        encode(torch.full((3, 4, 4), float("nan")))


@pytest.mark.parametrize("value", [255.0, -3.0])
def test_encode_refuses_frames_of_another_range(value):
    """Frames in 0..255 would become white, without a word."""
    with pytest.raises(DataError, match=r"instead of \[0,1\]"):
        encode(torch.full((3, 4, 4), value))
