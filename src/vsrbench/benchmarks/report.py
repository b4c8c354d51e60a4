"""Tables of costs: lines per unit and frame, what a paper reports beside them, and the circumstances of the numbers."""

import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vsrbench import published
from vsrbench.methods.base import Work
from vsrbench.runs import occasion, write_atomic

if TYPE_CHECKING:
    from omegaconf import DictConfig


Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """key: of the rows. form: how a number is written."""

    key: str
    heading: str
    form: str = "{}"
    right: bool = False

    def cell(self, value: Any) -> str:
        return "" if value is None else value if isinstance(value, str) else self.form.format(value)


def numbers(columns: dict[str, tuple[str, str]]) -> list[Column]:
    """Columns of numbers, {key: (heading, form)}."""
    return [Column(key, heading, form, right=True) for key, (heading, form) in columns.items()]


@dataclass(frozen=True)
class Report:
    """rows: {"part": name, key: value}; None is left empty. facts: what the numbers depend on besides."""

    task: str
    title: str
    columns: list[Column]
    rows: list[dict[str, Any]]
    notes: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


def show(report: Report, output: str | None = None) -> None:
    """Print a report; with ``output`` write it as JSON too (numbers in full)."""
    from rich.console import Console
    from rich.table import Table

    facts = {**circumstances(), **report.facts}
    table = Table(title=report.title)
    table.add_column("part")
    for column in report.columns:
        table.add_column(column.heading, justify="right" if column.right else "left")
    for row in report.rows:
        style = "bold" if str(row["part"]).startswith(("sum", "upscaling")) else None
        table.add_row(str(row["part"]), *(c.cell(row.get(c.key)) for c in report.columns), style=style)
    console = Console(width=120, highlight=False)
    console.print(table)
    for note in [*report.notes, ", ".join(f"{k}: {v}" for k, v in facts.items() if k != "command")]:
        console.print(f"- {note}", markup=False)
    console.print(f"- command: {facts['command']}", markup=False, soft_wrap=True)
    if output is not None:
        headings = {column.key: column.heading for column in report.columns}
        content = {"task": report.task, "title": report.title, "facts": facts, "columns": headings}
        text = json.dumps({**content, "rows": report.rows, "notes": report.notes}, indent=1, allow_nan=False) + "\n"
        write_atomic(Path(output).expanduser(), text.encode())


def headline(cfg: "DictConfig", size: tuple[int, int], absent: list[str]) -> str:
    """What was measured: task, method, sizes, and which weights were random."""
    scale = int(cfg.scale)
    sizes = f"LR {size[0]}x{size[1]} to {scale * size[0]}x{scale * size[1]}"
    weights = f", random weights: {', '.join(absent)}" if absent else ""
    return f"{cfg.task} of {cfg.method.name} size={cfg.size} variant={cfg.variant}, {sizes}{weights}"


def circumstances() -> dict[str, Any]:
    """What every number of this machine depends on."""
    threads, today = torch.get_num_threads(), date.today().isoformat()
    return {"torch": torch.__version__, "threads": threads, "date": today, "command": command()}


def steps(cfg: "DictConfig") -> dict[str, int]:
    """The number of diffusion steps, where there are any."""
    return {} if cfg.sampler is None else {"steps": int(cfg.sampler.steps)}


def command() -> str:
    """The command line as typed, or that there was none."""
    if Path(sys.argv[0]).stem != "bench":
        return "none, called from Python"
    return occasion()["command"]


def device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model, listed = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if listed.is_file():
        model_names = (line for line in listed.read_text().splitlines() if line.startswith("model name"))
        model = next(model_names, f": {model}").partition(":")[2].strip()
    return f"{model}, {os.cpu_count()} cores"


def tabulate(work: dict[str, Work], units: dict[str, float | None]) -> list[Row]:
    """Rows with the keys part, unit, times, frame, share: a unit's cost, how often per frame, the product, percent.

    units: {line: cost}, None where there is none; such a line adds nothing to the sums. After the parts of a module
    comes a line that adds them up; its unit is one of each.
    """
    frame = {name: None if unit is None else unit * work[name].per_frame for name, unit in units.items()}
    whole = _sum(frame.values())
    rows: list[Row] = []
    for name, item in work.items():
        rows.append(_row(name, units[name], item.per_frame, frame[name], whole))
        parts = [n for n in work if work[n].nested_in == item.nested_in]
        if item.nested_in and parts[-1] == name:
            sums = _sum(units[n] for n in parts), _sum(frame[n] for n in parts)
            rows.append(_row(f"sum of {item.nested_in}", sums[0], None, sums[1], whole))
    rows.append(_row("sum", None, None, whole, whole))
    return rows


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _row(part: str, unit: float | None, times: float | None, frame: float | None, whole: float | None) -> Row:
    share = None if frame is None or not whole else 100 * frame / whole
    return {"part": part, "unit": unit, "times": times, "frame": frame, "share": share}


@dataclass(frozen=True)
class Reported:
    """label: heading of the column. values: {line: reported number}. notes: about them."""

    label: str
    values: dict[str, float]
    notes: list[str]

    def column(self, form: str) -> Column:
        """The column of a table for rows that hold these values as ``printed``."""
        return Column("printed", self.label, form, right=True)

    def beside(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with the reported values of their parts."""
        return [{**row, "printed": self.values.get(row["part"])} for row in rows]


def reported(node: Any) -> Reported | None:
    """Look up ``{paper, table, lines: {line: row}, notes}`` of a configuration; None where it quotes nothing.

    Each row gives its first column, or the one named by ``column``. Raises ConfigError for a reference that is not
    among the published numbers.
    """
    if node is None:
        return None
    cells = {}
    for line, row in node.lines.items():
        values = published.row(node.paper, node.table, str(row))
        cells[str(line)] = values[node.get("column") or next(iter(values))]
    unit = next(iter(cells.values())).unit if cells else ""
    table = str(node.table).removeprefix("s_").removeprefix("table")
    label = f"reported, {'Supp. ' if str(node.table).startswith('s_') else ''}Table {table}, {unit}"
    numbers = {line: float(cell.printed) for line, cell in cells.items() if cell.printed is not None}
    return Reported(label, numbers, [str(note) for note in node.get("notes") or []])
