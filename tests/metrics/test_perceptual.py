import importlib.util

import pytest
import torch

from vsrbench.errors import ConfigError
from vsrbench.metrics.perceptual import RECIPES, create, why_unavailable


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


def without_pyiqa(name: str) -> None:
    return None


def with_pyiqa(name: str) -> object:
    return object()


def test_refuses_an_unknown_metric():
    with pytest.raises(ConfigError, match="unknown metric 'lpip'"):
        why_unavailable("lpip")


def test_without_the_package_every_metric_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", without_pyiqa)
    made = create(RECIPES)
    assert made.keys() == RECIPES.keys()
    assert all("pip install 'vsrbench[metrics]'" in str(reason) for reason in made.values())


@pytest.mark.parametrize("name", RECIPES)
def test_a_missing_file_is_named_with_its_folder(name, monkeypatch, empty_hub):
    monkeypatch.setattr(importlib.util, "find_spec", with_pyiqa)
    for file in RECIPES[name].files:
        reason = why_unavailable(name)
        assert reason is not None and str(empty_hub / file) in reason and "\n" not in reason
        (empty_hub / file).parent.mkdir(exist_ok=True)
        (empty_hub / file).touch()
    assert why_unavailable(name) is None


def test_nothing_is_asked_nothing_is_made():
    assert create([]) == {}


@pytest.mark.slow
def test_lpips_runs_from_local_files_alone(shared, tmp_path, monkeypatch):
    """With a seeded random AlexNet in place of the trained one: the wiring, not the values of LPIPS."""
    pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
    import shutil

    import pyiqa.utils.download_util
    from torchvision.models import alexnet

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(pyiqa.utils.download_util, "DEFAULT_CACHE_DIR", str(tmp_path / "pyiqa"))
    backbone, heads = (tmp_path / file for file in RECIPES["lpips_alex"].files)
    backbone.parent.mkdir()
    heads.parent.mkdir()
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), backbone)
    shutil.copy(shared / "material" / "weights" / "lpips_alex_v0.1.pth", heads)

    metric = create(["lpips_alex"])["lpips_alex"]
    frame = torch.rand(3, 64, 64)
    assert metric(frame, frame) == 0.0
    assert metric((frame + 0.1).clamp(0, 1), frame) > 0.0
