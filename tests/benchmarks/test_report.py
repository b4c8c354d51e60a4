import json
from pathlib import Path

import pytest

from vsrbench.benchmarks import report
from vsrbench.benchmarks.report import Column, Report, numbers, show


def test_cells() -> None:
    assert Column("a", "A", "{:.2f}").cell(1.239) == "1.24"
    assert Column("a", "A", "{:.2f}").cell(None) == ""
    assert Column("a", "A", "{:.2f}").cell("yes") == "yes"


def test_printed_and_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"part": "one", "s": 0.123456}, {"part": "sum", "s": None}]
    made = Report("speed", "a title", numbers({"s": ("seconds", "{:.2f}")}), rows, ["a note"], {"device": "abacus"})
    show(made, str(tmp_path / "new" / "speed.json"))
    text = capsys.readouterr().out
    assert "a title" in text and "0.12" in text and "- a note" in text and "device: abacus" in text
    kept = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert kept["rows"] == rows and kept["columns"] == {"s": "seconds"} and kept["facts"]["device"] == "abacus"


def test_the_command_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bench.py", "task=flops", "name=a b"])
    assert report.command() == "vsrbench bench task=flops 'name=a b'"
    monkeypatch.setattr("sys.argv", ["/somewhere/pytest", "-q"])
    assert "called from Python" in report.command()
