"""What is wrong with the settings of a command, in one line: Hydra's errors put into words, names that do not exist.

Hydra itself would print its message with the folders that it searched.
"""

import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from vsrbench.errors import ConfigError

MOST = 15  # neighbours of a setting that are listed where one is near
MANY = 40  # names; longer lists show their folders


def from_hydra(
    error: Exception, arguments: Sequence[str], conf: Path, settings: Callable[[], dict[str, Any]]
) -> ConfigError | None:
    """The error of ours for one that Hydra raises; None for what is no fault of the command.

    arguments: of the command. conf: the folder of the groups. settings: gives all settings of the same command
    without those that are given one by one.
    """
    from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
    from yaml import YAMLError

    message = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return ConfigError(_absent(error.missing_cfg_file, message, error.options or (), arguments, conf))
    if isinstance(error, OverrideParseException):
        why = message.removeprefix(f"Error parsing override {error.override!r}").strip().partition("\n")[0]
        why, (key, _, value) = why.partition(" expecting")[0], str(error.override).partition("=")
        quoted = shlex.quote(f'{key}="{value}"')
        return ConfigError(
            f"cannot read {error.override!r} ({why}): settings are written key=value, and a value with more than "
            f"letters, digits and / . : - _ in quotes of its own, {quoted} (then write $HOME for ~)"
        )
    if isinstance(error, ValueError) and message.startswith("Config group override"):
        return ConfigError(_unusable(arguments, conf))
    if match := re.match(r"Could not override '(.+)'\.", message):
        return ConfigError(unknown(match[1], conf, settings()))
    if match := re.match(r"(Ambiguous value for argument|Sweep parameters) '(.+)'", message):
        key, _, values = match[2].partition("=")
        as_list = f", or write one list, '{key}=[{values}]'" if match[1].startswith("Ambiguous") else ""
        return ConfigError(f"{match[2]} is several values: add -m for a job with each{as_list}")
    if match := re.match(r"Multiple values for (\S+)\. To override", message):
        return ConfigError(f"{match[1]} is chosen already: leave the + before {match[1]}= out")
    if isinstance(error, CompactHydraException | YAMLError):
        said = (message or str(error.__cause__)).partition("\nConfig search path")[0]
        lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("See http")]
        return ConfigError(" ".join(lines))
    return None


def _absent(missing: str, message: str, known: Sequence[str], arguments: Sequence[str], conf: Path) -> str:
    """A choice that does not exist. missing: ``group/name``, of which a name may have parts."""
    keys = [argument.lstrip("+").partition("=")[0] for argument in arguments]
    parent = max((key for key in keys if missing.startswith(f"{key}/")), key=len, default=None)
    group = parent or missing.partition("/")[0]
    name = missing.removeprefix(f"{group}/")
    instead = offered(name, options(conf / group) or list(known))
    by = re.match(r"In '([^']+)'", message)
    if parent or by is None:
        return f"{group}={name} does not exist{instead}"
    files = [argument for argument in arguments if argument.startswith(("experiments=", "recipe="))]
    asking = " or ".join(files) if "/" not in by[1] else f"{by[1]}.yaml"
    return f"{asking} asks for {group}={name}, which does not exist{instead}"


def _unusable(arguments: Sequence[str], conf: Path) -> str:
    """A choice that is no name: a number, null."""
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        if not key:
            return f"cannot read {argument!r}: settings are written key=value"
        known = options(conf / key)
        if known and value not in known:
            return f"{key}={value} does not exist{offered(value, known)}"
    return "a group of settings is chosen by a name"


def options(group: Path) -> list[str]:
    """Names that can be chosen in a group; in one of folders alone they are ``folder/name``."""
    files = [file for file in group.glob("*.yaml") if not file.name.startswith("_")] or list(group.rglob("*.yaml"))
    names = (str(file.relative_to(group).with_suffix("")) for file in files)
    return sorted(name for name in names if not Path(name).name.startswith(("_", "default_")))


def offered(name: str, known: Sequence[str]) -> str:
    """``: did you mean x? There are x, y``: the nearest of what there is, and all of it, or its folders."""
    near = difflib.get_close_matches(name, known, 1)
    folder = name.rpartition("/")[0]
    names = [one for one in known if folder and one.startswith(f"{folder}/")] or list(known)
    if len(names) > MANY:
        names = list(dict.fromkeys(f"{one.partition('/')[0]}/..." if "/" in one else one for one in names))
    if near:
        return f": did you mean {near[0]}? There are {', '.join(names)}"
    return f": use one of {', '.join(names)}" if names else ""


def unknown(key: str, conf: Path, settings: dict[str, Any]) -> str:
    """A setting that does not exist: the nearest one, and what stands beside it."""
    if (conf / key).is_dir():
        return f"{key}=...: this command has no choice of {key}"
    parent, _, last = key.replace("/", ".").rpartition(".")
    known = {name: value for name, value in flat(settings).items() if not name.rpartition(".")[2].startswith("_")}
    beside = [one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == parent]
    near = [f"{parent}.{one}".lstrip(".") for one in difflib.get_close_matches(last, beside, 1)]
    near = near or [one for one in known if one.rpartition(".")[2] == last]
    near = near or [one for one in difflib.get_close_matches(key, list(known), 1) if not key.startswith(one)]
    text = f"there is no setting {key}"
    if moved := of_training(key, settings):
        return f"{text}: {moved}"
    empty = next((one for one in _above(parent) if one in known and not isinstance(known[one], dict)), None)
    if empty is not None:
        return f"{text}: {empty} is {known[empty]!r} here".replace("None", "null")
    if near:
        text += f": did you mean {' or '.join(near[:3])}?"
    if parent and beside:
        return f"{text}{'' if near else ':'} {parent} has {', '.join(beside)}"
    return f"{text}{'' if near else ':'} --cfg job shows all of them"


def of_training(key: str, settings: dict[str, Any]) -> str | None:
    """For a setting of ``method`` that belongs to its training: where it is."""
    group, _, name = key.partition(".")
    known = settings.get("module") or {}
    if group != "method" or name.partition(".")[0] not in known or name.startswith("_"):
        return None
    return f"training alone reads it, give module.{name}"


def _above(key: str) -> Iterable[str]:
    while key:
        yield key
        key = key.rpartition(".")[0]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting and every group by its full name."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values[f"{prefix}{key}"] = value
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
    return values


def no_setting(key: str, beside: Sequence[str], group: str) -> str:
    """A setting that a known group does not have: the nearest ones, and all of a short group."""
    last, where = key.rpartition(".")[2], f"{group}." if group else ""
    text = f"there is no setting {key}:"
    if near := difflib.get_close_matches(last, beside, 1):
        text += f" did you mean {where}{near[0]}?"
        return text if not group or len(beside) > MOST else f"{text} {group} has {', '.join(beside)}"
    if group and len(beside) <= MOST:
        return f"{text} {group} has {', '.join(beside)}"
    nearest = ", ".join(where + one for one in difflib.get_close_matches(last, beside, 3, cutoff=0))
    return f"{text} the nearest are {nearest}; --help lists all of them"
