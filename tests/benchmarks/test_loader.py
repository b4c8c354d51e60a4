import json

import pytest

from vsrbench.benchmarks import loader
from vsrbench.config import compose
from vsrbench.data.catalog import Settings
from vsrbench.data.degradations import Bicubic
from vsrbench.data.packing import pack
from vsrbench.errors import ConfigError, DataError

QUICK = ["task=loader", "data=reds", "train.crop=8", "train.frames=2", "train.batch=2", "bench.repeats=2"]
SPLIT = ["data.splits.train.partition=[000,001]", "data.workers=0"]


@pytest.fixture
def root(make_tree):
    return make_tree({"train_sharp/000": 4, "train_sharp/001": 4})


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    monkeypatch.setattr(loader, "SAMPLES", 4)


def config(*overrides: str):
    return compose([*QUICK, *SPLIT, *overrides], verb="bench")


def test_compares_image_files_with_a_temporary_pack(root, tmp_path, capsys) -> None:
    loader.run(config(f"data.root={root}", f"output={tmp_path / 'numbers.json'}"))
    printed = capsys.readouterr().out
    assert "image files" in printed and "samples/s, cold" in printed
    report = json.loads((tmp_path / "numbers.json").read_text())
    files, packed, ratio = report["rows"]
    assert [files["part"], packed["part"]] == ["image files", "packed"]
    pixels = 8 * 3 * (48 * 64 + 12 * 16)
    assert packed["disk"] == pixels / 1e6
    assert files["disk"] == sum(p.stat().st_size for p in root.rglob("*.png")) / 1e6
    for key in ("cold", "cached", "cpu", "disk"):
        assert ratio[key] == pytest.approx(packed[key] / files[key])
    facts = report["facts"]
    assert (facts["clips"], facts["frames"], facts["HR frame"], facts["HR crop"]) == (2, 8, "64x48", "32x32")
    assert facts["LR of the image files"] == "made by bicubic"
    assert (facts["samples of a pass"], facts["workers"]) == (4, 0)


def test_takes_a_pack_that_is_there(root, tmp_path) -> None:
    settings = Settings.of({"set": "reds", "root": str(root), "scale": 4}, Bicubic())
    pack(settings, {"train": {"partition": ["000", "001"]}}, tmp_path / "pack")
    calls: list[int] = []

    class Bar:
        def start(self, total: int, what: str) -> None:
            calls.append(total)

        def advance(self, count: int = 1) -> None:
            calls.append(-count)

    report = loader.measure(config(f"data.root={root}", f"data.packed={tmp_path / 'pack'}"), Bar())
    assert calls[0] == 8 and sum(calls) == 0
    assert all(row["cold"] > 0 and row["cached"] > 0 for row in report.rows)
    assert all(row["read_cached"] == 0 for row in report.rows[:2])


def test_a_pack_of_other_pixels_has_no_speed(root, tmp_path) -> None:
    settings = Settings.of({"set": "reds", "root": str(root), "scale": 4}, Bicubic())
    pack(settings, {"train": {"partition": ["000", "001"]}}, tmp_path / "pack")
    shard = tmp_path / "pack/shard-00000.bin"
    shard.write_bytes(bytes(255 - v for v in shard.read_bytes()))
    with pytest.raises(DataError, match=r"the pack gives another sample"):
        loader.measure(config(f"data.root={root}", f"data.packed={tmp_path / 'pack'}"))


def test_what_cannot_be_measured(root, monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"set data.root=DIR as well"):
        loader.measure(config())
    with pytest.raises(ConfigError, match=r"data=sample has no image files to pack"):
        loader.measure(compose(["task=loader", "data=sample"], verb="bench"))
    with pytest.raises(ConfigError, match=r"bench\.repeats=0: give a whole number from 1"):
        loader.measure(config(f"data.root={root}", "bench.repeats=0"))
    monkeypatch.setattr(loader, "LARGEST", 1000)
    with pytest.raises(ConfigError, match=r"0.0 GB packed: run `python -m vsrbench.data pack data=reds data.root="):
        loader.measure(config(f"data.root={root}"))
