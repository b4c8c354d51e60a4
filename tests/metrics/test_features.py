import pytest
import torch

from motion_fakes import moving
from vsrbench.benchmarks.dummy_weights import fill
from vsrbench.errors import WeightsError
from vsrbench.metrics.features import VGGFeatures


def test_unit_features_at_half_the_size(tmp_path):
    fill(tmp_path, ["ewarp_thesis"])
    maps = VGGFeatures(tmp_path)(moving(height=32, width=48))
    assert maps.shape == (3, 128, 16, 24)
    length = maps.square().sum(1)
    assert torch.allclose(length, torch.ones_like(length), atol=1e-5)


def test_files_that_are_absent_or_of_another_network(tmp_path):
    with pytest.raises(WeightsError, match=r"vgg16-397923af\.pth is missing"):
        VGGFeatures(tmp_path)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg16-397923af.pth")
    with pytest.raises(WeightsError, match="no VGG16 of torchvision"):
        VGGFeatures(tmp_path)
