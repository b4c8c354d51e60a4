"""What earlier commands, other people or other machines left in folders: read as plain values, never trusted.

Nothing that such a file names is imported or run, no interpolation in it is resolved, and no name in it leads out of
the folder that it is used in. Files of arrays are ``vsrbench.weights``'s.
"""

import codecs
import json
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from vsrbench.errors import RunError, VsrbenchError

CONFIG = "config.yaml"
LARGEST_CONFIG = 2**20  # bytes; a resolved configuration has some 20 kB
LARGEST = 2**29  # bytes of a JSON file; results of long films have one number per frame and metric


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few of them, nested, make gigabytes out of a hundred bytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has YAML aliases")
        return super().compose_node(parent, index)


def read_text(file: Path, largest: int = LARGEST, remedy: str = "", error: type[VsrbenchError] = RunError) -> str:
    """The text of a regular file. Raises ``error`` for anything else (a pipe would wait for ever), with the remedy."""
    try:
        mode, size = file.stat().st_mode, file.stat().st_size
        if not stat.S_ISREG(mode):
            raise error(f"{file} is no regular file: {remedy or 'remove it'}")
        if size > largest:
            raise error(f"{file} has {size:,} bytes, more than any such file of vsrbench: {remedy or 'remove it'}")
        return _decoded(file.read_bytes())
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"{file} cannot be read ({reason}): {remedy or 'remove it'}") from reason


def _decoded(content: bytes) -> str:
    """UTF-8, or what the byte order mark of Windows' editors and shells says."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def read_json(file: Path, remedy: str, error: type[VsrbenchError] = RunError) -> dict[str, Any]:
    """The object that a JSON file holds. Raises ``error`` for one that is damaged or holds anything else."""
    try:
        content = json.loads(read_text(file, remedy=remedy, error=error))
    except (ValueError, RecursionError) as reason:
        raise error(f"{file} is damaged ({reason}): {remedy}") from reason
    if not isinstance(content, dict):
        raise error(f"{file} is damaged (it holds no object): {remedy}")
    return content


def read_config(file: Path, remedy: str = "remove the folder, or give another one") -> dict[str, Any]:
    """The settings of a run folder's ``config.yaml``, as plain values. Raises RunError for a damaged file."""
    try:
        content = yaml.load(read_text(file, LARGEST_CONFIG, remedy), Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as reason:
        line = " ".join(str(reason).split())
        raise RunError(f"{file} is damaged ({line}): {remedy}") from reason
    if not isinstance(content, dict) or any(not isinstance(key, str) for key in content):
        raise RunError(f"{file} is damaged (it holds no settings): {remedy}")
    return content


def read_json_or(file: Path, otherwise: dict[str, Any], remedy: str) -> dict[str, Any]:
    """The same, or ``otherwise`` where there is no such file."""
    return read_json(file, remedy) if file.exists() else otherwise


def check_name(name: Any, file: Path, error: type[VsrbenchError] = RunError) -> str:
    """A relative name such as ``calendar`` or ``00001/0266`` that a file gives.

    Raises ``error`` naming the file for one that would lead out of the folder it is used in, or that no file can have.
    """
    if not isinstance(name, str) or not inside(name):
        raise error(f"{file} names {name!r}: a name in it must lie below its folder; fetch or make the file again")
    return name


def inside(name: str) -> bool:
    """Whether a name stays below the folder that it is joined to."""
    path = PurePosixPath(name)
    hidden = any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    return bool(path.parts) and not hidden and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def below(folder: Path, name: str) -> Path:
    """``folder / name``. Raises RunError where that is not below the folder, links followed."""
    path = folder / name
    if not inside(name) or not path.resolve().is_relative_to(folder.resolve()) or path.resolve() == folder.resolve():
        raise RunError(f"{path} does not lie below {folder}: nothing is written or removed there; use another name")
    return path
