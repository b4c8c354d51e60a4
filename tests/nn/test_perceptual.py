"""Feature losses: the real one from files (made up here), the stand-in, and which of them is taken."""

from pathlib import Path

import vsrbench  # noqa: F401  # isort: skip  (before torchvision: see vsrbench.compat)
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import latent
from vsrbench.errors import WeightsError
from vsrbench.nn import perceptual
from vsrbench.nn.perceptual import LINEAR, LPIPS, VGG16, RandomFeatures, feature_loss

WIDTHS = (64, 128, 256, 512, 512)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files in the form of the real ones and random numbers in them."""
    from torchvision.models.vgg import cfgs, make_layers

    folder = tmp_path_factory.mktemp("hub")
    for name in ("checkpoints", "pyiqa"):
        (folder / name).mkdir()
    torch.manual_seed(0)
    layers = make_layers(cfgs["D"]).state_dict()
    torch.save({f"features.{k}": v for k, v in layers.items()} | {"classifier.0.bias": torch.zeros(1)}, folder / VGG16)
    linear = {f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in enumerate(WIDTHS)}
    torch.save(linear, folder / LINEAR)
    return folder


@pytest.fixture
def here(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    return hub


def pictures() -> tuple[Tensor, Tensor]:
    clip = latent.make_clip(frames=2, size=(8, 8))
    assert clip.hr is not None
    return clip.hr[0, :1], clip.hr[0, 1:]


def plain_lpips(loss: LPIPS, a: Tensor, b: Tensor) -> float:
    """LPIPS v0.1 as its paper writes it, tap by tap."""
    shift, spread = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    total = 0.0
    for number, tap in enumerate(perceptual.TAPS):
        net = nn.Sequential(*loss.layers[: tap + 1])
        ours, theirs = (net((2 * x - 1 - shift.view(3, 1, 1)) / spread.view(3, 1, 1)) for x in (a, b))
        difference = (F.normalize(ours, dim=1) - F.normalize(theirs, dim=1)).square()
        total += float((difference * getattr(loss, f"linear{number}")).sum(1).mean())
    return total


def test_lpips_is_that_of_its_paper(here: Path) -> None:
    loss = feature_loss("lpips_vgg")
    a, b = pictures()
    assert isinstance(loss, LPIPS) and loss.name == "lpips_vgg"
    assert float(loss(a, b)) == pytest.approx(plain_lpips(loss, a, b), rel=1e-4)
    assert float(loss(a, a)) == 0
    assert not any(p.requires_grad for p in loss.parameters())


def test_absent_and_foreign_files_are_named(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "vgg.pth")
    with pytest.raises(WeightsError, match=r"vgg\.pth is no VGG16"):
        LPIPS(tmp_path / "vgg.pth", here / LINEAR)
    with pytest.raises(WeightsError, match=r"vgg\.pth lacks lin0\.model\.1\.weight"):
        LPIPS(here / VGG16, tmp_path / "vgg.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match=r"text\.pth cannot be read"):
        LPIPS(tmp_path / "text.pth", here / LINEAR)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"LPIPS has no weights: .*vgg16-397923af\.pth.*or module\.features=random"):
        feature_loss("lpips_vgg")
    assert feature_loss("random_features").name == "random_features", "by name alone"


def test_the_stand_in_is_the_same_everywhere_and_tells_blur_from_brightness() -> None:
    torch.manual_seed(1)
    loss = RandomFeatures()
    torch.manual_seed(2)
    again = RandomFeatures()
    a, _ = pictures()
    blurred = F.interpolate(F.avg_pool2d(a, 4), scale_factor=4)
    assert torch.equal(loss(a, blurred), again(a, blurred))
    assert float(loss(a, a)) == 0
    assert 0 < float(loss(a, 0.98 * a)) < 0.2 * float(loss(a, blurred)) < 1
    assert list(loss.parameters()) == [] and "lpips" not in loss.name


@pytest.mark.parametrize("flat", [False, True])
def test_gradients_are_finite_also_where_frames_are_flat(flat: bool) -> None:
    a, b = pictures()
    output = (torch.full_like(a, 0.5) if flat else a.clone()).requires_grad_(True)
    RandomFeatures()(output, torch.full_like(a, 0.5) if flat else b).backward()
    assert output.grad is not None and output.grad.isfinite().all()
