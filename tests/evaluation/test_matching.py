"""Naming schemes that people use for predictions, and the sets of names that are refused."""

import pytest
import torch

from vsrbench.errors import DataError
from vsrbench.evaluation.frames import check_sizes, encode, find, pixels
from vsrbench.evaluation.matching import normal
from vsrbench.metrics.frame import quantise


@pytest.fixture
def named(make_source, make_protocol, tmp_path):
    """named({"name": frame number, ...}, frames=12, clip="a"): frames under these names, found for clip ``clip``."""

    def find_named(names: dict[str, int], frames: int = 12, clip: str = "a", others=(), scored=None):
        source = make_source(clip, frames=frames)
        source.scored = scored
        for name, number in names.items():
            file = tmp_path / "theirs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(source.hr[number]))
        sources = [source, *(make_source(other, frames=1) for other in others)]
        found = find(tmp_path / "theirs", sources[:1] if not others else sources, make_protocol())
        for number, frame in found.files[clip].items():
            assert pixels(frame).equal(quantise(source.hr[number]))
        assert list(found.files[clip]) == (scored or list(range(frames)))
        return found.notes

    return find_named


@pytest.mark.parametrize(
    "template",
    ["a/{:04d}.png", "a/{}.png", "a/{:08d}.png", "a/frame_{:03d}.png", "a/{:04d}_x4.png", "a/a_{}_out.png",
     "a/im{}.png", "a_{:04d}.png", "a-{}.png", "a_frame{:02d}.png", "{:05d}.png", "A/{:04d}.PNG",
     "a/x2_f{:03d}_8bit.png"],
)  # fmt: skip
@pytest.mark.parametrize("first", [0, 1])
def test_padding_words_flat_files_and_counting_from_1(named, template, first):
    """Numbers are numbers: 10 comes after 2 however they are padded."""
    notes = named({template.format(n + first): n for n in range(12)})
    assert notes == (["a: frames are numbered from 1, the data's from 0; taken in their order"] if first else [])


@pytest.mark.parametrize("folder", ["000", "0", "00"])
def test_clips_with_other_padding(named, folder):
    named({f"{folder}/{n:04d}.png": n for n in range(3)}, frames=3, clip="000")


@pytest.mark.parametrize(
    "template", ["00001/0266/im{}.png", "00001_0266/im{}.png", "1/266/{}.png", "00001_0266_im{}.png"]
)
def test_septuplets(named, template):
    named({template.format(n): n - 1 for n in range(1, 8)}, frames=7, clip="00001/0266")


def test_the_one_frame_that_counts_may_be_alone(named):
    named({"00001_0266.png": 3}, frames=7, clip="00001/0266", scored=[3])


def test_frames_that_count_keep_the_datas_numbers(named):
    named({"a/0.png": 0, "a/50.png": 50}, frames=52, scored=[0, 50])


def test_a_clip_whose_name_begins_with_anothers(named, tmp_path, make_source):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a_b_0.png").write_bytes(encode(make_source("a_b", frames=1).hr[0]))
    named({f"a_{n}.png": n for n in range(3)}, frames=3, others=["a_b"])


def test_names_are_compared_without_case_padding_and_separators():
    assert normal("00001/0266") == normal("1_266") and normal("Calendar") == normal("calendar") and normal("000") == "0"
    assert normal("clip10") != normal("clip1") and normal("a_100") != normal("a_10")


class TestRefused:
    def test_one_frame_too_few_even_where_the_others_look_complete(self, named):
        """The first frame dropped, the rest renumbered: each would be compared with its neighbour."""
        with pytest.raises(
            DataError, match=r"a has 11 frames, numbered 1 to 11, in the data it has 12 frames, 0 to 11"
        ):
            named({f"a/{n:03d}.png": n for n in range(1, 12)})

    def test_one_frame_too_many(self, named):
        with pytest.raises(DataError, match=r"a has 13 frames, numbered 0 to 12, in the data it has 12"):
            named({f"a/{n}.png": min(n, 11) for n in range(13)})

    def test_a_hole(self, named):
        with pytest.raises(DataError, match="number 5 is missing"):
            named({f"a/{n}.png": n for n in range(12) if n != 5})
        with pytest.raises(DataError, match="jump from 4 to 6"):
            named({f"b/{n + (n > 4)}.png": n for n in range(12)}, clip="b")

    def test_numbers_that_begin_anywhere(self, named):
        with pytest.raises(DataError, match="begin at 100, the data's at 0"):
            named({f"a/{n + 100}.png": n for n in range(12)})

    def test_two_files_of_one_number(self, named):
        with pytest.raises(DataError, match=r"a/01.png and a/1.png are both frame 1"):
            named({**{f"a/{n}.png": n for n in range(11)}, "a/01.png": 1})

    def test_names_of_two_kinds(self, named):
        with pytest.raises(DataError, match=r"a/0.png and a/f9.png are named in two ways"):
            named({**{f"a/{n}.png": n for n in range(9)}, "a/f9.png": 9}, frames=10)

    def test_names_without_a_number(self, named):
        with pytest.raises(DataError, match="does not tell the frame's number"):
            named({"a/one_0_0.png": 0, "a/one_1_1.png": 1}, frames=2)

    @pytest.mark.parametrize("stray", ["Thumbs.db", "a/.DS_Store", "a/log.txt", "a/00000000.jpg", "metrics.json"])
    def test_a_stray_file(self, named, tmp_path, stray):
        (tmp_path / "theirs" / "a").mkdir(parents=True)
        (tmp_path / "theirs" / stray).touch()
        with pytest.raises(DataError, match=f"1 files are no frames of the data, the first is {stray}"):
            named({f"a/{n}.png": n for n in range(12)})

    def test_flat_files_of_a_clip_that_the_data_do_not_have(self, named):
        with pytest.raises(DataError, match=r"4 frames are missing.*there is also z_0.png"):
            named({f"z_{n}.png": n for n in range(3)}, frames=3, others=["b"])


class TestVideos:
    @pytest.fixture
    def film(self, tmp_path):
        """film(name, frames): a lossless video of frames (T,3,H,W) in [0,1]."""
        import av

        def write(name: str, frames: torch.Tensor, pixel_format: str = "bgr0", matrix: int | None = None):
            path = tmp_path / "theirs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(path), "w") as container:
                stream = container.add_stream("ffv1", rate=25)
                stream.height, stream.width, stream.pix_fmt = *frames.shape[-2:], pixel_format
                if matrix is not None:
                    stream.codec_context.colorspace = matrix
                for frame in quantise(frames):
                    pixels = frame.permute(1, 2, 0).contiguous().numpy()
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode())
            return path.parent

        return write

    def test_a_video_holds_a_whole_clip_and_says_so(self, make_source, make_protocol, film):
        source = make_source("a")
        found = find(film("a.mkv", source.hr), [source], make_protocol())
        for number, frame in found.files["a"].items():
            assert pixels(frame).equal(quantise(source.hr[number]))
        assert found.notes == [
            "a.mkv is a video: what its codec lost counts against the method; protocols evaluate PNG frames"
        ]

    @pytest.mark.parametrize(("matrix", "remark"), [(None, "read as BT.601"), (1, "")])
    def test_a_colour_matrix_that_is_assumed_is_said(self, make_source, make_protocol, film, matrix, remark: str):
        source = make_source("a")
        folder = film("a.mkv", source.hr, "yuv444p", matrix)
        assert (remark in find(folder, [source], make_protocol()).notes[0]) and (
            ("names no colour matrix" in find(folder, [source], make_protocol()).notes[0]) == (matrix is None)
        )

    def test_another_number_of_frames_or_another_size_is_refused(self, make_source, make_protocol, film):
        source = make_source("a")
        with pytest.raises(DataError, match=r"a.mkv has 2 frames, a has 3"):
            find(film("a.mkv", source.hr[:2]), [source], make_protocol())
        found = find(film("a.mkv", source.hr[..., :-8]), [source], make_protocol())
        with pytest.raises(DataError, match=r"a.mkv has 32x32 pixels, a at scale=2 has 40x32"):
            check_sizes(source, found.files["a"])

    def test_frames_beside_a_video_are_refused(self, make_source, make_protocol, film):
        source = make_source("a")
        folder = film("a.mkv", source.hr)
        (folder / "a_0.png").write_bytes(encode(source.hr[0]))
        with pytest.raises(DataError, match=r"a.mkv and a_0.png both hold frames of a"):
            find(folder, [source], make_protocol())
