import pytest
import torch
from torchvision.models.optical_flow import raft_large

from vsrbench.errors import ConfigError, WeightsError
from vsrbench.flow.estimators import DIS, RAFT, Farneback
from vsrbench.metrics.flows import estimator


def test_classical_flows_need_nothing():
    assert isinstance(estimator("dis"), DIS) and isinstance(estimator("farneback"), Farneback)


@pytest.mark.parametrize(("name", "variable"), [("raft", "VSRBENCH_RAFT"), ("spynet", "VSRBENCH_SPYNET")])
def test_without_weights_the_reason_names_the_variable_and_nothing_stands_in(name, variable, monkeypatch, tmp_path):
    monkeypatch.delenv(variable, raising=False)
    reason = estimator(name)
    assert isinstance(reason, str) and variable in reason and "\n" not in reason
    monkeypatch.setenv(variable, str(tmp_path / "gone.pth"))
    assert str(tmp_path / "gone.pth") in str(estimator(name))


def test_raft_by_path_or_variable_with_trained_or_batch_statistics(monkeypatch, tmp_path):
    file = tmp_path / "raft.pth"
    torch.save(raft_large(weights=None).state_dict(), file)
    net = estimator("raft", str(file))
    assert isinstance(net, RAFT) and not net.batch_statistics
    monkeypatch.setenv("VSRBENCH_RAFT", str(file))
    released = estimator("raft", released=True)
    assert isinstance(released, RAFT) and released.batch_statistics


def test_a_file_of_something_else_is_refused_at_once(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "raft.pth")
    with pytest.raises(WeightsError, match="raft_large"):
        estimator("raft", str(tmp_path / "raft.pth"))


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match=r"protocol\.flow=flownet2: use one of dis, farneback"):
        estimator("flownet2")
