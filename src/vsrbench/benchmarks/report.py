"""A table with the circumstances of its numbers, on the terminal and as JSON."""

import json
import os
import platform
import shlex
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vsrbench.runs import write_atomic

if TYPE_CHECKING:
    from omegaconf import DictConfig


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
    return shlex.join(["vsrbench", "bench", *(a for a in sys.argv[1:] if a != "verb=bench")])


def device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model, listed = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if listed.is_file():
        named = (line for line in listed.read_text().splitlines() if line.startswith("model name"))
        model = next(named, f": {model}").partition(":")[2].strip()
    return f"{model}, {os.cpu_count()} cores"
