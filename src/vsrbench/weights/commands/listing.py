"""``weights list``: what is known, and what of it is on this disk.

Looked at: environment variables, the cache of fetched weights, the hub's cache, torch's folder, the package itself.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench.weights import cache
from vsrbench.weights.catalogue import Entry, catalogue

if TYPE_CHECKING:
    from rich.console import Console

PACKAGE = Path(__file__).resolve().parents[2]
HASHED = 8  # bytes of the digest
UNKNOWN = "not stated"


@dataclass(frozen=True)
class Location:
    """where: path, or None. how: how it was found, or what is wrong with where it was said to be."""

    known: Entry
    where: Path | None = None
    how: str = ""
    bytes: int | None = None
    digest: str | None = None


def inventory() -> list[Location]:
    """The catalogue with what is here. Reads sizes, and of the shipped files their hash; nothing from the network."""
    return [_look(known) for known in catalogue()]


def show(rows: list[Location], console: "Console") -> None:
    """One table, then how many are here. Names, paths and commands stay whole, to be copied."""
    from rich.table import Table

    table = Table("name", "what it is for", "size", "licence", "status", "where", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[4].no_wrap = True
    table.columns[1].max_width, table.columns[3].max_width = 60, 30
    table.columns[5].overflow = "fold"
    for row in rows:
        known = row.known
        table.add_row(known.name, purpose(known), expected_size(known), licence(known), status(row), where(row))
    console.print(table, markup=False, highlight=False)
    count = sum(row.where is not None for row in rows)
    console.print(
        f"{count} of {len(rows)} are on this disk; `vsrbench weights fetch NAME` brings those that can be fetched"
    )
    console.print(f"cache: {cache.folder()} ({cache.VARIABLE} moves it)", markup=False, highlight=False, soft_wrap=True)


def purpose(known: Entry) -> str:
    """What it is for, and what to mind."""
    return known.purpose + (f"; {known.note}" if known.note else "")


def setting(known: Entry) -> str:
    """The setting or environment variable that takes its path."""
    return known.setting + (f" or {known.variable}" if known.variable else "")


def licence(known: Entry) -> str:
    """Of the weights, and of the code that they came with where only that is stated."""
    code = f" (its code: {known.code_licence})" if known.code_licence else ""
    return (known.licence or UNKNOWN) + code


def expected_size(known: Entry) -> str:
    """Published sizes and parameters."""
    parts = [f"{name} {text}" for name, text in (known.parts or {}).items()]
    parameters = [f"{known.parameters / 1e6:.2f} M parameters"] if known.parameters else []
    if amount := sum(content.bytes or 0 for content in known.contents):
        parts.append(f"{amount / 1e6:.1f} MB")
    return ", ".join(parts + parameters) or UNKNOWN


def status(row: Location) -> str:
    """Whether it is here, and by what it was found; else how it is to be had."""
    if row.where is not None:
        return f"here ({row.how})"
    if row.how:
        return "not usable"
    return "fetch it" if row.known.fetchable else "by hand"


def where(row: Location) -> str:
    """Its path with bytes, or what is wrong with it, or where it comes from and what takes it."""
    if row.where is None:
        return row.how or f"{row.known.hub or row.known.source} -> {setting(row.known)}"
    amount = f" ({row.bytes / 1e6:.1f} MB" if row.bytes is not None else " ("
    return f"{row.where}{amount}{f', blake2b {row.digest}' if row.digest else ''})"


def _look(known: Entry) -> Location:
    if known.place == "shipped":
        path = PACKAGE / "assets" / (known.files or "")
        if not path.exists():
            return Location(known, how="absent from this installation")
        return Location(known, path, "shipped", size(path), digest(path))
    value = os.environ.get(known.variable) if known.variable else None
    if value and _owner(value, known.variable) is known:
        path = Path(value).expanduser()
        if path.exists():
            return Location(known, path, f"{known.variable}", size(path))
        if value != known.hub:
            return Location(known, how=f"{known.variable}={value} is not on this disk")
    if known.hub:
        return _in_hub_cache(known)
    if known.contents:
        return _fetched(known)
    if known.place and known.files:
        path = cache.torch_folder() / known.place / known.files
        return Location(known, path, "torch's folder", size(path)) if path.is_file() else Location(known)
    return Location(known)


def _fetched(known: Entry) -> Location:
    """Files with their SHA-256, in the cache or in torch's folder."""
    paths = [cache.find(known, content) for content in known.contents]
    for content, path in zip(known.contents, paths, strict=True):
        place = cache.target(known, content)
        if path is None and place.is_file():
            return Location(known, how=f"{place} has another SHA-256: it is used only when named by its path")
        if path is None:
            return Location(known)
    first = paths[0]
    assert first is not None
    how = "fetched" if first.is_relative_to(cache.folder()) else "torch's folder"
    return Location(known, first, how, sum(size(path) for path in paths if path is not None))


def _owner(value: str, variable: str | None) -> Entry:
    """Which of the entries that share a variable its value names: by hub id, file name, or the parts in a folder."""
    entries = [entry for entry in catalogue() if entry.variable == variable]
    path = Path(value).expanduser()
    for entry in entries:
        if value == entry.hub or path.name == entry.files:
            return entry
    for entry in entries:
        if "controlnet" in (entry.parts or {}) and (path / "controlnet").is_dir():
            return entry
    return entries[0]


def _in_hub_cache(known: Entry) -> Location:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return Location(known)
    for repository in cache.repos:
        if repository.repo_id == known.hub and repository.repo_type == "model":
            return Location(known, repository.repo_path, "the hub's cache", repository.size_on_disk)
    return Location(known)


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
