"""VMAF: the wiring with a fake of its package; the package itself where it is installed."""

import importlib.util
import sys
import types

import pytest
import torch
from torch import Tensor

from vsrbench.metrics.scorer import Scorer
from vsrbench.metrics.vmaf import Vmaf, why_no_vmaf
from vsrbench.types import Clip


class Fake(torch.nn.Module):
    """The package's interface; its score tells apart what it is given."""

    def __init__(self, clip_score: bool) -> None:
        super().__init__()
        assert clip_score

    def compute_motion2(self, truth: Tensor) -> Tensor:
        assert truth.shape[1] == 1 and torch.equal(truth, truth.round()) and truth.min() >= 16 and truth.max() <= 235
        return torch.arange(len(truth), dtype=truth.dtype).view(-1, 1)

    def compute_adm_score(self, truth: Tensor, out: Tensor) -> Tensor:
        return truth.mean((1, 2, 3)).view(-1, 1)

    def compute_vif_features(self, truth: Tensor, out: Tensor) -> Tensor:
        return out.mean((1, 2, 3)).view(-1, 1)

    def predict(self, adm: Tensor, motion: Tensor, vif: Tensor) -> Tensor:
        return 1000 * adm + vif + motion


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("vmaf_torch")
    module.VMAF = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vmaf_torch", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert why_no_vmaf() == "the package vmaf_torch is not installed: pip install 'vsrbench[vmaf]'"


def test_a_clip_has_one_value_of_all_its_frames(package: None) -> None:
    black, white = torch.zeros(10, 3, 16, 16), torch.ones(10, 3, 16, 16)
    lr = black[None, :, :, :4, :4]
    scorer = Scorer(["vmaf"]).clip()
    for frames in (range(0, 6), range(5, 10)):  # the second piece repeats a frame
        data = Clip(lr[:, frames], white[None, frames], ["a"], torch.tensor([list(frames)]), 4)
        scorer.add(black[frames].byte(), data, overlap=int(frames[0] > 0))
    assert scorer.finish()["vmaf"] == [pytest.approx(1000 * 235 + 16 + 4.5)]


def test_without_ground_truth_it_does_not_apply(package: None) -> None:
    scorer = Scorer(["vmaf"]).clip()
    scorer.add(
        torch.zeros(2, 3, 16, 16).byte(), Clip(torch.zeros(1, 2, 3, 4, 4), None, ["a"], torch.arange(2)[None], 4)
    )
    assert scorer.finish()["vmaf"] == [None]


def test_the_package_itself() -> None:
    pytest.importorskip("vmaf_torch", reason="pip install vmaf-torch")
    generator = torch.Generator().manual_seed(0)
    truth = torch.nn.functional.avg_pool2d(torch.rand(3, 3, 140, 180, generator=generator), 5, 1)
    truth = (255 * (truth - truth.min()) / (truth.max() - truth.min())).byte()
    blurred = torch.nn.functional.avg_pool2d(truth.float(), 7, 1, 3).byte()
    metric = Vmaf()
    assert metric(truth, truth) > 90 > 60 > metric(blurred, truth) >= 0
