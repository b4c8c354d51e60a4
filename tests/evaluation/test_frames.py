import io

import numpy as np
import pytest
import torch
from PIL import Image

from vsrbench.errors import DataError
from vsrbench.evaluation.frames import check_sizes, encode, find, judged, read


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


class TestFind:
    def test_gives_every_frame_by_clip_and_number(self, make_source, write):
        a, b = make_source("a"), make_source("b/0001", frames=2)
        write(a)
        folder = write(b)
        found = find(folder, [a, b], "all")
        assert found["a"] == {n: folder / "a" / f"{n:04d}.png" for n in range(3)}
        assert list(found["b/0001"]) == [0, 1]

    def test_asks_only_for_the_frames_that_count(self, make_source, write):
        source = make_source("a")
        source.scored = [1]
        folder = write(source)
        assert list(find(folder, [source], "convention")["a"]) == [1]
        (folder / "a" / "0000.png").unlink()
        assert list(find(folder, [source], "convention")["a"]) == [1]
        with pytest.raises(DataError, match=r"a/0000\.png"):
            find(folder, [source], "all")

    def test_a_missing_frame_is_named(self, make_source, write):
        folder = write(source := make_source("a"))
        (folder / "a" / "0001.png").unlink()
        with pytest.raises(DataError, match=r"1 frames are missing, the first is a/0001\.png"):
            find(folder, [source], "all")

    def test_a_missing_clip_is_named(self, make_source, write):
        folder = write(make_source("a"))
        with pytest.raises(DataError, match=r"3 frames are missing, the first is b/0000\.png"):
            find(folder, [make_source("a"), make_source("b")], "all")

    def test_frames_that_count_from_1_are_not_taken_for_those_from_0(self, make_source, write):
        folder = write(source := make_source("a"))
        for n in (3, 2, 1):
            (folder / "a" / f"{n - 1:04d}.png").rename(folder / "a" / f"{n:04d}.png")
        with pytest.raises(DataError, match=r"a/0000\.png \(there is also a/0003\.png"):
            find(folder, [source], "all")

    @pytest.mark.parametrize("stray", ["a/Thumbs.db", "log.txt", "a/0003.png", "b/0000.png", "a/.0000.png"])
    def test_a_stray_file_is_named(self, make_source, write, stray):
        folder = write(source := make_source("a"))
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).touch()
        with pytest.raises(DataError, match="1 files are no frames of the data, the first is " + stray):
            find(folder, [source], "all")

    def test_an_empty_or_absent_folder_is_refused(self, make_source, tmp_path):
        with pytest.raises(DataError, match="the folder is empty"):
            find(tmp_path, [make_source("a")], "all")
        with pytest.raises(DataError, match="no such folder"):
            find(tmp_path / "nowhere", [make_source("a")], "all")

    def test_an_empty_set_is_refused(self, make_source, write):
        source = make_source("a")
        source.scored = []
        with pytest.raises(DataError, match="no frame to judge"):
            find(write(source), [source], "convention")


def test_judged_follows_the_convention_only_where_asked(make_source):
    source = make_source("a", frames=4)
    assert judged(source, "convention") == judged(source, "all") == [0, 1, 2, 3]
    source.scored = [2]
    assert judged(source, "convention") == [2]
    assert judged(source, "all") == [0, 1, 2, 3]


def test_another_size_is_named_before_anything_is_decoded(make_source, write):
    source = make_source("a")
    folder = write(source, source.hr[..., :-2])
    with pytest.raises(DataError, match=r"a/0000\.png has 38x32 pixels, a at scale=2 has 40x32"):
        check_sizes(source, find(folder, [source], "all")["a"])


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
