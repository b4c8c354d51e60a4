import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsrbench.data.readers import image_size, list_frames, read_image, to_8_bit
from vsrbench.errors import DataError


def touch(folder, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_frames_come_in_the_order_of_their_numbers(tmp_path) -> None:
    touch(tmp_path, *[f"im{n}.png" for n in range(1, 13)], "Thumbs.db", ".hidden.png", "notes.txt")
    frames = list_frames(tmp_path)
    assert frames.stems == [f"im{n}" for n in range(1, 13)]
    assert frames.first == 1
    assert frames.path(1) == f"{tmp_path}/im2.png"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Frame 001.png", "Frame 002.png", "Frame 004.png"], "Frame 003.png is missing.*restore"),
        (["9.png", "10.png", "12.png"], "11.png is missing"),
        (["a1.png", "b1.png"], "two frames with number 1"),
        (["first.png"], "first.png has no frame number"),
        ([], "no frames in"),
    ],
)
def test_broken_numbering_names_the_file(tmp_path, names: list[str], message: str) -> None:
    touch(tmp_path / "clip", *names)
    with pytest.raises(DataError, match=message):
        list_frames(tmp_path / "clip")


def test_a_missing_first_frame_is_a_hole(tmp_path) -> None:
    touch(tmp_path, "00000001.png", "00000002.png")
    with pytest.raises(DataError, match=r"00000000.png is missing"):
        list_frames(tmp_path, firsts=[0])
    assert list_frames(tmp_path, firsts=[0, 1]).first == 1


def test_no_folder(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no folder .*absent"):
        list_frames(tmp_path / "absent")


def test_grey_is_repeated(tmp_path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == grey[..., None]).all()
    assert image_size(tmp_path / "grey.png") == (6, 8)


def sixteen_bits(path) -> None:
    import cv2

    cv2.imwrite(str(path), np.full((6, 8, 3), 40000, dtype=np.uint16))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: Image.new("P", (8, 6)).save(p), "palette with 1 bits"),
        (lambda p: Image.new("RGBA", (8, 6)).save(p), "RGB with alpha"),
        (lambda p: Image.new("LA", (8, 6)).save(p), "grey with alpha"),
        (lambda p: Image.new("I;16", (8, 6)).save(p), "grey with 16 bits"),
        (lambda p: Image.new("1", (8, 6)).save(p), "grey with 1 bits"),
        (sixteen_bits, "RGB with 16 bits"),
    ],
)
def test_other_pixel_formats_are_refused(tmp_path, write, message: str) -> None:
    write(tmp_path / "odd.png")
    with pytest.raises(DataError, match=f"odd.png is {message}.*convert it"):
        read_image(tmp_path / "odd.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named(tmp_path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=f"cannot decode .*cut.{suffix}.*fetch it again"):
        read_image(path)


def test_what_is_no_image_is_named(tmp_path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"text.png"):
            read(tmp_path / "text.png")
    with pytest.raises(DataError, match=r"no such image"):
        read_image(tmp_path / "absent.png")


def deep(path, values: np.ndarray) -> None:
    import cv2

    cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values)


@pytest.mark.parametrize("shape", [(6, 8, 3), (6, 8)], ids=["RGB", "grey"])
def test_16_bits_are_rounded_where_they_are_taken(tmp_path, shape) -> None:
    """To the nearest of 256 values, channel by channel in RGB order; Pillow alone would cut them off."""
    values = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    deep(tmp_path / "0.png", values)
    read = read_image(tmp_path / "0.png", deep=True)
    expected = np.round(values / 65535 * 255).astype(np.uint8)
    assert read.shape == (6, 8, 3) and read.dtype == np.uint8
    assert (read == (expected if values.ndim == 3 else expected[..., None])).all()
    assert (read != (values >> 8 if values.ndim == 3 else values[..., None] >> 8)).any()


def test_all_8_bit_values_survive_16_bits() -> None:
    values = np.arange(256, dtype=np.uint16)
    assert (to_8_bit(values * 257) == values).all()
    assert to_8_bit(np.array([128, 129, 65535 - 128, 65535 - 129])).tolist() == [0, 1, 255, 254]


def test_8_bit_images_are_the_same_either_way(tmp_path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    assert (read_image(tmp_path / "0.png", deep=True) == read_image(tmp_path / "0.png")).all()


def test_16_bits_with_alpha_are_refused(tmp_path) -> None:
    deep(tmp_path / "0.png", np.zeros((6, 8, 4), dtype=np.uint16))
    with pytest.raises(DataError, match=r"RGB with alpha with 16 bits per value"):
        read_image(tmp_path / "0.png", deep=True)


def test_16_bits_with_a_transparent_colour_are_refused(tmp_path) -> None:
    """A tRNS chunk, which makes some readers invent an alpha channel."""
    deep(tmp_path / "0.png", np.zeros((6, 8, 3), dtype=np.uint16))
    content = (tmp_path / "0.png").read_bytes()
    chunk = b"tRNS" + bytes(6)
    chunk = struct.pack(">I", 6) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "0.png").write_bytes(content[:33] + chunk + content[33:])  # behind IHDR
    with pytest.raises(DataError, match=r"a transparent colour"):
        read_image(tmp_path / "0.png", deep=True)


def test_truncated_16_bits_are_named(tmp_path) -> None:
    deep(tmp_path / "0.png", np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16))
    content = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(content[:-4000])
    with pytest.raises(DataError, match=r"cannot decode .*0.png.*fetch it again"):
        read_image(tmp_path / "0.png", deep=True)


def test_a_folder_of_16_bits_warns_once(tmp_path, caplog) -> None:
    for n in range(3):
        deep(tmp_path / f"{n}.png", np.full((6, 8, 3), 40000, dtype=np.uint16))
    frames = list_frames(tmp_path, deep=True)
    assert (frames.read(2) == round(40000 / 257)).all()
    assert caplog.text.count("have 16 bits per value: they are rounded to 8") == 1
    with pytest.raises(DataError, match=r"2.png is RGB with 16 bits"):
        list_frames(tmp_path).read(2)


# --- names, kinds and damage as people have them -------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        "{:04d}x4.png",
        "frame_{:04d}_x2.png",
        "clip-{:04d}-1080p.png",
        "img{:03d}_20240101.png",
        "{:08d}.png",
        "a7_{}.png",
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_frames_are_numbered_by_the_digits_that_vary(make_tree, template: str, first: int) -> None:
    frames = list_frames(make_tree({"c": 12}, name=template, first=first) / "c")
    assert frames.first == first and list(frames.files) == [template.format(n) for n in range(first, first + 12)]
    (Path(frames.folder) / frames.files[4]).unlink()
    with pytest.raises(DataError, match=re.escape(template.format(first + 4)) + " is missing"):
        list_frames(frames.folder)


def test_two_sets_of_frames_in_one_folder_are_never_to_be_removed(make_tree) -> None:
    root = make_tree({"c": 3})
    make_tree({"c": 3}, name="{:03d}.png")
    with pytest.raises(DataError, match=r"two frames with number 0.*move one of the two sets") as error:
        list_frames(root / "c")
    assert "remove" not in str(error.value)


@pytest.mark.parametrize("suffix", [".tif", ".webp"])
def test_a_folder_of_another_format_says_so(tmp_path, suffix: str) -> None:
    (tmp_path / f"00000000{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"it holds 1 \{suffix} files, and frames are read from \.png, .*convert"):
        list_frames(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_viewers_show_it(tmp_path, orientation: int) -> None:
    from PIL import ImageOps

    values = np.zeros((24, 16, 3), np.uint8)
    values[:8, :8] = 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(tmp_path / "0.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "0.jpg") as image:
        expected = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(read_image(tmp_path / "0.jpg"), expected)
    assert image_size(tmp_path / "0.jpg") == expected.shape[:2]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damage_is_seen_alike_by_reader_and_check(tmp_path, suffix: str, settings) -> None:
    from vsrbench.data.check import report

    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    file = tmp_path / f"0{suffix}"
    Image.fromarray(noise).save(file)
    whole = file.read_bytes()
    assert read_image(file).shape == (32, 32, 3)
    damaged = {"short": whole[:-8], "half": whole[: len(whole) // 2]}
    if suffix == ".png":
        damaged["flipped"] = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    for content in damaged.values():
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged|incomplete"):
            read_image(file)
        text, sound = report(settings("folder", tmp_path), {"test": {"partition": "all"}})
        assert not sound and str(file) in "\n".join(text)


def test_what_is_no_picture_is_one_clear_error(tmp_path) -> None:
    import os
    import struct
    import zlib

    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(DataError, match="no regular file"):
        read_image(tmp_path / "0.png")
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    for call in (read_image, image_size):
        with pytest.raises(DataError, match="claims 60000x60000 pixels"):
            call(tmp_path / "1.png")
