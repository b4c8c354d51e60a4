"""Which flow network a method trains, and what it starts from."""

from pathlib import Path

import pytest
import torch

from vsrbench.errors import ConfigError, WeightsError
from vsrbench.flow.spynet import SpyNetwork
from vsrbench.flow.trained import PyramidFlow, trained_flow


def test_kinds() -> None:
    thin = trained_flow("pyramid", 2, (4,), None, "method")
    assert isinstance(thin, PyramidFlow) and len(thin.levels) == 2
    assert isinstance(trained_flow("spynet", 2, (4,), None, "method"), SpyNetwork)


def test_errors_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.front\.flow_net=raft: use spynet or pyramid"):
        trained_flow("raft", 2, (4,), None, "method.front")
    with pytest.raises(ConfigError, match=r"method\.flow_weights=x\.pth are SPyNet's: use method\.flow_net=spynet"):
        trained_flow("pyramid", 2, (4,), "x.pth", "method")
    other = tmp_path / "other.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}}, other)
    with pytest.raises(WeightsError, match=r"other\.pth"):
        trained_flow("spynet", 2, (4,), str(other), "method")
