"""``python -m vsrbench.conformance DIR``: every protocol's bicubic row on the data that are there.

DIR holds data sets (or is one). Each printed bicubic row whose data are found is measured and compared; the table says
which are verified, which deviate and which cannot be tested. Exit code 1 where one deviates, 2 for a wrong folder.
"""

import argparse
import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench import eval as evaluate
from vsrbench.config import compose, one_line
from vsrbench.errors import DataError
from vsrbench.interrupts import one_line_at_the_end

if TYPE_CHECKING:
    from vsrbench.evaluation.conformance import BicubicRow

COLOURS = {"verified": "green", "deviates": "red"}


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="vsrbench.conformance", description="bicubic rows on the data at hand")
    parser.add_argument("data", type=Path, help="folder of data sets, or of one")
    parser.add_argument("--runs", default="runs", help="folder of the run folders")
    options = parser.parse_args(arguments)
    with one_line_at_the_end("conformance"), one_line():
        if not options.data.is_dir():
            raise DataError(f"no folder {options.data}: give one that holds data sets (make conformance DATA=DIR)")
        rows = survey(options.data.resolve(), options.runs)
    show(rows)
    if any(row["verdict"] == "deviates" for row in rows):
        raise SystemExit(1)


def survey(folder: Path, runs: str) -> list[dict[str, Any]]:
    """One row per protocol, data set, scale and kernel; a bar where there is a terminal."""
    from vsrbench.evaluation.conformance import bicubic_rows, root_of
    from vsrbench.evaluation.protocol import shipped
    from vsrbench.progress import Bars

    planned, rows = bicubic_rows(shipped()), []
    with Bars() as bars:
        bar = bars.row(len(planned), "bicubic rows")
        for job in planned:
            root = root_of(job, folder)
            rows += absent(job, folder) if root is None else measured(job, root, runs)
            bar.advance()
    return rows


def measured(job: "BicubicRow", root: Path, runs: str) -> list[dict[str, Any]]:
    """Evaluate, or take what the same evaluation found before; a row per protocol."""
    from vsrbench.evaluation import results

    with contextlib.redirect_stdout(io.StringIO()):
        run = evaluate.run(compose([*job.overrides(root), f"runs={runs}"], verb="eval"))
    protocols = [results.load(run / file)["protocol"] for file in results.file_names(job.protocols)]
    return [{"job": job, "id": p["id"], **p["comparison"], "folder": str(run)} for p in protocols]


def absent(job: "BicubicRow", folder: Path) -> list[dict[str, Any]]:
    """The rows of a job whose data are not there."""
    why = f"neither {folder} nor a folder in it holds {job.set}"
    return [{"job": job, "id": name, "verdict": "data_absent", "why": why, "cells": []} for name in job.protocols]


def show(rows: list[dict[str, Any]]) -> None:
    """The table of verdicts, and the reported values that were compared."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=150)
    table = Table("protocol", "data", "kernel", "verdict", "compared: here (printed)", "why")
    for row in rows:
        job, colour = row["job"], COLOURS.get(row["verdict"], "yellow")
        near = [c for c in row["cells"] if c["difference"] is not None]
        values = ", ".join(f"{c['metric']} {c['here']:.{c['digits'] + 1}f} ({c['printed']})" for c in near)
        data = f"{job.set} x{job.scale}"
        table.add_row(row["id"], data, job.kernel, f"[{colour}]{row['verdict']}[/]", values, row["why"])
    console.print(table)


if __name__ == "__main__":
    main()
