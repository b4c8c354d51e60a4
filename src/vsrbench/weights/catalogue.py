"""Weights that the project knows by name: source, licence, size, and the setting that takes them. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vsrbench.errors import ConfigError

FILE = Path(__file__).parents[1] / "assets" / "weights.yaml"
VERSION = 1
PLACES = (None, "shipped", "checkpoints", "pyiqa", "clip", "dover")


@dataclass(frozen=True)
class Entry:
    """One entry of ``assets/weights.yaml``; None where no source at hand states it.

    hub: id on the model hub, else ``source`` says in words where it comes from. licence: of the weights; code_licence:
    of the code that they were published with. parts: {subfolder: size as the publisher states it}. files: what it
    is called on disk. place: folder below torch's hub folder ("checkpoints", "pyiqa", ...), or "shipped" inside the
    package. setting, variable: what takes its path.
    """

    name: str
    purpose: str
    setting: str
    hub: str | None = None
    source: str | None = None
    licence: str | None = None
    code_licence: str | None = None
    parts: Mapping[str, str] | None = None
    parameters: int | None = None
    files: str | None = None
    place: str | None = None
    variable: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Withdrawn:
    """A repository that is no longer where it was; copies: ids that threads name instead."""

    note: str
    copies: tuple[str, ...] = ()


@cache
def catalogue(file: Path = FILE) -> tuple[Entry, ...]:
    """All entries, in the file's order. Raises ConfigError for keys it does not know and for doubled names."""
    entries = _content(file)["weights"]
    try:
        known = tuple(Entry(**entry) for entry in entries)
    except TypeError as error:
        raise ConfigError(f"{file}: {error}; an entry has the keys {', '.join(Entry.__dataclass_fields__)}") from error
    names = [entry.name for entry in known]
    for entry in known:
        if names.count(entry.name) > 1 or entry.place not in PLACES or not (entry.hub or entry.source):
            raise ConfigError(f"{file}: {entry.name} needs a name of its own, a known place, and hub or source")
    return known


def withdrawn(hub_id: str) -> Withdrawn | None:
    """What is known of a repository that left the hub."""
    entry = _content(FILE)["withdrawn"].get(hub_id)
    return None if entry is None else Withdrawn(entry["note"], tuple(entry.get("copies", ())))


@cache
def _content(file: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    if content.get("version") != VERSION:
        raise ConfigError(f"{file} has version {content.get('version')}; this program reads version {VERSION}")
    return content
