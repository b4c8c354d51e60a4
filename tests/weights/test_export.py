"""Export and the way back: the same output from our own loader, and from diffusers alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

import latent
from vsrbench.config import build_method, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.weights.commands.export import export

TINY = ["size=tiny", "dtype=float32"]


@pytest.fixture
def trained(tmp_path: Path) -> Any:
    """``trained("dgaf", ...)`` writes a trained part whose zero convolutions say something and returns its path."""

    def make(method: str, *overrides: str) -> Path:
        state = latent.method(method, *overrides).trained_state()
        generator = torch.Generator().manual_seed(1)
        state = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in state.items()}
        save_file(state, tmp_path / f"{method}.safetensors")
        return tmp_path / f"{method}.safetensors"

    return make


def run(*overrides: str) -> Path:
    return export(compose(["task=export", *overrides], verb="weights"))


def upscaled(*overrides: str) -> Tensor:
    method = build_method(compose([*overrides, "inference.device=cpu"], verb="weights"))
    return method.upscale(latent.make_clip(3), Noise(0))


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_a_guide_there_and_back(trained: Any, tmp_path: Path, variant: str) -> None:
    setting = ["method=dgaf", f"variant={variant}", *TINY]
    if variant == "released":
        setting.append("flow=farneback")
    source = trained("dgaf", f"variant={variant}")
    folder = run(*setting, f"ckpt_path={source}", f"output={tmp_path / 'out'}")
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "dgafnet/config.json", "dgafnet/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    before = upscaled(*setting, f"ckpt_path={source}")
    assert torch.equal(upscaled(*setting, f"ckpt_path={folder}"), before)
    assert torch.equal(upscaled(*setting, f"ckpt_path={folder / 'dgafnet'}"), before)
    assert (upscaled(*setting) - before).abs().max() > 1e-4, "the trained part matters"


def test_a_config_like_the_released_ones(tmp_path: Path, shared: Path) -> None:
    folder = run("method=dgaf", "variant=released", *TINY, f"output={tmp_path / 'out'}")
    written = json.loads((folder / "dgafnet" / "config.json").read_text())
    recorded = json.loads((shared / "golden" / "dgaf_infer" / "config.json").read_text())["dgafnet"]
    assert written.pop("_class_name") == "DGAFNetModel"
    assert written.keys() <= recorded.keys()
    fixed = ("in_channels", "conditioning_channels", "mid_block_type", "dgafnet_conditioning_channel_order")
    assert {key: written[key] for key in fixed} == {key: recorded[key] for key in fixed}
    assert set(written["down_block_types"]) == set(recorded["down_block_types"])


@torch.no_grad()
def test_a_prior_that_diffusers_alone_loads(tmp_path: Path) -> None:
    folder = run("method=ldm", *TINY, f"output={tmp_path / 'prior'}")
    prior = latent.prior()
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    prompt = load_file(folder / "prompt_embeds.safetensors")["prompt_embeds"]
    clip, x = latent.make_clip(1, (8, 8)), Noise(0).normal((1, 4, 8, 8), "x")
    joined = torch.cat([x, 2 * clip.lr[0] - 1], dim=1)
    own = prior.predict(x, clip.lr[0], 7)
    # not to the last bit: tensors of a mapped file lie at other addresses, which other kernels serve
    assert torch.allclose(unet(joined, 7, prompt, class_labels=torch.tensor([0])).sample, own, rtol=0, atol=1e-6)
    decoded = vae.decode(x / vae.config.scaling_factor).sample / 2 + 0.5
    assert torch.allclose(decoded, prior.decode(x), rtol=0, atol=1e-5)
    for part, loaded in (("unet", unet), ("vae", vae)):
        own_state = getattr(prior, part).state_dict()
        assert all(torch.equal(value, own_state[key]) for key, value in loaded.state_dict().items())
    assert torch.equal(scheduler.alphas_cumprod, prior.schedule.alphas_cumprod)
    assert scheduler.config.prediction_type == prior.schedule.prediction_type
    before = upscaled("method=ldm", *TINY)
    again = ["prior.random=false", f"prior.path={folder}"]
    assert torch.equal(upscaled("method=ldm", *TINY, *again), before)


@torch.no_grad()
def test_a_temporal_module_with_its_pipeline(trained: Any, tmp_path: Path) -> None:
    setting = ["method=stablevsr", *TINY]
    source = trained("stablevsr")
    folder = run(*setting, f"ckpt_path={source}", f"output={tmp_path / 'out'}")
    method = build_method(compose([*setting, f"ckpt_path={source}", "inference.device=cpu"], verb="weights"))
    tcm = ControlNetModel.from_pretrained(folder, subfolder="controlnet")
    own = method.tcm.net.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in tcm.state_dict().items())
    x, image = Noise(0).normal((1, 7, 8, 8), "x"), latent.make_clip(1, (8, 8)).hr[0]
    prompt, labels = method.prior.prompt, torch.tensor([0])
    plain = tcm(x, 7, prompt, image, class_labels=labels, return_dict=False)
    ours = method.tcm.net(x, 7, prompt, image, class_labels=labels, return_dict=False)
    for a, b in zip([*plain[0], plain[1]], [*ours[0], ours[1]], strict=True):
        assert a.abs().max() > 1e-3 and torch.allclose(a, b, rtol=0, atol=1e-5)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "StableVSRPipeline"
    assert index["controlnet"] == ["diffusers", "ControlNetModel"] and "text_encoder" not in index
    before = upscaled(*setting, f"ckpt_path={source}")
    whole = [f"ckpt_path={folder}", "prior.random=false", f"prior.path={folder}"]
    assert torch.equal(upscaled(*setting, *whole), before)
    assert (upscaled(*setting) - before).abs().max() > 1e-4, "the trained part matters"


def test_a_text_encoder_goes_along(tmp_path: Path) -> None:
    prior = run("method=ldm", *TINY, f"output={tmp_path / 'prior'}")
    for part, name in (("text_encoder", "model.safetensors"), ("tokenizer", "vocab.json")):
        (prior / part).mkdir()
        (prior / part / name).write_text(part)
    loaded = ["prior.random=false", f"prior.path={prior}"]
    folder = run("method=stablevsr", *TINY, *loaded, f"output={tmp_path / 'out'}")
    assert (folder / "text_encoder" / "model.safetensors").read_text() == "text_encoder"
    index = json.loads((folder / "model_index.json").read_text())
    assert index["tokenizer"] == ["transformers", "CLIPTokenizer"]


def test_half_precision_is_the_default(tmp_path: Path) -> None:
    folder = run("method=stablevsr", "size=tiny", f"output={tmp_path / 'out'}")
    for file in (*folder.glob("*/diffusion_pytorch_model.safetensors"), folder / "prompt_embeds.safetensors"):
        assert {value.dtype for value in load_file(file).values()} == {torch.float16}
    single = run("method=dgaf", "size=tiny", f"output={tmp_path / 'guide.safetensors'}")
    assert {value.dtype for value in load_file(single).values()} == {torch.float16}


def test_no_path_of_this_machine_is_written(tmp_path: Path) -> None:
    first = run("method=stablevsr", *TINY, f"output={tmp_path / 'first'}")
    again = ["prior.random=false", f"prior.path={first}", f"ckpt_path={first}"]
    second = run("method=stablevsr", *TINY, *again, f"output={tmp_path / 'second'}")
    assert all(str(tmp_path) not in file.read_text() for file in second.rglob("*.json"))


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="guidance=encoder has no released layout"):
        run("method=dgaf", *TINY, "method.guidance=encoder", f"output={tmp_path / 'out'}")
    with pytest.raises(WeightsError, match=r"no released weight layout; give output=FILE\.safetensors"):
        run("method=bicubic", f"output={tmp_path / 'out'}")
    assert list(tmp_path.iterdir()) == []


def test_an_export_in_place_of_an_older_one(tmp_path: Path) -> None:
    folder = run("method=ldm", *TINY, f"output={tmp_path / 'out'}")
    (folder / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="out exists: choose another name or add force=true"):
        run("method=ldm", *TINY, f"output={folder}")
    run("method=ldm", "size=tiny", f"output={folder}", "force=true")
    state = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert (folder / "README.md").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], "weights export needs output=FILE.safetensors"),
        (["output=x", "layout=theirs"], "layout=theirs: use project, released or null"),
        (["output=x.safetensors", "layout=released"], "layout=released needs output=FOLDER"),
        (["output=x", "layout=project"], "layout=project needs output=FILE.safetensors"),
        (["output=x", "dtype=int8"], "dtype=int8: use float16 or float32"),
    ],
)
def test_what_cannot_be_meant(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run("method=dgaf", "size=tiny", *overrides)


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match="is a file; the released layout is a folder"):
        run("method=ldm", *TINY, f"output={tmp_path / 'out'}", "force=true")
