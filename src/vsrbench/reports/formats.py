"""A table, and the four forms in which people take it away: markdown, LaTeX (booktabs), HTML, CSV."""

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsrbench.runs import write_atomic

QUOTED = "†"
INDENT = "  "  # before the label of a row that belongs to the one above
WORDS = 36  # characters from which a cell is a sentence
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$",
    "−": "$-$", "–": "--", "†": r"\textsuperscript{\dag}", "±": r"$\pm$", "≤": r"$\leq$",
}  # fmt: skip
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
ENDINGS = {"markdown": ".md", "latex": ".tex", "html": ".html", "csv": ".csv"}


@dataclass(frozen=True)
class Line:
    """A row. kind: "" for what was measured here, "quoted" for what a paper reports, "difference"; best: columns of
    ``cells`` whose value is the best, from 0 on."""

    label: str
    cells: tuple[str, ...]
    kind: str = ""
    best: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """The label with the mark of what is quoted."""
        return f"{self.label} {QUOTED}" if self.kind == "quoted" else self.label


@dataclass(frozen=True)
class Table:
    """columns: titles, that of the labels first. Cells are text, as they are shown everywhere."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.cells) != len(self.columns) - 1:
                raise ValueError(f"{line.label}: {len(line.cells)} cells for {len(self.columns) - 1} columns")

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes, and what the mark means where it stands."""
        quoted = any(line.kind == "quoted" for line in self.lines)
        return self.notes + ((f"{QUOTED} quoted from the paper, not measured here.",) if quoted else ())


def markdown(table: Table) -> str:
    """The best of a column bold, differences in italics."""
    rule = " | ".join(["---", *["---:"] * (len(table.columns) - 1)])
    lines = [f"**{_pipes(table.title)}**", "", f"| {' | '.join(map(_pipes, table.columns))} |", f"| {rule} |"]
    for line in table.lines:
        cells = [f"**{c}**" if n in line.best else c for n, c in enumerate(line.cells)]
        if line.kind == "difference":
            cells = [f"*{c}*" if c else c for c in cells]
        lines.append(f"| {' | '.join(map(_pipes, (line.name, *cells)))} |")
    return "\n".join([*lines, "", *[f"{note}  " for note in table.remarks]]).rstrip() + "\n"


def _pipes(text: str) -> str:
    return text.replace("|", "\\|")


def latex(table: Table) -> str:
    """A ``table`` environment, made smaller where the page is narrower; needs the packages booktabs and graphicx."""
    columns = "".join(_column(table, n) for n in range(len(table.columns) - 1))
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape(table.title)}}}", FITTED]
    lines += [rf"\begin{{tabular}}{{l{columns}}}", r"\toprule"]
    lines += [" & ".join(map(escape, table.columns)) + r" \\", r"\midrule"]
    for line in table.lines:
        cells = [_latex_cell(c, n in line.best, line.kind == "difference") for n, c in enumerate(line.cells)]
        indent = r"\quad " if line.label.startswith(INDENT) else ""
        lines.append(" & ".join((indent + escape(line.name.strip()), *cells)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [r"\\[2pt] {\footnotesize " + escape(note) + "}" for note in table.remarks]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _column(table: Table, number: int) -> str:
    """Numbers to the right, sentences in a column that wraps."""
    sentence = any(len(line.cells[number]) > WORDS for line in table.lines)
    return r"p{0.4\linewidth}" if sentence else "r"


def _latex_cell(text: str, best: bool, difference: bool) -> str:
    style = r"\textbf" if best else r"\textit" if difference else ""
    return f"{style}{{{escape(text)}}}" if style and text else escape(text)


def escape(text: str) -> str:
    """Text as LaTeX takes it; the sign of a number is a minus, not a hyphen."""
    signed = re.sub(r"(?<!\w)-(?=\d)", "−", text)
    return "".join(LATEX.get(character, character) for character in signed)


def as_html(table: Table) -> str:
    """A ``figure`` that scrolls by itself where the page is narrow; colours are the page's matter."""
    columns = [re.sub(r" (?=[↑↓])", "\u00a0", column) for column in table.columns]  # an arrow is no line of its own
    head = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in columns)
    rows = []
    for line in table.lines:
        marks = [_mark(n in line.best, cell) for n, cell in enumerate(line.cells)]
        cells = "".join(f"<td{m}>{html.escape(c)}</td>" for m, c in zip(marks, line.cells, strict=True))
        kind = f' class="{line.kind}"' if line.kind else ""
        rows.append(f'<tr{kind}><th scope="row">{html.escape(line.name)}</th>{cells}</tr>')
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.remarks)
    return (
        f'<figure class="table"><figcaption>{html.escape(table.title)}</figcaption>\n<div class="wide" tabindex="0">'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + f"\n</tbody></table></div>\n{notes}</figure>\n"
    )


def _mark(is_best: bool, cell: str) -> str:
    """Sentences wrap, numbers do not."""
    return ' class="best"' if is_best else ' class="words"' if len(cell) > WORDS else ""


def as_csv(table: Table) -> str:
    """Values as shown, the kind of each row in a column of its own."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.columns, "kind"])
    writer.writerows([line.label, *line.cells, line.kind or "measured"] for line in table.lines)
    return text.getvalue()


def write(tables: Sequence[Table], folder: Path, name: str) -> list[Path]:
    """``NAME.md``, ``.tex``, ``.html`` hold all tables; CSV files hold one each. Raises RunError as ``runs`` does."""
    forms = {"markdown": markdown, "latex": latex, "html": as_html}
    texts = {f"{name}{ENDINGS[form]}": "\n".join(map(make, tables)) for form, make in forms.items()}
    for n, table in enumerate(tables):
        texts[f"{name}{f'_{n + 1}' if len(tables) > 1 else ''}.csv"] = as_csv(table)
    for file, text in texts.items():
        write_atomic(folder / file, text.encode())
    return [folder / file for file in texts]
