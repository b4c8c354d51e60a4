"""What training makes once."""

from pathlib import Path

import pytest
import torch

from vsrbench.errors import WeightsError
from vsrbench.training.cache import Cache


def test_made_once_and_the_same_whether_made_or_read(tmp_path: Path) -> None:
    made = []

    def make() -> torch.Tensor:
        made.append(1)
        return torch.linspace(0, 1, 7) / 3

    first, second = Cache(tmp_path)("a/b", make), Cache(tmp_path)("a/b", make)
    assert len(made) == 1 and first.dtype == second.dtype == torch.float32
    assert torch.equal(first, second) and torch.allclose(first, torch.linspace(0, 1, 7) / 3, atol=1e-3)
    Cache(tmp_path)("a/c", make)
    assert len(made) == 2
    assert sorted(f.name for f in (tmp_path / "a").iterdir()) == ["b.safetensors", "c.safetensors"], "nothing half done"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    Cache(tmp_path)("x", lambda: torch.ones(3))
    (tmp_path / "x.safetensors").write_bytes(b"no tensor")
    with pytest.raises(WeightsError, match=r"x\.safetensors cannot be read"):
        Cache(tmp_path)("x", lambda: torch.ones(3))
