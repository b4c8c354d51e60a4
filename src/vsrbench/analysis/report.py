"""The record that every analysis leaves: values, tables, the paper's own numbers, and what they rest on."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.errors import RunError
from vsrbench.stored import read_json

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "vsrbench.analysis/1"
# what the paper's own figures were measured on
SETTING = "DGAF-VSR on REDS4 (4 clips of 100 frames, latents of 180x320), x4, 50 DDPM steps, RAFT"

Nested = dict[str, Any]  # names to numbers, or to further such records


@dataclass(frozen=True)
class Table:
    """Cells are numbers or texts. A column whose name holds a percent sign has two decimals."""

    title: str
    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Result:
    """What an analysis result. pictures: {row: {column: (h,w) array in [0,1]}} where it draws features themselves."""

    values: Nested
    tables: list[Table]
    paper: Nested
    counts: dict[str, Any]
    pictures: dict[str, dict[str, Any]] | None = None


def assemble(settings: Nested, result: Result, clips: dict[str, int], provenance: Nested) -> Nested:
    """The content of table.json. settings: the resolved configuration; clips: frames per clip."""
    return {
        "schema": SCHEMA,
        "task": settings["task"],
        "method": settings["method"]["name"],
        "size": settings["size"],
        "variant": settings["variant"],
        "scale": settings["scale"],
        "sampler": settings["sampler"],
        "data": {"set": settings["data"]["set"], "split": settings["analysis"]["split"], "clips": clips},
        "counts": result.counts,
        "settings": settings["analysis"],
        "values": plain(result.values),
        "tables": [plain(vars(table)) for table in result.tables],
        "paper": result.paper,
        "provenance": provenance,
    }


def load(path: Path) -> Nested:
    """A table.json. Raises RunError for a file that is none, or of another schema."""
    result: Nested = read_json(path, "analyse again (force=true)")
    if result.get("schema") != SCHEMA:
        raise RunError(f"{path} has schema {result.get('schema')!r}, this version reads {SCHEMA}: use force=true")
    return result


def title(result: Nested) -> str:
    """What was analysed, in one line."""
    return f"{result['task']} · {result['method']} size={result['size']} x{result['scale']} · {result['data']['set']}"


def remarks(result: Nested) -> list[str]:
    """What a reader must know beside the tables."""
    c, p = result["counts"], result["paper"]
    clips = ", ".join(f"{name} {frames}" for name, frames in result["data"]["clips"].items())
    measured = c.get("measured") or (
        f"clips {c['clips']} (frames: {clips}), adjacent pairs {c['pairs']}, diffusion steps {c['steps']}, "
        f"channels {c['channels']}, so feature groups {c['groups']}; means over pairs, then over clips and steps"
    )
    lines = [
        f"Ours: {measured}. Seed {result['provenance']['seed']}, device {result['provenance']['device']}.",
        f"Paper: {p['reference']}; {p['setting']}.",
    ]
    return lines + [f"Paper says: {p[key]}." for key in ("says", "single_steps") if key in p]


def markdown(result: Nested) -> str:
    """The tables and remarks as a Markdown page."""
    parts = [f"# {title(result)}"]
    for table in result["tables"]:
        head = [table["columns"], ["---"] + ["---:"] * (len(table["columns"]) - 1)]
        body = [[cell(v, c) for v, c in zip(row, table["columns"], strict=True)] for row in table["rows"]]
        parts.append(f"**{table['title']}**\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in head + body))
    return "\n\n".join([*parts, *remarks(result)]) + "\n"


def show(result: Nested, console: "Console | None" = None) -> None:
    """Print the tables and remarks."""
    from rich.console import Console
    from rich.table import Table as Drawn

    console = console or Console()
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(file=console.file, width=140)
    console.print(title(result), style="bold", highlight=False)
    for table in result["tables"]:
        charts = Drawn(title=table["title"])
        for n, name in enumerate(table["columns"]):
            charts.add_column(name, justify="right" if n else "left")
        for row in table["rows"]:
            charts.add_row(*(cell(v, c) for v, c in zip(row, table["columns"], strict=True)))
        console.print(charts)
    for line in remarks(result):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def cell(value: Any, column: str) -> str:
    """One cell as text."""
    if isinstance(value, float):
        return f"{value:.2f}" if "%" in column else f"{value:.4g}"
    return str(value)


def mean(records: Iterable[Nested]) -> Nested:
    """The record of the means of records that have the same names, at any depth."""
    rows = list(records)
    return {
        key: mean(row[key] for row in rows) if isinstance(value, dict) else sum(row[key] for row in rows) / len(rows)
        for key, value in rows[0].items()
    }


def gain(a: float, b: float) -> float | str:
    """By how many percent a lies above b; a text where b is zero or one of them is no finite number."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return "undefined: one of the two is infinite"
    return "undefined: the reference is zero" if b == 0 else 100 * (a / b - 1)


def loss(a: float, b: float) -> float | str:
    """By how many percent a lies below b; a text as for ``gain``."""
    percent = gain(a, b)
    return percent if isinstance(percent, str) else -percent


def plain(value: Any) -> Any:
    """The same for JSON: an infinite number becomes a text. Raises ValueError for NaN, which nothing here may give."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            raise ValueError("an analysis gave a value that is no number")
        return "infinite: the two are equal"
    return value
