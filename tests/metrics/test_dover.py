import importlib.util
import sys
import types

import pytest
import torch

from vsrbench.metrics.dover import Dover, fused, why_no_dover


def test_says_what_to_install_and_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install git+https://github.com/VQAssessment/DOVER" in str(why_no_dover(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert str(tmp_path / "dover/DOVER.pth") in str(why_no_dover(tmp_path))
    (tmp_path / "DOVER.pth").touch()
    assert why_no_dover(tmp_path) is None


def test_fusion_rises_with_both_scores():
    assert fused(0.1107, 0.08285) == pytest.approx(0.5)
    assert fused(0.2, 0.08285) > 0.5 > fused(0.1107, 0.0)


class Network(torch.nn.Module):
    """Stands for the package's: the mean of each view."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options

    def forward(self, views):
        self.views = {name: tuple(view.shape) for name, view in views.items()}
        return [views["technical"].mean((1, 2, 3, 4)), views["aesthetic"].mean((1, 2, 3, 4))]


class Sampler:
    def __init__(self, length: int, parts: int, interval: int, clips: int = 1) -> None:
        self.count = length * parts * (clips if length == 1 else 1)

    def __call__(self, frames: int, training: bool):
        return torch.arange(self.count) % frames


def view(frames: torch.Tensor, name: str, **options: int) -> torch.Tensor:
    assert frames.shape[0] == 3 and frames.max() > 1, "(3,T,H,W) of 0..255"
    return frames[..., :224, :224] + (torch.rand(1) if name == "technical" else 0)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Modules with the interface of the package; the network itself is not here."""
    models, datasets = types.ModuleType("dover.models"), types.ModuleType("dover.datasets")
    models.DOVER = Network
    datasets.UnifiedFrameSampler, datasets.get_single_view = Sampler, view
    for name, module in {
        "dover": types.ModuleType("dover"),
        "dover.models": models,
        "dover.datasets": datasets,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    torch.save({}, tmp_path / "DOVER.pth")
    return tmp_path


def test_views_are_cut_as_the_package_expects_and_a_clip_has_one_score(package):
    dover = Dover(folder=package)
    frames = torch.randint(0, 256, (12, 3, 224, 224), dtype=torch.uint8)
    before = torch.random.get_rng_state()
    assert dover(frames) == dover(frames)
    assert torch.random.get_rng_state().equal(before)
    assert dover.net.views == {"technical": (3, 3, 32, 224, 224), "aesthetic": (1, 3, 32, 224, 224)}
