"""Writing a test set: ground truth and the LR frames that a degradation makes of it, as folders of PNG files."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vsrbench.data.catalog import Settings
from vsrbench.data.packed import switches
from vsrbench.data.packing import gather
from vsrbench.data.sources import FolderSource
from vsrbench.errors import DataError
from vsrbench.progress import track
from vsrbench.stored import read_json

MARK = "degradation.json"


def degrade(settings: Settings, splits: Mapping[str, Any], output: str) -> list[str]:
    """Write ``HR/CLIP/*.png`` and ``LR/CLIP/*.png`` of all splits' clips below ``output``; returns the clips' names.

    Clips that are there already are not made again. Raises DataError for a folder that holds anything else, or clips of
    other settings.
    """
    folder = Path(output).expanduser()
    made = json.loads(json.dumps(switches(settings)))
    if (folder / MARK).is_file():
        if read_json(folder / MARK, "give another folder as output=DIR") != made:
            raise DataError(f"{folder} holds frames of another degradation ({MARK}): give another folder as output=DIR")
    elif folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} holds other files: give an empty or new folder as output=DIR")
    sources = gather(replace(settings, lr="made"), splits).sources
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text(json.dumps(made, indent=1) + "\n")
    for name, source in track(list(sources.items()), "clips"):
        if not (folder / "LR" / name).is_dir():
            _write(source, folder, name)
    return list(sources)


def _write(source: FolderSource, folder: Path, name: str) -> None:
    """Both folders of a clip; LR gets its name last, so that a clip is there whole or not at all."""
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    for position, stem in enumerate(source.frame_names):
        for side, pixels in zip(("LR", "HR"), source.pixels(position), strict=True):
            file = part / side / f"{stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(pixels)).save(file, compress_level=4)
    for side in ("HR", "LR"):
        target = folder / side / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part / side, target)
    shutil.rmtree(part)
