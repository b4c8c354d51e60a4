"""Strict reading of frames that are to be judged: ``<folder>/<clip>/<frame>.png``, 8-bit RGB.

Exactly the frames that the data name, of exactly the size of the ground truth: everything else is an error
that names the file, because a missing or shifted frame changes numbers without looking wrong.
"""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vsrbench.errors import DataError
from vsrbench.metrics.frame import quantise
from vsrbench.types import Clip

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}


class Source(Protocol):
    """What scoring needs to know of a clip of the data; frame numbers count from 0 within the clip."""

    name: str
    scale: int

    @property
    def frames(self) -> int: ...

    @property
    def frame_names(self) -> list[str]: ...

    @property
    def has_hr(self) -> bool: ...

    @property
    def scored(self) -> list[int] | None: ...

    def read(self, start: int, stop: int) -> Clip: ...


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


def read(path: Path) -> Tensor:
    """One frame, uint8 (3,H,W) RGB.

    Raises DataError for a file that is no PNG, is truncated, or is not 8-bit RGB: conversions that a
    library would make silently (16 to 8 bit, palette, alpha) change numbers.
    """
    content = path.read_bytes()
    if content[:8] != PNG_SIGNATURE or len(content) < 33:
        raise DataError(f"{path} is not a PNG file, or an empty one: write the frame again")
    depth, colour = content[24], content[25]  # of the IHDR chunk, always the first
    if (depth, colour) != (8, 2):
        kind = COLOUR_TYPES.get(colour, "unknown")
        raise DataError(f"{path} has {depth} bits {kind}: frames must be 8-bit RGB without alpha or palette")
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for broken chunks and short data
        raise DataError(f"{path} cannot be decoded ({error}): write the frame again") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


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
