"""The command; what each task does is tested in tests/benchmarks."""

import json
from pathlib import Path

import pytest

from vsrbench import bench
from vsrbench.config import compose
from vsrbench.errors import ConfigError


def lines(text: str) -> dict[str, list[str]]:
    """Rows of the printed table by their first cell."""
    printed = [line for line in text.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed]
    return {row[0]: row[1:] for row in rows}


def test_parameters_of_dgaf_beside_the_papers_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Supp. Table 6; shapes are counted without weights, whatever the environment names."""
    monkeypatch.setenv("VSRBENCH_PRIOR", str(tmp_path / "absent"))
    bench.run(compose(["method=dgaf", "task=params"], verb="bench"))
    printed = capsys.readouterr().out
    table = lines(printed)
    counted = {name: row[2] for name, row in table.items()}
    assert counted == {
        "flow estimator (FM)": "5,257,536",
        "guiding U-Net": "472,373,504",  # the U-Net without its output head, with four more input channels
        "zero convolutions": "11,484,928",
        "denoising U-Net": "472,374,020",
        "VAE decoder": "32,965,399",
        "VAE encoder": "22,360,528",
        "sum": "1,016,815,915",
        "sum of the reported lines": "982,970,459",
    }
    assert [row[3] for row in table.values()] == ["5.3", "473", "", "473", "32", "", "", "983.3"]
    assert [name for name, row in table.items() if row[0] == "guide"] == ["guiding U-Net", "zero convolutions"]
    assert "- The printed sum leaves out the zero convolutions" in printed.replace("\n", " ")


def test_the_prior_alone(capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(compose(["method=ldm"], verb="bench"))
    assert lines(capsys.readouterr().out)["denoising_unet"][2] == "472,374,020"


def test_numbers_in_full_as_json(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    overrides = ["method=bicubic", "task=speed", "bench.height=16", "bench.width=24", "bench.repeats=2"]
    bench.run(compose([*overrides, f"output={file}"], verb="bench"))
    content = json.loads(file.read_text())
    whole, total = content["rows"]
    assert whole["fastest"] <= whole["unit"] <= whole["slowest"]
    assert total["frame"] == pytest.approx(whole["unit"] * whole["times"])
    assert set(content["facts"]) >= {"device", "threads", "precision", "torch", "command", "date"}


def test_nothing_to_count() -> None:
    with pytest.raises(ConfigError, match="method=bicubic has no parameters"):
        bench.run(compose(["method=bicubic"], verb="bench"))
    with pytest.raises(ConfigError, match="task=check: use params, flops, speed, memory, loader or metrics"):
        bench.run(compose(["task=check"], verb="bench"))
