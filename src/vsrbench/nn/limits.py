"""The least that numbers of a configuration may be."""

from collections.abc import Mapping
from typing import Any

from vsrbench.errors import ConfigError


def check_least(group: str, settings: Mapping[str, Any], least: Mapping[str, float]) -> None:
    """Raise ConfigError for a number, or one of a list, that is below its least value, and for what is no number.

    group: where the settings are, as in ``method.generator``. Settings that are absent or None are left alone.
    """
    for name, lowest in least.items():
        value = settings.get(name)
        numbers = [] if value is None else [value] if isinstance(value, int | float | str) else list(value)
        kind = int if isinstance(lowest, int) else int | float
        if any(isinstance(n, bool) or not isinstance(n, kind) or n < lowest for n in numbers):
            what = f"a whole number from {lowest}" if kind is int else f"{lowest:g} or more"
            raise ConfigError(f"{group}.{name}={value}: use {what}{'' if numbers == [value] else ' for each'}")
