"""Image files: reading one in full, and the numbered frames of a folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vsrbench.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_REMEDY = "convert it to 8-bit RGB (for instance: ffmpeg -i IN.png -pix_fmt rgb24 OUT.png)"


def read_image(path: str | Path) -> np.ndarray:
    """8-bit RGB values (H,W,3). A grey image is repeated into three equal channels.

    Raises DataError for a file that is absent, cut off or damaged, and for palette, alpha and 16-bit images,
    which would have to be changed silently.
    """
    try:
        with Image.open(path) as image:
            _check_kind(image, path)
            image.load()
            values = np.array(image)
    except FileNotFoundError as error:
        raise DataError(f"no such image: {path}") from error
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"cannot decode {path} ({error}): the file is damaged or incomplete, fetch it again") from error
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def image_size(path: str | Path) -> tuple[int, int]:
    """(H,W) from the header alone. Raises DataError where there is none."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"cannot read {path} ({error}): the file is damaged or no image, fetch it again") from error


def _check_kind(image: Image.Image, path: str | Path) -> None:
    kind, depth = image.mode, 8
    if image.format == "PNG":
        # Pillow reduces 16-bit RGB to 8 bits without a word: ask the header (PNG specification, IHDR).
        with open(path, "rb") as file:
            header = file.read(26)
        kind, depth = _PNG_COLOURS.get(header[25], "unknown"), header[24]
    if depth != 8 or kind not in ("RGB", "grey", "L"):
        raise DataError(f"{path} is {kind} with {depth} bits per value, not 8-bit RGB: {_REMEDY}")


@dataclass(frozen=True)
class FrameFiles:
    """Numbered frames of one folder, in order and without a hole."""

    folder: str
    files: tuple[str, ...]
    first: int

    @property
    def stems(self) -> list[str]:
        return [f.rsplit(".", 1)[0] for f in self.files]

    def path(self, position: int) -> str:
        return f"{self.folder}/{self.files[position]}"


def list_frames(folder: str | Path, firsts: Sequence[int] | None = None) -> FrameFiles:
    """Frames of a folder in the order of their numbers (the last digits of the file name).

    firsts: numbers that the first frame may have; None: any. Files without an image suffix are no frames.
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
    return FrameFiles(str(folder), tuple(name for _, name in numbered), numbers[0])


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
