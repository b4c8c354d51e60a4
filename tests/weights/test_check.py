"""``weights check`` of single files: flow networks, trained parts, checkpoints of a run, and what is none of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_large

import latent
from vsrbench.config import compose
from vsrbench.errors import WeightsError
from vsrbench.flow.spynet import SpyNetwork
from vsrbench.weights.commands.check import check_path


def config(*overrides: str) -> Any:
    return compose(list(overrides), verb="weights")


def test_raft(tmp_path: Path) -> None:
    state = raft_large(weights=None).state_dict()
    torch.save(state, tmp_path / "raft.pth")
    (fit,) = check_path(str(tmp_path / "raft.pth"), config())
    assert fit.fits and fit.kind == "raft_large" and fit.notes == ["for flow=raft flow.weights=FILE"]
    del state["context_encoder.convnormrelu.0.bias"]
    torch.save(state, tmp_path / "raft.pth")
    (fit,) = check_path(str(tmp_path / "raft.pth"), config())
    assert fit.missing == ["context_encoder.convnormrelu.0.bias"]


def test_raft_of_the_original_code(tmp_path: Path) -> None:
    torch.save({"module.fnet.conv1.weight": torch.zeros(2)}, tmp_path / "raft-things.pth")
    (fit,) = check_path(str(tmp_path / "raft-things.pth"), config())
    assert not fit.fits and "give torchvision's file" in fit.errors[0]


@pytest.mark.parametrize("wrapper", [None, "params", "state_dict"])
def test_spynet(tmp_path: Path, wrapper: str | None) -> None:
    state: dict[str, Any] = SpyNetwork().state_dict()
    file = tmp_path / "spynet.pth"
    torch.save(state if wrapper is None else {wrapper: state}, file)
    (fit,) = check_path(str(file), config())
    assert fit.fits and fit.matched == len(state) and fit.parameters == 1_440_300
    del state["basic_module.0.basic_module.0.bias"]
    torch.save(state, file)
    (fit,) = check_path(str(file), config())
    assert fit.missing == ["basic_module.0.basic_module.0.bias"]


def test_the_shipped_guide_fits_its_own_method_alone() -> None:
    file = config("method=dgaf", "size=mini").weights
    (fit,) = check_path(file, config("method=dgaf", "size=mini"))
    assert fit.fits and fit.part == "guiding_unet" and fit.parameters == 2_022_952
    (fit,) = check_path(file, config("method=dgaf", "size=tiny"))
    assert not fit.fits and fit.shapes
    with pytest.raises(WeightsError, match=r"method=ldm .* has the parts denoising_unet, vae: name the method"):
        check_path(file, config("method=ldm"))


def test_a_part_that_the_method_does_not_have(tmp_path: Path) -> None:
    state = latent.method("dgaf").trained_state()
    save_file({**state, "other.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    guide, other = check_path(str(tmp_path / "a.safetensors"), config("method=dgaf", "size=tiny"))
    assert guide.fits and not other.fits and "has no such part" in other.errors[0]


def test_a_run_folder_brings_its_own_configuration(tmp_path: Path) -> None:
    method = latent.method("dgaf", "variant=released")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": method.trained_state()}, tmp_path / "checkpoints" / "last.ckpt")
    run = config("method=dgaf", "size=tiny", "variant=released")
    OmegaConf.save(run, tmp_path / "config.yaml", resolve=True)
    for path in (tmp_path, tmp_path / "checkpoints" / "last.ckpt"):
        (fit,) = check_path(str(path), config("method=ldm"))
        assert fit.fits and fit.notes == ["compared with method=dgaf size=tiny variant=released"]
    (tmp_path / "config.yaml").unlink()
    (fit,) = check_path(str(tmp_path), config("method=dgaf", "size=tiny"))
    assert not fit.fits, "variant=paper has attention"


def test_a_weights_file_inside_a_parts_folder(pipeline: Path) -> None:
    (fit,) = check_path(str(pipeline / "vae" / "diffusion_pytorch_model.safetensors"), config())
    assert fit.fits and fit.kind == "AutoencoderKL"


def test_files_of_no_known_kind(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"of no kind known here: its keys are layer\.weight"):
        check_path(str(tmp_path / "x.pth"), config())
    (tmp_path / "x.safetensors").write_bytes(b"cut")
    with pytest.raises(WeightsError, match=r"x\.safetensors cannot be read"):
        check_path(str(tmp_path / "x.safetensors"), config())
    with pytest.raises(WeightsError, match="no such folder"):
        check_path(str(tmp_path / "absent"), config())
