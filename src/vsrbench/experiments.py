"""The files below ``experiments/``: their names, the rows that one of them holds, and what ``experiments=`` means.

A file stands for one printed row, or for several: then its key ``rows`` names them, as a list of values or as
``{name: printed row or settings}``, and ``row=NAME`` chooses one. Needs neither torch nor Hydra.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vsrbench.errors import ConfigError


def names(root: Path, pattern: str = "**/*") -> list[str]:
    """Experiments as ``experiments=`` takes them, in order, without what several files share (``_*.yaml``)."""
    files = (path for path in root.glob(f"{pattern}.yaml") if not path.name.startswith("_"))
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in files)


def rows(root: Path, name: str) -> dict[str, Any]:
    """The rows of one file: {what ``row=`` takes: the printed row, or its settings}; empty where it is for one row."""
    import yaml

    content: Any = (yaml.safe_load((root / f"{name}.yaml").read_text()) or {}).get("rows") or {}
    return {str(key): content[key] if isinstance(content, dict) else key for key in content}


def expand(argument: str, root: Path) -> str:
    """``experiments=folder/*`` lists the folder; other arguments come back as they are.

    Raises ConfigError for a pattern that matches nothing and for the name that a row had when it was a file.
    """
    key, _, name = argument.partition("=")
    if key != "experiments" or (root / f"{name}.yaml").is_file():
        return argument
    expanded = names(root, name) if "*" in name else []
    if expanded:
        return "experiments=" + ",".join(expanded)
    if spelling := _row_of_a_file(root, name):
        raise ConfigError(f"{argument} is one of the rows of a table now: use {spelling}")
    if "*" in name:
        raise ConfigError(f"{argument} matches no file below {root}")
    return argument


def _row_of_a_file(root: Path, name: str) -> str | None:
    """``TABLE_ROW`` as ``experiments=TABLE row=ROW`` where TABLE is a file with that row, ``TABLE_*`` with all."""
    parts = name.split("_")
    for length in range(len(parts) - 1, 0, -1):
        table, row = "_".join(parts[:length]), "_".join(parts[length:])
        if (root / f"{table}.yaml").is_file():
            known = rows(root, table)
            if row in known or (row == "*" and known):
                return f"experiments={table} row={','.join(known) if row == '*' else row}"
    return None


def check_moved(arguments: Sequence[str], root: Path) -> None:
    """Raise ConfigError for ``row=ROW`` of a table where that row is a file of its own now, ``TABLE_ROW``."""
    values = {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    table, row = values.get("experiments", ""), values.get("row", "")
    if (root / f"{table}_{row}.yaml").is_file() and row not in rows(root, table):
        raise ConfigError(f"experiments={table} row={row} is a file of its own now: use experiments={table}_{row}")


def check_row(cfg: Mapping[str, Any]) -> None:
    """Raise ConfigError where ``row=`` chooses none of the rows of the experiment, before anything refers to it."""
    known = [str(name) for name in cfg["rows"] or ()]
    if cfg["row"] is None and not known:
        return
    if not known:
        raise ConfigError(
            f"row={cfg['row']} chooses a row of an experiment that has several: give experiments=TABLE too"
        )
    if str(cfg["row"]) not in known:
        start = "row=NAME is missing" if cfg["row"] is None else f"row={cfg['row']} is no row of this experiment"
        raise ConfigError(f"{start}: use one of {', '.join(known)}")
