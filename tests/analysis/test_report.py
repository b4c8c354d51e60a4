from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vsrbench.analysis.report import SCHEMA, Result, Table, assemble, cell, load, markdown, show
from vsrbench.errors import RunError

COUNTS = {"clips": 1, "frames": 3, "pairs": 2, "steps": 4, "channels": 4, "groups": 32}
SETTINGS: dict[str, Any] = {
    "task": "warping", "method": {"name": "dgaf"}, "size": "mini", "variant": "paper", "scale": 4,
    "sampler": {"steps": 4}, "data": {"set": "vid4"}, "analysis": {"split": "test"},
}  # fmt: skip


def made() -> dict[str, Any]:
    table = Table(
        "Strength", ["measure", "x4", "loss (%)"], [["Sobel", 0.012345, 12.6789], ["Canny", 0.0, "undefined"]]
    )
    found = Result({"a": 1.0}, [table], {"reference": "Figure 2", "setting": "REDS4", "says": "more"}, COUNTS)
    return assemble(SETTINGS, found, {"walk": 3}, {"seed": 7, "device": "cpu"})


def test_content() -> None:
    result = made()
    assert result["schema"] == SCHEMA and result["task"] == "warping" and result["data"]["clips"] == {"walk": 3}
    assert result["settings"] == {"split": "test"} and result["counts"] == COUNTS and result["values"] == {"a": 1.0}


def test_markdown() -> None:
    lines = markdown(made()).splitlines()
    assert "| measure | x4 | loss (%) |" in lines and "| --- | ---: | ---: |" in lines
    assert "| Sobel | 0.01235 | 12.68 |" in lines and "| Canny | 0 | undefined |" in lines
    assert any("adjacent pairs 2" in line and "feature groups 32" in line and "Seed 7" in line for line in lines)
    assert "Paper says: more." in lines


def test_printed_table(capsys: pytest.CaptureFixture[str]) -> None:
    show(made(), Console(width=100))
    printed = capsys.readouterr().out
    assert "12.68" in printed and "undefined" in printed and "Paper: Figure 2; REDS4." in printed


def test_cells() -> None:
    assert [cell(1.23456, "x"), cell(1.23456, "gain (%)"), cell(3, "n"), cell("why", "x")] == [
        "1.235",
        "1.23",
        "3",
        "why",
    ]


def test_files_that_are_no_result(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text("{")
    with pytest.raises(RunError, match=r"is damaged .*analyse again"):
        load(file)
    file.write_text('{"schema": "other/1"}')
    with pytest.raises(RunError, match="has schema 'other/1'"):
        load(file)
