"""Weights in the layout of the released DGAF-VSR code: found, read strictly, reported."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import latent
from vsrbench.config import build_method, compose
from vsrbench.errors import WeightsError
from vsrbench.methods.dgaf import DGAF
from vsrbench.methods.dgaf.released import to_ours, to_released
from vsrbench.weights.trained import load_trained


@pytest.fixture
def method() -> DGAF:
    return latent.method("dgaf", "variant=released")


def released_state(method: DGAF, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {to_released(k): torch.randn(v.shape, generator=generator) for k, v in method.guide.state_dict().items()}


def write(folder: Path, state: dict[str, torch.Tensor], name: str = "DGAFNetModel", attention: bool = False) -> Path:
    folder.mkdir(parents=True)
    blocks = ["CrossAttnDownBlock2D" if attention else "DownBlock2D"]
    (folder / "config.json").write_text(json.dumps({"_class_name": name, "down_block_types": blocks}))
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    return folder


def test_names_go_both_ways(method: DGAF) -> None:
    own = method.guide.state_dict()
    assert to_ours({to_released(key): value for key, value in own.items()}).keys() == own.keys()
    names = {to_released(key) for key in own}
    assert {"conv_in_condition.weight", "dgafnet_down_blocks.0.bias", "dgafnet_mid_block.weight"} <= names
    assert {"mid_block.resnets.1.conv1.weight", "time_embedding.linear_1.weight"} <= names


def test_a_pipeline_folder_a_part_folder_and_old_names(
    method: DGAF, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = released_state(method)
    part = write(tmp_path / "pipeline" / "dgafnet", state)
    (tmp_path / "pipeline" / "unet").mkdir()
    (tmp_path / "pipeline" / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    old = {f"module.{k}".replace("dgafnet_", "brushnet_"): v.clone() for k, v in state.items()}
    brush = write(tmp_path / "old", old, "BrushNetModel")
    for source in (tmp_path / "pipeline", part, brush):
        other = latent.method("dgaf", "variant=released")
        load_trained(other, str(source))
        loaded = other.guide.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in to_ours(state).items())
        assert f"all {len(state)} tensors fit" in capsys.readouterr().out


def test_pickles(method: DGAF, tmp_path: Path) -> None:
    state = released_state(method)
    folder = write(tmp_path / "dgafnet", state)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, folder / "diffusion_pytorch_model.bin")
    load_trained(method, str(folder))
    assert torch.equal(method.guide.zero_middle.weight, state["dgafnet_mid_block.weight"])


def test_what_does_not_fit_is_reported(method: DGAF, tmp_path: Path) -> None:
    state = released_state(method)
    with pytest.raises(WeightsError, match=r"with attention: set method\.guide_attention=true"):
        load_trained(method, str(write(tmp_path / "a", state, attention=True)))
    del state["dgafnet_mid_block.bias"]
    with pytest.raises(WeightsError, match=r"1 missing \['zero_middle.bias'\]"):
        load_trained(method, str(write(tmp_path / "b", state)))
    (tmp_path / "b" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"holds none of diffusion_pytorch_model\.safetensors"):
        load_trained(method, str(tmp_path / "b"))
    two = tmp_path / "two"
    for name in ("x", "y"):
        write(two / name, released_state(method))
    with pytest.raises(WeightsError, match=r"holds several trained parts \(x, y\)"):
        load_trained(method, str(two))
    with pytest.raises(WeightsError, match="has no released weight layout"):
        load_trained(latent.method("ldm"), str(two / "x"))
    with pytest.raises(WeightsError, match="no weights at"):
        load_trained(method, str(tmp_path / "absent"))


def test_a_size_without_weights_says_so_before_it_is_used() -> None:
    cfg = compose(["method=dgaf", "size=mini", "variant=released"], verb="eval")
    with pytest.raises(WeightsError, match=r"size=mini variant=released has no weights: give ckpt_path"):
        build_method(cfg)
    build_method(compose(["method=dgaf", "size=mini", "variant=released", "untrained=true"], verb="eval"))


def test_the_trained_part_of_another_method_is_refused(method: DGAF, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is of class ControlNetModel; method=dgaf takes DGAFNetModel or BrushNet"):
        load_trained(method, str(write(tmp_path / "a", released_state(method), "ControlNetModel")))
    with pytest.raises(WeightsError, match="is of class DGAFNetModel; method=stablevsr takes ControlNetModel"):
        load_trained(latent.method("stablevsr"), str(write(tmp_path / "b", released_state(method))))


def test_a_cached_hub_id_needs_no_network(method: DGAF, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    entry = tmp_path / "models--someone--dgaf"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("abc")
    (entry / "snapshots" / "abc" / "unet").mkdir(parents=True)
    with pytest.raises(WeightsError, match=r"ckpt_path=someone/dgaf is no folder here .* cached copy is incomplete"):
        load_trained(method, "someone/dgaf")
    state = released_state(method)
    write(entry / "snapshots" / "abc" / "dgafnet", state)
    load_trained(method, "someone/dgaf")
    assert torch.equal(method.guide.zero_middle.weight, state["dgafnet_mid_block.weight"])


def test_a_bare_state_dict_is_taken(tmp_path: Path) -> None:
    method = latent.method("dgaf")
    state = {key: value + 0.25 for key, value in method.trained_state().items()}
    torch.save(state, tmp_path / "bare.pth")
    load_trained(method, str(tmp_path / "bare.pth"))
    assert all(torch.equal(value, state[key]) for key, value in method.trained_state().items())
