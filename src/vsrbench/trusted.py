"""Which nodes of a stored configuration may be built: those whose targets the shipped configuration names as well."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.command_line import home
from vsrbench.errors import RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("method", "data", "degradation", "flow", "prior", "sampler")  # of conf/: what a stored node may be
TARGET = re.compile(r"_target_: *[\"']?(vsrbench(?:\.\w+)+)")


@cache
def known_targets() -> frozenset[str]:
    """Classes and functions that the shipped configuration builds methods and data from."""
    files = [file for group in GROUPS for file in (home() / "conf" / group).rglob("*.yaml")]
    return frozenset(target for file in files for target in TARGET.findall(file.read_text(encoding="utf-8")))


def stored_nodes(settings: dict[str, Any], file: Path, names: Sequence[str]) -> "DictConfig":
    """The named settings of a stored configuration, ready to be built.

    Raises RunError unless each ``_target_`` in them is one that the shipped configuration names as well, and for
    anything that would be resolved or called in another way.
    """
    from omegaconf import OmegaConf

    values = {name: settings.get(name) for name in names}
    for key, value in _leaves(values):
        if key == "_target_" and value not in known_targets():
            raise RunError(f"{file} names {value!r}, which vsrbench does not build from a stored file")
        if key.startswith("_") and key not in ("_target_", "_convert_"):
            raise RunError(f"{file} has {key}, which vsrbench does not take from a stored file")
        if isinstance(value, str) and "${" in value:
            raise RunError(f"{file} has {value!r}: a stored file holds plain values")
    return OmegaConf.create(values)


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with the key that it has; entries of a list have the list's key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, str(key))
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, name)
    else:
        yield name, node
