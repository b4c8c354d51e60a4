"""Image files: reading one in full, and the numbered frames of a folder."""

import logging
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from vsrbench.errors import DataError

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_REMEDY = "convert it to 8-bit RGB (for instance: ffmpeg -i IN.png -pix_fmt rgb24 OUT.png)"


class Header(NamedTuple):
    """What an image file says of itself: pixels, kind of colour ("RGB", "grey", ...), bits per value."""

    height: int
    width: int
    colour: str
    bits: int


def read_image(path: str | Path, deep: bool = False) -> np.ndarray:
    """8-bit RGB values (H,W,3). A grey image is repeated into three equal channels.

    deep: 16-bit PNG is accepted as well, and rounded as ``to_8_bit`` says.
    Raises DataError for a file that is absent, cut off or damaged, and for palette, alpha and (unless ``deep``)
    16-bit images, which would have to be changed silently.
    """
    try:
        with Image.open(path) as image:
            header = read_header(path)
            check_kind(header, path, deep)
            image.load()
            # Pillow keeps the upper byte of 16-bit RGB alone
            values = np.array(image) if header.bits == 8 else to_8_bit(_read_16_bits(path))
    except FileNotFoundError as error:
        raise DataError(f"no such image: {path}") from error
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"cannot decode {path} ({error}): the file is damaged or incomplete, fetch it again") from error
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def image_size(path: str | Path) -> tuple[int, int]:
    """(H,W) from the header alone. Raises DataError where there is none."""
    header = read_header(path)
    return header.height, header.width


def read_header(path: str | Path) -> Header:
    """The header of an image file. Raises DataError where there is none."""
    try:
        with open(path, "rb") as file:
            start = file.read(26)
        if start.startswith(_PNG) and len(start) == 26:
            # Pillow does not tell the depth of 16-bit RGB: ask the header (PNG specification, IHDR).
            width, height, bits, colour = struct.unpack(">IIBB", start[16:26])
            return Header(height, width, _PNG_COLOURS.get(colour, "unknown"), bits)
        with Image.open(path) as image:
            return Header(image.height, image.width, "grey" if image.mode == "L" else image.mode, 8)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"cannot read {path} ({error}): the file is damaged or no image, fetch it again") from error


def check_kind(header: Header, path: str | Path, deep: bool = False) -> None:
    """Raise DataError for an image that ``read_image`` does not take."""
    if header.colour not in ("RGB", "grey") or header.bits not in ((8, 16) if deep else (8,)):
        raise DataError(f"{path} is {header.colour} with {header.bits} bits per value, not 8-bit RGB: {_REMEDY}")


def to_8_bit(values: np.ndarray) -> np.ndarray:
    """16-bit values 0..65535 to 8 bits: divided by 257 and rounded to the nearest, which no tie can occur in."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _read_16_bits(path: str | Path) -> np.ndarray:
    import cv2

    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise DataError(f"cannot decode {path}: the file is damaged or incomplete, fetch it again")
    if values.dtype != np.uint16 or values.shape[2:] not in ((), (3,)):
        raise DataError(f"{path} holds more than 16-bit RGB (a transparent colour, for instance): {_REMEDY}")
    return values if values.ndim == 2 else values[..., ::-1]


@dataclass(frozen=True)
class FrameFiles:
    """Numbered frames of one folder, in order and without a hole. deep: 16-bit frames are taken and rounded."""

    folder: str
    files: tuple[str, ...]
    first: int
    deep: bool = False

    @property
    def stems(self) -> list[str]:
        return [f.rsplit(".", 1)[0] for f in self.files]

    def path(self, position: int) -> str:
        return f"{self.folder}/{self.files[position]}"

    def read(self, position: int) -> np.ndarray:
        """8-bit RGB values (H,W,3) of a frame; raises DataError as ``read_image`` does."""
        return read_image(self.path(position), self.deep)


def list_frames(folder: str | Path, firsts: Sequence[int] | None = None, deep: bool = False) -> FrameFiles:
    """Frames of a folder in the order of their numbers (the last digits of the file name).

    firsts: numbers that the first frame may have; None: any. Files without an image suffix are no frames.
    deep: take 16-bit PNG too, with one warning per folder that it is rounded to 8 bits.
    Raises DataError naming the missing file where the numbering has a hole, two files with one number, names
    without a number, and an empty folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: check data.root")
    names = [p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not names:
        raise DataError(f"no frames in {folder}: expected files such as 00000000.png")
    numbered = sorted((_number(name, folder), name) for name in names)
    numbers = [n for n, _ in numbered]
    if firsts is not None and numbers[0] not in firsts:
        missing = _renumbered(numbered[0][1], firsts[0])
        raise DataError(f"{folder}/{missing} is missing: the clip's first frame is {numbered[0][1]}; restore it")
    for (a, name), (b, other) in zip(numbered, numbered[1:], strict=False):
        if a == b:
            raise DataError(f"{folder} has two frames with number {a}: {name} and {other}; remove one")
        if b != a + 1:
            raise DataError(
                f"{folder}/{_renumbered(name, a + 1)} is missing: the numbering jumps from {name} to {other}; "
                "restore the frame or remove those behind it"
            )
    if deep and read_header(folder / numbered[0][1]).bits == 16:
        log.warning("the frames of %s have 16 bits per value: they are rounded to 8", folder)
    return FrameFiles(str(folder), tuple(name for _, name in numbered), numbers[0], deep)


def _number(name: str, folder: Path) -> int:
    digits = re.findall(r"\d+", Path(name).stem)
    if not digits:
        raise DataError(f"{folder}/{name} has no frame number: name frames 00000000.png, 00000001.png, ...")
    return int(digits[-1])


def _renumbered(name: str, number: int) -> str:
    """The name that the frame ``number`` would have beside ``name``."""
    path = Path(name)
    *_, last = re.finditer(r"\d+", path.stem)
    digits = str(number).zfill(len(last.group()))
    return path.stem[: last.start()] + digits + path.stem[last.end() :] + path.suffix
