"""Numbers that papers print, quoted by reference (paper, table, row). docs/published.md describes the file.

A printed value is comparable only under its protocol, so its id stands beside every value. Needs no torch.
"""

import difflib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from vsrbench.errors import ConfigError

FILE = Path(__file__).parent / "assets" / "published.yaml"
VERSION = 1
DIRECTIONS = ("up", "down", "none")
UNITS = ("dB", "ratio", "score", "px", "M", "B", "GB", "s", "ms", "steps", "none")
DEGRADATIONS = ("BI", "BD", "real", "none")
PROTOCOL = (
    "dataset", "degradation", "scale", "resolution", "color", "crop", "frames", "averaging", "sure", "notes",
)  # fmt: skip
REFERENCE = ("paper", "table", "row", "claims", "quoted_only")
PLAIN_DIGITS = 6  # a value with more decimals is written with an exponent

Cell = float | bool | str | None


class QuotedOnlyError(ConfigError):
    """A row that nothing here can measure: its numbers can be quoted, not compared."""


@dataclass(frozen=True)
class Value:
    """One printed cell: printed = value x factor. printed is None for "-", text or bool in columns of settings.

    dir: "up" (higher is better), "down" or "none". digits: decimals in print, None where the cell is no number.
    """

    metric: str
    value: Cell
    printed: Cell
    factor: float
    unit: str
    dir: str
    digits: int | None
    protocol: str

    @property
    def text(self) -> str:
        """As printed, with its trailing zeros."""
        if self.printed is None:
            return "-"
        if not _is_number(self.printed):
            return str(self.printed)
        number = float(self.printed)
        return f"{number:g}" if (self.digits or 0) > PLAIN_DIGITS else f"{number:.{self.digits or 0}f}"


def row(paper: str, table: str, row: str) -> dict[str, Value]:
    """A printed row by column. row: the method or variant, ``group/method`` where that alone is ambiguous.

    Raises ConfigError with the near names for what is not there.
    """
    place = _table(paper, table)
    entry = _row(place, row, f"{paper}.{table}")
    values = {}
    for column, printed in zip(place["columns"], entry["v"], strict=True):
        value = printed / column["factor"] if _is_number(printed) else printed
        protocol = entry.get("p") or column.get("p") or place["protocol"]
        values[column["id"]] = Value(
            column["metric"], value, printed, column["factor"], column["unit"], column["dir"],
            column.get("digits"), protocol,
        )  # fmt: skip
    return values


def claim(paper: str, name: str) -> dict[str, Any]:
    """A sentence of a paper that carries an id: text, formula, computed, printed, follows, why."""
    claims = {entry["id"]: entry for entry in _paper(paper)["claims"] if "id" in entry}
    entry: dict[str, Any] = _named(claims, name, f"claim in {paper}")
    return entry


def quote(reference: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What ``published: {paper, table, row}`` or ``{paper, claims}`` names, as plain JSON values; None for None.

    Returns {"reference", "source", "values": {column: the fields of Value and "text"}, "claims": {id: claim}}.
    Raises ConfigError for another key, a missing one, or a name that is not there.
    """
    if reference is None:
        return None
    keys = {key for key, value in reference.items() if value is not None}
    if unknown := sorted(keys - set(REFERENCE)):
        raise ConfigError(f"published.{unknown[0]} is no part of a reference: use {', '.join(REFERENCE)}")
    if "paper" not in keys or ("table" in keys) != ("row" in keys) or not keys & {"table", "claims"}:
        raise ConfigError("published names a printed row by paper, table and row, or sentences by paper and claims")
    paper = _paper(reference["paper"])
    values, claims, source = {}, {}, paper["title"]
    if "table" in keys:
        source += f": {_table(reference['paper'], reference['table'])['caption']}"
        cells = row(reference["paper"], reference["table"], str(reference["row"]))
        values = {column: {**asdict(value), "text": value.text} for column, value in cells.items()}
    for name in reference.get("claims") or []:
        claims[name] = claim(reference["paper"], name)
    quoted = {key: reference[key] for key in REFERENCE if key in keys}
    return {"reference": quoted, "source": source, "values": values, "claims": claims}


def check(reference: Mapping[str, Any] | None) -> None:
    """Refuse a wrong reference as ``quote`` does; raise QuotedOnlyError for a row that nothing here can measure."""
    quoted = quote(reference)
    if quoted and (reason := quoted["reference"].get("quoted_only")):
        texts = " ".join(
            str(quoted["reference"][key]) for key in ("paper", "table", "row", "claims") if key in quoted["reference"]
        )
        cells = ", ".join(f"{v['metric']} {v['text']} {v['unit']}" for v in quoted["values"].values())
        raise QuotedOnlyError(f"{texts} prints {cells}; {reason}")


def rows(paper: str, table: str) -> list[str]:
    """The names of a table's rows, as ``row`` takes them."""
    entries = _table(paper, table)["rows"]
    names = [entry["m"] for entry in entries]
    return [m if names.count(m) == 1 else f"{e['g']}/{m}" for m, e in zip(names, entries, strict=True)]


@cache
def load(path: Path = FILE) -> dict[str, Any]:
    """The whole file, checked. Raises ConfigError naming file, table and row of what breaks the layout."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Refuses a key that is there twice; plain YAML would keep the last one without a word."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise ConfigError(
                    f"{path.name}: {twice[0]!r} is there twice, line {node.start_mark.line + 1} and below"
                )
            mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
            return mapping

    try:
        content: dict[str, Any] = yaml.load(path.read_text(), Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is no YAML: {error}") from error
    _check_file(content, path.name)
    return content


def _check_file(content: Any, file: str) -> None:
    _keys(content, ("schema_version", "protocols", "papers", "cross"), (), file)
    if content["schema_version"] != VERSION:
        raise ConfigError(f"{file}: schema_version {content['schema_version']}, this version reads {VERSION}")
    for name, protocol in content["protocols"].items():
        where = f"{file}: protocol {name}"
        _keys(protocol, PROTOCOL, (), where)
        _one_of(protocol["sure"], PROTOCOL, f"{where}: sure")
    for name, paper in content["papers"].items():
        where = f"{file}: {name}"
        _keys(paper, ("title", "venue", "tables", "claims", "notes"), (), where)
        for table, entry in paper["tables"].items():
            _check_table(entry, content["protocols"], f"{where}.{table}")
        for entry in paper["claims"]:
            _keys(entry, ("text", "formula", "computed", "printed", "follows", "why"), ("id",), f"{where}: a claim")
        _unique([entry["id"] for entry in paper["claims"] if "id" in entry], f"{where}: claims")
    for entry in content["cross"]:
        _keys(entry, ("row", "values"), (), f"{file}: cross")
        _one_of(entry["values"], content["papers"], f"{file}: cross, row {entry['row']!r}")


def _check_table(table: Any, protocols: Mapping[str, Any], where: str) -> None:
    _keys(table, ("caption", "protocol", "columns", "rows", "notes"), (), where)
    known = [*protocols]
    for column in table["columns"]:
        place = f"{where} column {column.get('id')!r}"
        _keys(column, ("id", "metric", "dir", "unit", "factor", "dataset", "deg"), ("digits", "p"), place)
        _one_of([column["dir"]], DIRECTIONS, f"{place}: dir")
        _one_of([column["unit"]], UNITS, f"{place}: unit")
        _one_of([column["deg"]], DEGRADATIONS, f"{place}: deg")
        _one_of([column.get("p") or table["protocol"]], known, f"{place}: protocol")
        if not _is_number(column["factor"]) or column["factor"] <= 0:
            raise ConfigError(f"{place}: factor is {column['factor']!r}, not a positive number")
    _unique([column["id"] for column in table["columns"]], f"{where}: columns")
    for entry in table["rows"]:
        place = f"{where} row {entry.get('m')!r}"
        _keys(entry, ("m", "v"), ("g", "p"), place)
        if not isinstance(entry["m"], str):
            raise ConfigError(f"{place}: a name is text, put it in quotes")
        if "p" in entry:
            _one_of([entry["p"]], known, f"{place}: protocol")
        if len(entry["v"]) != len(table["columns"]):
            raise ConfigError(f"{place}: {len(entry['v'])} values for {len(table['columns'])} columns")
        for column, cell in zip(table["columns"], entry["v"], strict=True):
            _check_cell(cell, column, f"{place} column {column['id']!r}")
    _unique([f"{entry['g']}/{entry['m']}" if "g" in entry else entry["m"] for entry in table["rows"]], f"{where}: rows")


def _check_cell(cell: Any, column: Mapping[str, Any], place: str) -> None:
    digits = column.get("digits")
    if not (cell is None or isinstance(cell, bool | str | int | float)):
        raise ConfigError(f"{place}: {cell!r} is neither number, text, bool nor null")
    if _is_number(cell):
        exponent = Decimal(repr(cell)).normalize().as_tuple().exponent
        if digits is None or not isinstance(exponent, int) or -exponent > digits:
            raise ConfigError(f"{place}: {cell!r} is not a finite number of at most digits={digits} decimals")
    elif cell is not None and digits is not None:
        raise ConfigError(f"{place}: {cell!r} is no number, but the column has digits={digits}")


def _keys(node: Any, required: Iterable[str], optional: Iterable[str], where: str) -> None:
    if not isinstance(node, dict):
        raise ConfigError(f"{where}: {node!r} is no mapping")
    missing, unknown = set(required) - set(node), set(node) - {*required, *optional}
    if missing or unknown:
        raise ConfigError(f"{where}: missing keys {sorted(missing)}, unknown keys {sorted(unknown, key=str)}")


def _one_of(names: Iterable[Any], known: Iterable[str], where: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: {name!r} is none of {', '.join(known)}")


def _unique(names: list[str], where: str) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{where}: {twice[0]!r} is there twice")


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _paper(paper: str) -> dict[str, Any]:
    entry: dict[str, Any] = _named(load()["papers"], paper, "paper")
    return entry


def _table(paper: str, table: str) -> dict[str, Any]:
    entry: dict[str, Any] = _named(_paper(paper)["tables"], table, f"table in {paper}")
    return entry


def _row(table: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    names = [entry["m"] for entry in table["rows"]]
    known = {entry["m"]: entry for entry in table["rows"] if names.count(entry["m"]) == 1}
    known |= {f"{entry['g']}/{entry['m']}": entry for entry in table["rows"] if "g" in entry}
    entry: dict[str, Any] = _named(known, name, f"row in {where}")
    return entry


def _named(known: Mapping[str, Any], name: str, what: str) -> Any:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or [*known]
    raise ConfigError(f"published: no {what} is called {name!r}; near are {', '.join(near)}")
