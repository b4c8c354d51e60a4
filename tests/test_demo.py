import subprocess
import sys
from pathlib import Path

import pytest

from vsrbench import demo
from vsrbench.config import compose


def test_a_setting_that_the_demo_cannot_pass_on_ends_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vsrbench.demo", "method=bicubic", f"runs={tmp_path}"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr.startswith("error: the demo has no setting method=bicubic") and told.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_command_of_the_demo_composes() -> None:
    assert compose(demo.TUNE, "train").verb == "train"
    for method, _ in demo.EVALUATED.values():
        assert compose([f"method={method}"], "eval").method.name == method


@pytest.mark.slow
def test_the_whole_demo_at_size_tiny_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TUNE", [*demo.TUNE, "trainer.max_steps=3", "train.crop=16"])
    cfg = compose(["size=tiny", "inference.device=cpu", f"runs={tmp_path}"], "demo")
    page = demo.run(cfg)
    text = page.read_text()
    for label in (*demo.EVALUATED, "ground truth"):
        assert label in text
    made = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name in ("result.json", "video_dgaf.mp4")
    }
    assert len(made) == 1 + len(demo.EVALUATED) + 1
    assert demo.run(cfg) == page and page.read_text() == text
    assert {path: path.stat().st_mtime_ns for path in made} == made
