"""``python -m vsrbench.data pack`` and ``verify`` as commands."""

from pathlib import Path

import pytest

from vsrbench.config import compose
from vsrbench.data.__main__ import run
from vsrbench.errors import ConfigError

SPLITS = ["data.splits.train.partition=000", "data.splits.val=null", "data.splits.test=null", "data.workers=0"]


def command(word: str, *overrides: str) -> None:
    run(compose([word, "data=reds", *SPLITS, *overrides], verb="data"))


def test_packs_and_verifies(make_tree, tmp_path, capsys) -> None:
    root, out = make_tree({"train_sharp/000": 2}), tmp_path / "pack"
    command("pack", f"data.root={root}", f"output={out}")
    told = capsys.readouterr().out.replace("\n", " ")
    assert "1 clips, 0 of them packed already; 0.00 GB to write" in told
    assert f"use them with data=reds data.packed={out}" in told
    command("verify", f"data.packed={out}")
    assert "1 clips, 0 damaged" in capsys.readouterr().out
    damage(out / "shard-00000.bin")
    with pytest.raises(SystemExit, match="1"):
        command("verify", f"data.packed={out}")
    told = capsys.readouterr().out
    assert "clip 000 in shard-00000.bin" in told
    assert "remove shard-00000.bin there and pack again" in told


def damage(file: Path) -> None:
    values = bytearray(file.read_bytes())
    values[100] ^= 255
    file.write_bytes(values)


def test_settings_that_do_not_go_together(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"pack reads data.root=DIR and writes output=PACK"):
        command("pack", f"data.root={tmp_path}")
    with pytest.raises(ConfigError, match=r"verify needs data.packed=PACK"):
        command("verify", f"data.root={tmp_path}")
    with pytest.raises(ConfigError, match=r"check looks at data.root"):
        command("check", f"data.packed={tmp_path}")
    with pytest.raises(ConfigError, match=r"data=sample has no stored frames to pack"):
        run(compose(["pack", "data=sample"], verb="data"))
    with pytest.raises(ConfigError, match=r"task=unpack: use check, pack, degrade, verify or null"):
        command("unpack")
