import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vsrbench.reports.formats import Line, Table, as_csv, as_html, escape, latex, markdown, write

TABLE = Table(
    "a & b_c",
    ("method", "PSNR ↑", "what|ever"),
    (
        Line("EDVR", ("27.35", ""), "quoted"),
        Line("ours <mini>", ("24.75", "50 %"), best=frozenset({0})),
        Line("difference", ("-2.60", ""), "difference"),
    ),
    ("one remark",),
)


def test_quoted_rows_are_marked_everywhere_and_the_mark_explained() -> None:
    for form in (markdown, as_html):
        assert "EDVR †" in form(TABLE) and "not measured here" in form(TABLE)
    assert r"EDVR \textsuperscript{\dag}" in latex(TABLE)
    assert "not measured" not in markdown(Table("t", ("a",), (Line("x", ()),)))


def test_csv_reads_back() -> None:
    head, *rows = csv.reader(io.StringIO(as_csv(TABLE)))
    assert head == ["method", "PSNR ↑", "what|ever", "kind"]
    assert [row[-1] for row in rows] == ["quoted", "measured", "difference"] and rows[1][:3] == [
        "ours <mini>",
        "24.75",
        "50 %",
    ]


def test_markdown_has_one_cell_per_column_whatever_is_in_them() -> None:
    rows = [line for line in markdown(TABLE).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    assert "| **24.75** |" in rows[3] and "*-2.60*" in rows[4]


def test_latex_is_balanced_and_escaped() -> None:
    text = latex(TABLE)
    assert r"a \& b\_c" in text and r"50 \%" in text and r"\textbf{24.75}" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert [line.replace(r"\&", "").count("&") for line in body.splitlines() if line.endswith(r"\\")] == [2, 2, 2]
    assert r"& \textit{$-$2.60} &" in body, "escaped once"
    assert text.replace(r"\{", "").count("{") == text.replace(r"\}", "").count("}")


def test_sentences_wrap_in_latex() -> None:
    assert r"\begin{tabular}{lrr}" in latex(TABLE)
    sentence = Line("ours", ("1.00", "far too few clips for any claim at all"))
    assert r"\begin{tabular}{lrp{0.4\linewidth}}" in latex(Table("t", TABLE.columns, (sentence,)))


def test_latex_compiles(tmp_path: Path) -> None:
    packages = ["kpsewhich", "booktabs.sty", "graphicx.sty"]
    if shutil.which("pdflatex") is None or subprocess.run(packages, capture_output=True).returncode:
        pytest.skip("no pdflatex with booktabs and graphicx (Debian: texlive-latex-recommended)")
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}%s\end{document}"
    (tmp_path / "t.tex").write_text(document % latex(TABLE))
    told = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0 and "Overfull" not in told.stdout, told.stdout


@pytest.mark.parametrize("character", list("&%$#_{}"))
def test_special_characters_of_latex(character: str) -> None:
    assert escape(f"a{character}") == f"a\\{character}"


def test_html_is_well_formed_and_escaped() -> None:
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Reader().feed(as_html(TABLE))
    assert opened == [] and "ours &lt;mini&gt;" in as_html(TABLE)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="EDVR: 1 cells for 2 columns"):
        Table("t", ("a", "b", "c"), (Line("EDVR", ("1",)),))


def test_four_forms_are_written(tmp_path: Path) -> None:
    assert [f.name for f in write([TABLE, TABLE], tmp_path, "t")] == ["t.md", "t.tex", "t.html", "t_1.csv", "t_2.csv"]
    assert (tmp_path / "t.md").read_text().count("EDVR") == 2


def test_a_column_head_may_wrap_but_not_before_its_arrow() -> None:
    text = as_html(Table("t", ("method", "PSNR Y (dB) ↑"), (Line("a", ("1.00",)),)))
    assert "PSNR Y (dB)\u00a0↑</th>" in text
