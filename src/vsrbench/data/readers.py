"""Image files: reading one in full, and the numbered frames of a folder."""

import io
import logging
import re
import stat
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vsrbench.errors import DataError

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
OTHER_PICTURES = (".tif", ".tiff", ".webp", ".exr", ".dpx", ".gif", ".heic", ".avif", ".jp2", ".ppm", ".pgm", ".tga")
LARGEST = 100_000_000  # pixels; 8K has 33 million. A file of a few bytes may claim any size
ORIENTATION = 0x0112  # the EXIF tag; from 5 on width and height are exchanged
_FAULTS = (OSError, SyntaxError, ValueError, struct.error, UnidentifiedImageError, Image.DecompressionBombError)
_DIGITS = re.compile(r"\d+")
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
    """8-bit RGB values (H,W,3). A grey image is repeated into three equal channels, a turned one (EXIF) is turned.

    deep: 16-bit PNG is accepted as well, and rounded as ``to_8_bit`` says.
    Raises DataError for a file that is absent, cut off or damaged, and for palette, alpha and (unless ``deep``)
    16-bit images, which would have to be changed silently.
    """
    content = _content(path)
    header = _header(content, path)
    check_kind(header, path, deep)
    if fault := fault_of(content):
        raise DataError(f"cannot decode {path} ({fault}): the file is damaged or incomplete, fetch it again")
    try:
        with Image.open(io.BytesIO(content)) as image:
            # Pillow keeps the upper byte of 16-bit RGB alone
            values = np.array(ImageOps.exif_transpose(image)) if header.bits == 8 else to_8_bit(_read_16_bits(path))
    except _FAULTS as error:
        raise DataError(f"cannot decode {path} ({error}): the file is damaged or incomplete, fetch it again") from error
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def _content(path: str | Path, most: int = -1) -> bytes:
    """The bytes of a regular file, or the first so many. Raises DataError; a pipe would wait for ever."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise DataError(f"{path} is no regular file: give image files")
        with open(path, "rb") as file:
            return file.read(most)
    except FileNotFoundError as error:
        raise DataError(f"no such image: {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path} ({error}): the file is damaged or no image, fetch it again") from error


def fault_of(content: bytes) -> str | None:
    """What is wrong with the bytes of a PNG or JPEG file by its own structure: checksums and the end; None: nothing.

    Decoders fill in what is missing, each in its own way. Bytes behind the end are taken, some writers leave a few.
    """
    if content.startswith(b"\xff\xd8"):
        return None if b"\xff\xd9" in content[-4096:] else "it is cut off"
    if not content.startswith(_PNG):
        return None
    place = len(_PNG)
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if end > len(content):
            break
        if zlib.crc32(content[place + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
            return f"the checksum of its part {kind.decode('latin-1')} is wrong"
        if kind == b"IEND":
            return None
        place = end
    return "it is cut off"


def image_size(path: str | Path) -> tuple[int, int]:
    """(H,W) from the header alone. Raises DataError where there is none."""
    header = read_header(path)
    return header.height, header.width


def read_header(path: str | Path) -> Header:
    """The header of an image file. Raises DataError where there is none, and for sizes that no frame has."""
    start = _content(path, 26)
    return _header(start if start.startswith(_PNG) else _content(path), path)


def _header(content: bytes, path: str | Path) -> Header:
    try:
        if content.startswith(_PNG) and len(content) >= 26:
            # Pillow does not tell the depth of 16-bit RGB: ask the header (PNG specification, IHDR).
            width, height, bits, colour = struct.unpack(">IIBB", content[16:26])
            header = Header(height, width, _PNG_COLOURS.get(colour, "unknown"), bits)
        else:
            with Image.open(io.BytesIO(content)) as image:
                turned = image.getexif().get(ORIENTATION, 1) in range(5, 9)
                height, width = (image.width, image.height) if turned else (image.height, image.width)
                header = Header(height, width, "grey" if image.mode == "L" else image.mode, 8)
    except _FAULTS as error:
        raise DataError(f"cannot read {path} ({error}): the file is damaged or no image, fetch it again") from error
    if not 0 < header.height * header.width <= LARGEST:
        raise DataError(f"{path} claims {header.width}x{header.height} pixels: the file is damaged, fetch it again")
    return header


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
    """Frames of a folder in the order of their numbers (``numbers_of``).

    firsts: numbers that the first frame may have; None: any. Files without an image suffix are no frames.
    deep: take 16-bit PNG too, with one warning per folder that it is rounded to 8 bits.
    Raises DataError naming the missing file where the numbering has a hole, two files with one number, names
    without a number, and a folder without frames.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: check data.root")
    names = [p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not names:
        raise DataError(f"no frames in {folder}: {instead(folder)}")
    numbers_by_name = numbers_of({name: Path(name).stem for name in names}, str(folder))
    numbered = sorted((number, name) for name, (number, _) in numbers_by_name.items())
    numbers = [n for n, _ in numbered]
    run = numbers_by_name[numbered[0][1]][1]
    if firsts is not None and numbers[0] not in firsts:
        missing = _renumbered(numbered[0][1], firsts[0], run)
        raise DataError(f"{folder}/{missing} is missing: the clip's first frame is {numbered[0][1]}; restore it")
    for (a, name), (b, other) in zip(numbered, numbered[1:], strict=False):
        if a == b:
            raise DataError(
                f"{folder} has two frames with number {a}: {name} and {other}; move one of the two sets into a folder "
                "of its own"
            )
        if b != a + 1:
            raise DataError(
                f"{folder}/{_renumbered(name, a + 1, run)} is missing: the numbering jumps from {name} to {other}; "
                "restore the frame, or move those behind it into another folder"
            )
    if deep and read_header(folder / numbered[0][1]).bits == 16:
        log.warning("the frames of %s have 16 bits per value: they are rounded to 8", folder)
    return FrameFiles(str(folder), tuple(name for _, name in numbered), numbers[0], deep)


def instead(folder: Path) -> str:
    """What a folder without frames holds, and the remedy."""
    others = sorted(p.suffix.lower() for p in folder.iterdir() if p.suffix.lower() in OTHER_PICTURES)
    if not others:
        return "expected files such as 00000000.png"
    return (
        f"it holds {len(others)} {others[0]} files, and frames are read from {', '.join(SUFFIXES)}; convert them "
        f"(for instance: mogrify -format png *{others[0]})"
    )


def numbers_of(stems: Mapping[str, str], place: str, known: Sequence[int] = ()) -> dict[str, tuple[int, int]]:
    """{file: (frame number, which run of digits it is)}: the run that varies between the files.

    stems: what names the frame of each file. Where several runs vary, the last one that gives every file a number of
    its own; a single file is numbered by its last run, or the one that has a number of ``known``.
    Raises DataError for a name without a number, and where no run tells all files apart.
    """
    runs = {name: [int(run) for run in _DIGITS.findall(stem)] for name, stem in stems.items()}
    without = next((name for name, numbers in runs.items() if not numbers), None)
    if without is not None:
        raise DataError(f"{place}/{without} has no frame number: name frames 00000000.png, 00000001.png, ...")
    if len({tuple(_DIGITS.split(stem)) for stem in stems.values()}) > 1:  # named in two ways
        return {name: (numbers[-1], len(numbers) - 1) for name, numbers in runs.items()}
    first = next(iter(runs.values()))
    values = [[numbers[k] for numbers in runs.values()] for k in range(len(first))]
    telling = [k for k, numbers in enumerate(values) if len(set(numbers)) == len(numbers)]
    if len(runs) == 1:
        telling = [k for k in telling if first[k] in known] or telling
    varying = [k for k, numbers in enumerate(values) if len(set(numbers)) > 1]
    place_of = (telling or varying or [len(first) - 1])[-1]
    return {name: (numbers[place_of], place_of) for name, numbers in runs.items()}


def _renumbered(name: str, number: int, run: int) -> str:
    """The name that the frame ``number`` would have beside ``name``."""
    path = Path(name)
    digits = list(_DIGITS.finditer(path.stem))
    place = digits[min(run, len(digits) - 1)]
    text = str(number).zfill(len(place.group()))
    return path.stem[: place.start()] + text + path.stem[place.end() :] + path.suffix


def unread(used: Path, name: str) -> Path | None:
    """A folder beside ``used`` with smaller pictures of the same names, as LR frames have; None where there is none.

    used: a folder of HR frames. name: what the clip is called: its folder may lie beside others (``GT/CLIP`` and
    ``LQ/CLIP``), or its frames in folders of their own (``CLIP/GT`` and ``CLIP/LQ``).
    """
    base = used.parent
    beside = [folder for folder in _folders(base) if folder != used and folder.name != name]
    if used.name == name:
        beside = [folder / name for folder in _folders(base.parent) if folder != base and (folder / name).is_dir()]
    for folder in beside:
        pictures = [_pictures(one) for one in (used, folder)]
        if set(pictures[0]) & set(pictures[1]):
            heights = [image_size(min(files.values()))[0] for files in pictures]
            if heights[1] * 3 <= heights[0] * 2:
                return folder
    return None


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _pictures(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")}
