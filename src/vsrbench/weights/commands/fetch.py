"""``weights fetch NAME...``: known weights into the cache, checked; what is there already is not fetched again."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench.errors import ConfigError, WeightsError
from vsrbench.progress import Bars
from vsrbench.weights import cache, downloads, hub
from vsrbench.weights.catalogue import Content, Entry, Wheel, needs, select
from vsrbench.weights.commands.listing import expected_size, licence

if TYPE_CHECKING:
    from omegaconf import DictConfig

FLOWS = {"RAFT": ["raft"], "SpyNet": ["spynet"]}  # what estimators read, by their class
SETTING = "weights fetch"  # what names a repository, for errors of the hub


def chosen(cfg: "DictConfig") -> list[Entry]:
    """The entries that the command names, or that the method of the command needs.

    Raises ConfigError for an unknown name, and for a method that needs nothing.
    """
    if cfg.names:
        return select(cfg.names)
    entries = needs(str(cfg.method.name), str(cfg.size))
    if "flow" in cfg.method and cfg.flow is not None:
        entries += select(FLOWS.get(str(cfg.flow["_target_"]).rpartition(".")[2], []))
    if not entries:
        raise ConfigError(
            f"method={cfg.method.name} size={cfg.size} needs nothing that can be fetched: name what you want, "
            "`vsrbench weights fetch basicvsr`, or another command, `vsrbench weights fetch method=dgaf size=paper`; "
            "`vsrbench weights list` shows what there is"
        )
    return entries


def fetch(entries: list[Entry], say: Callable[[str], None]) -> None:
    """Fetch what is not here; say(line): what there is, licences and sizes first.

    The first that cannot be had raises WeightsError; what came before it stays.
    """
    for entry in entries:
        say(f"{entry.name}: {entry.purpose}; licence {licence(entry)}; size {expected_size(entry)}")
    for line in _missing_sources(entries):
        raise WeightsError(line)
    wheels: dict[tuple[str, str], tuple[Wheel, dict[Content, Path]]] = {}
    for entry in entries:
        if entry.hub:
            say(f"{entry.name}: {fetch_repository(entry)}")
        for content in entry.contents:
            target, there = cache.target(entry, content), cache.find(entry, content)
            if there is not None:
                say(f"{entry.name}: here already, {there}")
            elif entry.wheel is not None:
                wheels.setdefault((entry.wheel.package, entry.wheel.version), (entry.wheel, {}))[1][content] = target
            else:
                with Bars() as bars:
                    downloads.fetch_address(content, target, bars.row())
                say(f"{entry.name}: {target}")
    for wheel, targets in wheels.values():
        downloads.fetch_wheel(wheel, targets)
        for target in targets.values():
            say(f"{wheel.package}: {target}")


def fetch_repository(entry: Entry) -> Path:
    """The parts of a repository that the catalogue names, in the hub's own cache, where every command looks."""
    parts = [word.rstrip("/") for word in (entry.files or "").split()]
    selection = hub.Selection(
        tuple(f"{part}/*" for part in parts),
        complete=lambda folder: all(any((folder / part).glob("*")) for part in parts),
        what=f" with {entry.files}",
    )
    return hub.locate(str(entry.hub), SETTING, selection)


def _missing_sources(entries: list[Entry]) -> list[str]:
    return [f"{e.name} has no public address: {e.source}; it goes to {e.setting}" for e in entries if not e.fetchable]
