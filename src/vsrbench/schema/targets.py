"""Holding a node with ``_target_`` against the signature of what it builds: unknown names, kinds, choices, bounds.

Works for our classes and for those of others, such as Lightning's Trainer. Imports the target.
"""

import inspect
from importlib import import_module
from typing import Any

from vsrbench.annotations import annotations_of, check_value
from vsrbench.errors import ConfigError
from vsrbench.schema import messages

OWN = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")  # Hydra's


def check(node: dict[str, Any], path: str, top: dict[str, Any] | None = None) -> None:
    """Raise ConfigError for a setting that the target does not take, and for a value that it cannot.

    path: where the node is in the configuration. top: the whole configuration, of which ``method`` repeats nodes.
    """
    for name, value in node.items():
        repeated = isinstance(value, dict) and (top or {}).get(name) == value
        for place, inner in _inner(value, name if repeated else f"{path}.{name}"):
            check(inner, place, top)
    target = node.get("_target_")
    if not target:
        return
    function = load(str(target), path)
    parameters = inspect.signature(function).parameters
    hints = annotations_of(inspect.getattr_static(function, "__init__") if isinstance(function, type) else function)
    names = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name, value in node.items():
        if name in OWN:
            continue
        if name not in names:
            if takes_any:
                continue
            raise ConfigError(messages.no_setting(f"{path}.{name}", names, path))
        if not (isinstance(value, dict) and "_target_" in value):
            check_value(f"{path}.{name}", value, hints.get(name, Any))


def load(target: str, path: str) -> Any:
    """The class or function that a ``_target_`` names. Raises ConfigError where it cannot be imported."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path}._target_={target} cannot be imported ({error})") from error


def _inner(value: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        return [(path, value)]
    if isinstance(value, list):
        return [(f"{path}.{number}", one) for number, one in enumerate(value) if isinstance(one, dict)]
    return []
