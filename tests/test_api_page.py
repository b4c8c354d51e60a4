"""The examples of docs/api.md run, one after the other, as a reader would type them."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"


def test_the_examples_run(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    names = {"folder": tmp_path, "__name__": "example"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
