"""What of the known weights is on this disk: environment variables, the hub's cache, torch's folder, the package."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from vsrbench.weights.catalogue import Known, catalogue

PACKAGE = Path(__file__).resolve().parents[2]
HASHED = 8  # bytes of the digest


@dataclass(frozen=True)
class Found:
    """where: path, or None. how: how it was found, or what is wrong with where it was said to be."""

    known: Known
    where: Path | None = None
    how: str = ""
    bytes: int | None = None
    digest: str | None = None


def inventory() -> list[Found]:
    """The catalogue with what is here. Reads sizes, and of the shipped files their hash; nothing from the network."""
    return [_look(known) for known in catalogue()]


def _look(known: Known) -> Found:
    if known.place == "shipped":
        path = PACKAGE / "assets" / (known.files or "")
        if not path.exists():
            return Found(known, how="absent from this installation")
        return Found(known, path, "shipped", size(path), digest(path))
    said = os.environ.get(known.variable) if known.variable else None
    if said and _owner(said, known.variable) is known:
        path = Path(said).expanduser()
        if path.exists():
            return Found(known, path, f"{known.variable}", size(path))
        if said != known.hub:
            return Found(known, how=f"{known.variable}={said} is not on this disk")
    if known.hub:
        return _in_hub_cache(known)
    if known.place and known.files:
        path = torch_folder() / known.place / known.files
        if path.is_file():
            return Found(known, path, "torch's folder", size(path))
        return Found(known, how=f"nor in {path.parent}")
    return Found(known)


def _owner(said: str, variable: str | None) -> Known:
    """Which of the entries that share a variable its value names: by hub id, file name, or the parts in a folder."""
    entries = [entry for entry in catalogue() if entry.variable == variable]
    path = Path(said).expanduser()
    for entry in entries:
        if said == entry.hub or path.name == entry.files:
            return entry
    for entry in entries:
        if "controlnet" in (entry.parts or {}) and (path / "controlnet").is_dir():
            return entry
    return entries[0]


def _in_hub_cache(known: Known) -> Found:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return Found(known)
    for repository in cache.repos:
        if repository.repo_id == known.hub and repository.repo_type == "model":
            return Found(known, repository.repo_path, "the hub's cache", repository.size_on_disk)
    return Found(known)


def torch_folder() -> Path:
    """Where torchvision and pyiqa keep what they fetch; TORCH_HOME moves it."""
    import torch

    return Path(torch.hub.get_dir())


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file())


def digest(path: Path) -> str:
    """Hash of a file, or of the names and contents of a folder's files."""
    hashed = hashlib.blake2b(digest_size=HASHED)
    for file in [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file()):
        hashed.update(b"" if path.is_file() else str(file.relative_to(path)).encode())
        hashed.update(file.read_bytes())
    return hashed.hexdigest()
