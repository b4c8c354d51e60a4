"""Folders of weights for tests: the tiny networks in the layouts that released code uses."""

import shutil
from pathlib import Path

import pytest
import torch

import latent
from vsrbench.diffusion.prior import save_prior
from vsrbench.weights.folders import save_network


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder with a trained part beside the prior, full precision."""
    folder = tmp_path_factory.mktemp("weights") / "pipeline"
    method = latent.method("stablevsr")
    save_prior(method.prior, folder, torch.float32)
    save_network(method.tcm.net, folder / "controlnet", torch.float16)
    return folder


@pytest.fixture
def pipeline(stock: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(stock, tmp_path / "pipeline"))
