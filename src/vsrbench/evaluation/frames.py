"""Strict reading of frames that are to be judged: ``<folder>/<clip>/<frame>.png``, 8-bit RGB.

Exactly the frames that the data name, of exactly the size of the ground truth: everything else is an error
that names the file, because a missing or shifted frame changes numbers without looking wrong.
"""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vsrbench.data.readers import image_size, read_image
from vsrbench.data.sources import Source
from vsrbench.errors import DataError
from vsrbench.metrics.frame import quantise


def judged(source: Source, frames: str) -> list[int]:
    """Numbers of the frames that count: ``frames`` is the protocol's switch, "convention" or "all"."""
    if frames == "all" or source.scored is None:
        return list(range(source.frames))
    return sorted(source.scored)


def find(folder: Path, sources: Iterable[Source], frames: str) -> dict[str, dict[int, Path]]:
    """The file of every frame that counts: {clip: {frame number: file}}.

    folder: holds ``<clip>/<frame>.png``. Frames of the clip that do not count may be there as well.
    Raises DataError for a folder that is absent or empty, a clip or frame that is missing, and any file
    that the data do not name.
    """
    if not folder.is_dir():
        raise DataError(f"predictions={folder}: no such folder; it must hold <clip>/<frame>.png")
    present = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    if not present:
        raise DataError(f"predictions={folder}: the folder is empty; it must hold <clip>/<frame>.png")
    found: dict[str, dict[int, Path]] = {}
    allowed: set[str] = set()
    missing: list[str] = []
    for source in sources:
        names = [f"{source.name}/{stem}.png" for stem in source.frame_names]
        needed = judged(source, frames)
        missing += [names[n] for n in needed if names[n] not in present]
        allowed.update(names)
        found[source.name] = {n: present[names[n]] for n in needed if names[n] in present}
    stray = sorted(present.keys() - allowed)
    if missing:
        hint = f" (there is also {stray[0]}, which the data do not name)" if stray else ""
        raise DataError(
            f"{folder}: {len(missing)} frames are missing, the first is {missing[0]}{hint}; "
            "names must be those of the data"
        )
    if stray:
        raise DataError(
            f"{folder}: {len(stray)} files are no frames of the data, the first is {stray[0]}; "
            "remove them or choose the data they belong to"
        )
    if not any(found.values()):
        raise DataError("the data have no frame to judge: choose another set or split")
    return found


def check_sizes(source: Source, files: dict[int, Path]) -> None:
    """Raise DataError for a frame of another size than the ground truth; reads headers alone."""
    height, width = (source.scale * n for n in source.size)
    for path in files.values():
        found = image_size(path)
        if found != (height, width):
            raise DataError(
                f"{path} has {found[1]}x{found[0]} pixels, {source.name} at scale={source.scale} has "
                f"{width}x{height}: frames are never resized to fit; set the scale they were made for"
            )


def read(path: Path) -> Tensor:
    """One frame, uint8 (3,H,W) RGB.

    Raises DataError for a file that is truncated or anything but 8-bit RGB PNG: what a library would convert
    silently (16 to 8 bit, palette, alpha, grey, JPEG) changes numbers.
    """
    pixels = read_image(path)
    with open(path, "rb") as file:
        header = file.read(26)
    if header[1:4] != b"PNG" or header[25] != 2:  # colour type of the IHDR chunk: 2 is RGB
        raise DataError(f"{path} is no RGB PNG: write frames as 8-bit RGB PNG")
    return torch.tensor(pixels).permute(2, 0, 1).contiguous()


def encode(frame: Tensor) -> bytes:
    """PNG of a frame (3,H,W) in [0,1], 8-bit RGB. Raises DataError where a value is not finite."""
    pixels = quantise(frame).permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def _files(folder: Path) -> Iterable[Path]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            yield Path(parent) / name
