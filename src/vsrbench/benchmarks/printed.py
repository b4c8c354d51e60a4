"""What a paper prints beside the lines of a table, named by reference in the method's configuration."""

from dataclasses import dataclass
from typing import Any

from vsrbench import published
from vsrbench.benchmarks.report import Column


@dataclass(frozen=True)
class Printed:
    """label: heading of the column. values: {line: printed number}. notes: about them."""

    label: str
    values: dict[str, float]
    notes: list[str]

    def column(self, form: str) -> Column:
        """The column of a table for rows that hold these values as ``printed``."""
        return Column("printed", self.label, form, right=True)

    def beside(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with the printed values of their parts."""
        return [{**row, "printed": self.values.get(row["part"])} for row in rows]


def printed(node: Any) -> Printed | None:
    """Look up ``{paper, table, lines: {line: row}, notes}`` of a configuration; None where it quotes nothing.

    Each row gives its first column, or the one named by ``column``. Raises ConfigError for a reference that is not
    among the published numbers.
    """
    if node is None:
        return None
    cells = {}
    for line, row in node.lines.items():
        found = published.row(node.paper, node.table, str(row))
        cells[str(line)] = found[node.get("column") or next(iter(found))]
    unit = next(iter(cells.values())).unit if cells else ""
    table = str(node.table).removeprefix("s_").removeprefix("table")
    label = f"printed, {'Supp. ' if str(node.table).startswith('s_') else ''}Table {table}, {unit}"
    values = {line: float(cell.printed) for line, cell in cells.items() if cell.printed is not None}
    return Printed(label, values, [str(note) for note in node.get("notes") or []])
