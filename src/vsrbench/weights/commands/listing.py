"""``weights list``: what is known, and what of it is on this disk.

Looked at: environment variables, the hub's cache, torch's folder, the package itself.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
    """A few lines per entry (ids and file names stay whole, to be copied), then how many are here."""
    for row in rows:
        known = row.known
        console.print(f"[bold]{known.name}[/]: {purpose(known)}", highlight=False, soft_wrap=True)
        facts = [known.hub or known.source or "", f"licence {licence(known)}", f"size {expected_size(known)}"]
        for line in ("; ".join(facts), f"{known.files or 'files not stated'} -> {setting(known)}", here(row)):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    count = sum(row.where is not None for row in rows)
    console.print(f"{count} of {len(rows)} are on this disk; docs/weights.md says where the others come from and go")


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
    return ", ".join(parts + parameters) or UNKNOWN


def here(row: Location) -> str:
    """Where it is on this disk and how large, or why not."""
    if row.where is None:
        return f"not here, {row.how}" if row.how else "not here"
    amount = f", {row.bytes / 1e6:.1f} MB" if row.bytes is not None else ""
    return f"here: {row.where} ({row.how}{amount}{f', blake2b {row.digest}' if row.digest else ''})"


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
    if known.place and known.files:
        path = torch_folder() / known.place / known.files
        if path.is_file():
            return Location(known, path, "torch's folder", size(path))
        return Location(known, how=f"nor in {path.parent}")
    return Location(known)


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
