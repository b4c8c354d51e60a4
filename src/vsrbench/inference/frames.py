"""Folders of frames as input and output; what is finished stays finished."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from vsrbench.data.colour import to_pixels
from vsrbench.data.degradations import Bicubic
from vsrbench.data.readers import image_size, list_frames
from vsrbench.data.sources import FolderSource, Pairing
from vsrbench.errors import DataError, RunError
from vsrbench.runs import write_atomic

MARKER = ".upscale.json"  # what the frames of an output folder were made with


def open_folder(folder: Path, scale: int) -> FolderSource:
    """The frames of a folder as LR, in the order of their numbers; 16-bit PNG is rounded to 8 bits.

    Raises DataError for an empty folder, a hole in the numbering, and frames of different sizes.
    """
    files = list_frames(folder, deep=True)
    first = image_size(files.path(0))
    for position in range(1, len(files.files)):
        height, width = image_size(files.path(position))
        if (height, width) != first:
            raise DataError(
                f"{files.path(position)} has {width}x{height} pixels, {files.files[0]} has {first[1]}x{first[0]}: "
                "frames of one clip must have one size; move it to another folder"
            )
    return FolderSource(folder.resolve().name, Pairing(scale, Bicubic()), None, files)


class FrameFolder:
    """8-bit RGB PNG files, each whole or absent; those an earlier call made with the same settings are kept.

    stems: names of the frames without suffix, None: eight digits. settings: everything the pixels depend on;
    it is stored in the folder, so that frames of two methods never mix. force: make all frames again.
    Raises RunError for a folder with other settings or of other origin, and where nothing can be written.
    """

    def __init__(self, folder: Path, stems: list[str] | None, settings: dict[str, Any], force: bool) -> None:
        self.folder, self.stems, self.force = folder, stems, force
        self.written: set[str] = set()
        marker = folder / MARKER
        before = json.loads(marker.read_text()) if marker.is_file() else None
        if not force and before is None and folder.is_dir() and any(folder.iterdir()):
            raise RunError(f"{folder} holds files of other origin: choose another output or add force=true")
        if not force and before not in (None, settings):
            differing = sorted(k for k in before.keys() | settings.keys() if before.get(k) != settings.get(k))
            raise RunError(
                f"{folder} holds frames made with other settings ({', '.join(differing)}): "
                "choose another output or add force=true"
            )
        write_atomic(marker, json.dumps(settings, indent=1).encode())

    def path(self, number: int) -> Path:
        stem = f"{number:08d}" if self.stems is None else self.stems[number]
        return self.folder / f"{stem}.png"

    def __contains__(self, number: object) -> bool:
        """True for a frame that an earlier call finished; ``force`` knows none."""
        return isinstance(number, int) and not self.force and self.path(number).is_file()

    def write(self, number: int, frame: Tensor) -> None:
        """Write a frame (3,H,W) in [0,1]. Raises DataError for values that are not finite."""
        buffer = io.BytesIO()
        Image.fromarray(to_pixels(frame)).save(buffer, format="PNG", compress_level=4)
        write_atomic(self.path(number), buffer.getvalue())

    def finish(self, count: int) -> None:
        """Check that the folder holds exactly the frames 0..count-1. Raises RunError naming one that differs."""
        wanted = {self.path(n).name for n in range(count)}
        present = {p.name for p in self.folder.glob("*.png") if not p.name.startswith(".")}
        if present != wanted:
            name = min(present ^ wanted)
            what = "is no frame of this input: remove it" if name in present else "is missing: run the command again"
            raise RunError(f"{self.folder}/{name} {what} (all {count} frames were written)")
