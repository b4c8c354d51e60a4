"""The cache of fetched weights: where it is, and known weights on this disk by their name.

A file counts only where its SHA-256 is that of the catalogue; another one is used when it is named by its path.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

from vsrbench.errors import WeightsError
from vsrbench.weights.catalogue import Content, Entry, entry_of

VARIABLE = "VSRBENCH_WEIGHTS"


def folder() -> Path:
    """$VSRBENCH_WEIGHTS, else ``weights`` in the user's cache folder of this operating system."""
    from platformdirs import user_cache_path

    moved = os.environ.get(VARIABLE)
    return Path(moved).expanduser() if moved else user_cache_path("vsrbench", appauthor=False) / "weights"


def torch_folder() -> Path:
    """Where torchvision and pyiqa keep what they fetch; TORCH_HOME moves it. ``torch.hub.get_dir`` without torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub"


def target(entry: Entry, content: Content) -> Path:
    """Where a file of an entry belongs in the cache."""
    return folder() / (entry.place or entry.name) / content.file


def find(entry: Entry, content: Content) -> Path | None:
    """The published file on this disk, in the cache or in torch's folder; None where there is none."""
    places = (target(entry, content), torch_folder() / (entry.place or entry.name) / content.file)
    return next((path for path in places if path.is_file() and is_published(path, content)), None)


def is_published(path: Path, content: Content) -> bool:
    """Whether a file has the SHA-256 that the catalogue states."""
    return sha256(path).startswith(content.sha256)


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal digits; read again only where the file has changed."""
    state = path.stat()
    return _sha256(path, state.st_mtime_ns, state.st_size)


@cache
def _sha256(path: Path, changed: int, size: int) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def locate(name: str) -> Path:
    """The file of known weights, of several the first. Raises WeightsError with the command that fetches them."""
    return locate_all(name)[0]


def locate_all(name: str) -> list[Path]:
    """The files of known weights, in the catalogue's order. Raises WeightsError as ``locate``."""
    entry = entry_of(name)
    paths = [find(entry, content) for content in entry.contents]
    if absent := [content for content, path in zip(entry.contents, paths, strict=True) if path is None]:
        raise WeightsError(_remedy(entry, absent[0]))
    return [path for path in paths if path is not None]


def fetched(name: str) -> Path | None:
    """The file of known weights that are one file, None where it is not on this disk."""
    entry = entry_of(name)
    return find(entry, entry.contents[0])


def _remedy(entry: Entry, content: Content) -> str:
    path = target(entry, content)
    fetch = f"`vsrbench weights fetch {entry.name}`"
    if path.is_file():
        return (
            f"{path} is not the published {content.file}: its SHA-256 begins with {sha256(path)[:8]}, not with "
            f"{content.sha256[:8]}; {fetch} replaces it, or name the file by its path"
        )
    return f"{entry.name} ({entry.purpose}) is not on this disk: {fetch}, or name a file by its path"
