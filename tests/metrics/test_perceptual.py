import importlib.util
import shutil
import sys
import types

import pytest
import torch

from motion_fakes import moving, noisy
from vsrbench.benchmarks.dummy_weights import fill
from vsrbench.errors import ConfigError
from vsrbench.metrics.catalog import METRICS
from vsrbench.metrics.perceptual import (
    RECIPES,
    Lpips,
    at_once,
    create,
    find,
    is_published,
    staged,
    weights_folder,
    why_unavailable,
)  # fmt: skip

FRAME = [name for name in RECIPES if METRICS[name].kind == "frame"]


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.delenv("VSRBENCH_METRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("VSRBENCH_WEIGHTS", str(tmp_path / "nothing-fetched"))
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
    made = create(FRAME)
    assert made.keys() == set(FRAME)
    assert all("pip install 'vsrbench[metrics]'" in str(reason) for reason in made.values())


def test_clipiqa_names_the_package_that_newer_setuptools_lack(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pkg_resources" else object())
    assert "pip install 'setuptools<81'" in str(why_unavailable("clipiqa"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_missing_file_is_named_with_its_folder(name, monkeypatch, empty_hub):
    monkeypatch.setattr(importlib.util, "find_spec", with_pyiqa)
    for file in RECIPES[name].files:
        reason = why_unavailable(name, verify=False)
        assert reason is not None and str(empty_hub / file) in reason and "\n" not in reason
        (empty_hub / file).parent.mkdir(exist_ok=True)
        (empty_hub / file).touch()
    assert why_unavailable(name, verify=False) is None


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("niqe")])
def test_a_file_of_other_content_is_not_taken_for_the_published_one(name, monkeypatch, empty_hub):
    monkeypatch.setattr(importlib.util, "find_spec", with_pyiqa)
    for file in RECIPES[name].files:
        (empty_hub / file).parent.mkdir(exist_ok=True)
        (empty_hub / file).touch()
    assert "is not the published file" in str(why_unavailable(name))


def test_published_files_are_known_by_their_content(shared, tmp_path):
    weights = shared / "material" / "weights"
    for own, published in {
        "lpips_alex_v0.1.pth": "LPIPS_v0.1_alex-df73285e.pth",
        "lpips_vgg_v0.1.pth": "LPIPS_v0.1_vgg-a78928a0.pth",
        "dists_alpha_beta.pt": "DISTS_weights-f5e65c96.pth",
    }.items():
        shutil.copy(weights / own, tmp_path / published)
        assert is_published(tmp_path / published, f"pyiqa/{published}")
        (tmp_path / published).write_bytes(b"something else")
        assert not is_published(tmp_path / published, f"pyiqa/{published}")


def test_the_folder_is_the_variables_else_torchs(empty_hub, monkeypatch, tmp_path):
    assert weights_folder() == empty_hub
    monkeypatch.setenv("VSRBENCH_METRIC_WEIGHTS", str(tmp_path / "mine"))
    assert weights_folder() == tmp_path / "mine"


def test_files_may_lie_flat_in_the_folder(tmp_path):
    (tmp_path / "vgg16-397923af.pth").touch()
    (tmp_path / "niqe_pris_params.npz").touch()
    assert find("checkpoints/vgg16-397923af.pth", tmp_path) == tmp_path / "vgg16-397923af.pth"
    assert find("pyiqa/niqe_modelparameters.mat", tmp_path) == tmp_path / "niqe_pris_params.npz"


def test_the_hub_folder_is_put_back(tmp_path):
    pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
    before = torch.hub.get_dir()
    with pytest.raises(ConfigError, match=r"RN50\.pt is missing"), staged(["clip/RN50.pt"], tmp_path):
        pass
    assert torch.hub.get_dir() == before


def test_a_fetched_file_serves_and_the_command_that_fetches_is_named(empty_hub, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", with_pyiqa)
    monkeypatch.setenv("VSRBENCH_WEIGHTS", str(tmp_path / "fetched"))
    assert "`vsrbench weights fetch stlpips_alex`" in str(why_unavailable("stlpips_alex"))
    file = tmp_path / "fetched" / "stlpips" / "alex_shift_tolerant.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    assert find("stlpips/alex_shift_tolerant.pth", empty_hub) == file
    assert "is not the published file" in str(why_unavailable("stlpips_alex"))
    assert why_unavailable("stlpips_alex", verify=False) is None


def test_shift_tolerant_lpips_is_no_lpips():
    """Where the published files were fetched: its values for a blurred frame, which LPIPS does not share."""
    pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
    made = create(["stlpips_alex", "stlpips_vgg"])
    if any(isinstance(metric, str) for metric in made.values()):
        pytest.skip("not here: vsrbench weights fetch stlpips")
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    frame = (0.5 + 0.4 * torch.sin(0.7 * x) * torch.cos(0.5 * y)).expand(3, 96, 96)
    blurred = torch.nn.functional.avg_pool2d(frame[None], 9, 1, 4)[0]
    for metric in made.values():
        assert not isinstance(metric, str) and not isinstance(metric, Lpips)
        assert metric(frame, frame) == pytest.approx(0, abs=1e-6) and metric(blurred, frame) > 0.1


def test_nothing_is_asked_nothing_is_made():
    assert create([]) == {}


def test_large_frames_pass_a_network_one_by_one():
    assert [at_once(torch.zeros(1, 1, *size, device="meta")) for size in ((720, 1280), (4000, 4000), (64, 96))] == [
        4,
        1,
        651,
    ]


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Real code on seeded random backbones: the wiring, not the values of these metrics."""
    pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
    folder = tmp_path_factory.mktemp("weights")
    names = ["lpips_alex", "lpips_vgg", "dists"]
    assert fill(folder, names) == names
    return create(names, folder=folder, verify=False)


@pytest.mark.parametrize("name", ["lpips_alex", "lpips_vgg", "dists"])
class TestReferenceNets:
    def test_a_frame_equals_itself_and_noise_costs(self, nets, name):
        frames = moving(height=64, width=64)
        assert nets[name].batch(frames, frames).abs().max() < 1e-6
        light, heavy = (nets[name].batch(noisy(frames, s), frames) for s in (0.05, 0.3))
        assert (light > 0).all() and (light < heavy).all()

    def test_a_batch_has_the_values_of_its_frames_by_pyiqa_itself(self, nets, name):
        frames, other = moving(height=64, width=64), noisy(moving(height=64, width=64))
        alone = [nets[name].net(a[None], b[None]).item() for a, b in zip(other, frames, strict=True)]
        assert nets[name].batch(other, frames).tolist() == pytest.approx(alone, rel=1e-4, abs=1e-7)
        assert nets[name](other[0], frames[0]) == pytest.approx(alone[0], rel=1e-4)


def test_kept_features_give_the_same_distance(nets):
    net = nets["lpips_alex"]
    assert isinstance(net, Lpips)
    frames = noisy(moving(height=64, width=64))
    kept = net.features(frames)
    pairs = net.distance([x[:-1] for x in kept], [x[1:] for x in kept])
    assert torch.allclose(pairs, net.batch(frames[:-1], frames[1:]), rtol=1e-5)


class TestNIQE:
    @pytest.fixture(scope="class")
    def niqe(self, shared):
        pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
        return create(["niqe", "niqe_basicsr"], folder=shared / "material" / "weights")

    def test_the_file_of_basicsr_makes_both_and_blur_costs(self, niqe, shared):
        from vsrbench.data.readers import read_image

        path = shared / "material" / "vid4" / "GT" / "walk" / "00000000.png"
        frame = torch.tensor(read_image(path)).permute(2, 0, 1)[None, :, :288, :384] / 255
        blurred = torch.nn.functional.avg_pool2d(frame, 5, 1, 2)
        for name, net in niqe.items():
            sharp, soft = net.batch(torch.cat([frame, blurred])).tolist()
            assert sharp < 5 < soft, name
            assert net(frame[0], None) == pytest.approx(sharp, rel=1e-6)
        assert niqe["niqe"].batch(frame) != niqe["niqe_basicsr"].batch(frame)


@pytest.mark.slow
def test_musiq_runs_from_its_file_alone(tmp_path):
    pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
    from pyiqa.archs.musiq_arch import MUSIQ

    torch.manual_seed(0)
    torch.save(MUSIQ(pretrained=False).state_dict(), tmp_path / "musiq_koniq_ckpt-e95806b9.pth")
    net = create(["musiq"], folder=tmp_path, verify=False)["musiq"]
    frames = moving(height=96, width=128)
    assert net.batch(frames).tolist() == pytest.approx([net(frame, None) for frame in frames], rel=1e-4)


class Holder(torch.nn.Module):
    """Tensors under their names: the published file is a scripted module, of which pyiqa takes the tensors."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name in {key.partition(".")[0] for key in state}:
            below = {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{name}.")}
            if below:
                self.add_module(name, Holder(below))
            else:
                self.register_buffer(name, state[name])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.slow
def test_clipiqa_runs_from_its_file_alone(tmp_path, monkeypatch):
    """A narrow CLIP with random weights; the module that setuptools dropped stands beside it."""
    pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
    if importlib.util.find_spec("pkg_resources") is None:
        import packaging.version

        module = types.ModuleType("pkg_resources")
        module.__spec__, module.packaging = importlib.util.spec_from_loader("pkg_resources", None), packaging
        monkeypatch.setitem(sys.modules, "pkg_resources", module)
    from pyiqa.archs.clip_model import CLIP

    torch.manual_seed(0)
    state = CLIP(64, 64, (1, 1, 1, 1), 16, None, 77, 49408, 64, 2, 1).state_dict()
    torch.jit.script(Holder({key: value.half() for key, value in state.items()})).save(tmp_path / "RN50.pt")
    net = create(["clipiqa"], folder=tmp_path, verify=False)["clipiqa"]
    values = net.batch(moving(height=64, width=64))
    assert values.shape == (3,) and ((values > 0) & (values < 1)).all()
