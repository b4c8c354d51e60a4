"""``weights check`` of folders: what fits, what does not, and that the weights themselves stay on the disk."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

import latent
from vsrbench.config import build, compose
from vsrbench.diffusion.prior import load_prior, save_prior
from vsrbench.errors import WeightsError
from vsrbench.weights import files
from vsrbench.weights.commands.check import check_path
from vsrbench.weights.commands.check_folder import check_folder
from vsrbench.weights.commands.fit import Fit
from vsrbench.weights.folders import load_config

WEIGHTS = "diffusion_pytorch_model.safetensors"


def parts(folder: Path) -> dict[str, Fit]:
    return {fit.part: fit for fit in check_folder(folder)}


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def change(file: Path, edit) -> None:
    content = load_file(file)
    edit(content)
    save_file(content, file)


def test_a_whole_pipeline_folder(pipeline: Path) -> None:
    found = parts(pipeline)
    assert set(found) == {"unet", "vae", "controlnet", "scheduler", "prompt"}
    assert all(fit.fits for fit in found.values())
    unet = latent.prior().unet
    assert found["unet"].matched == found["unet"].expected == len(unet.state_dict())
    assert found["unet"].parameters == sum(p.numel() for p in unet.parameters())
    assert found["unet"].dtypes == {"float32": len(unet.state_dict())}
    assert list(found["controlnet"].dtypes) == ["float16"]
    assert any("class embedding of 8 levels: set prior.noise_level=0" in note for note in found["unet"].notes)
    assert any("9 output convolutions" in note for note in found["controlnet"].notes)
    assert "prediction_type v_prediction" in found["scheduler"].notes[0]
    assert found["prompt"].notes == ["1x4x8"]


@pytest.fixture
def stable_diffusion(tmp_path: Path) -> Path:
    """A folder as Stable Diffusion 1.5 is published: no scaling factor, no prediction type."""
    prior = build(compose(["method=sateco", "size=tiny"], verb="eval").prior)
    save_prior(prior, tmp_path / "sd", torch.float32)
    for file, key in (("vae/config.json", "scaling_factor"), ("scheduler/scheduler_config.json", "prediction_type")):
        content = json.loads((tmp_path / "sd" / file).read_text())
        del content[key]
        (tmp_path / "sd" / file).write_text(json.dumps(content))
    return tmp_path / "sd"


@pytest.mark.filterwarnings("ignore:.*Stable Diffusion's is")
def test_what_stable_diffusion_leaves_out_has_diffusers_defaults(stable_diffusion: Path) -> None:
    prior = load_prior(str(stable_diffusion), kind="image")
    assert prior.scaling == 0.18215 and prior.schedule.config["prediction_type"] == "epsilon"
    bare = stable_diffusion / "scheduler" / "scheduler_config.json"
    for name, alpha in (("PNDMScheduler", False), ("DDIMScheduler", True)):
        bare.write_text(json.dumps({"_class_name": name}))
        schedule = load_config(str(stable_diffusion), "scheduler", bare.name, "image")
        theirs = getattr(diffusers, name)().config
        assert {key: theirs[key] for key in schedule if key in theirs} == {
            key: value for key, value in schedule.items() if key in theirs
        }
        assert schedule["set_alpha_to_one"] is alpha


def test_a_folder_is_judged_as_what_it_is_or_should_be(stable_diffusion: Path, pipeline: Path) -> None:
    assert all(fit.fits and not fit.warnings for fit in check_folder(stable_diffusion))
    assert all(fit.fits for fit in check_path(str(stable_diffusion), compose(["method=sateco"], verb="weights")))
    assert check_folder(stable_diffusion / "vae")[0].fits, "a part by the UNet beside it"
    wrong = {fit.part: fit for fit in check_folder(stable_diffusion, "upscaler")}
    assert "in_channels 4: an x4 upscaler's takes 7" in wrong["unet"].errors[0]
    assert "has no scaling_factor" in wrong["vae"].errors[0]
    wrong = {fit.part: fit for fit in check_folder(pipeline, "image")}
    assert "in_channels 7: Stable Diffusion's takes 4" in wrong["unet"].errors[0]


def test_no_tensor_is_read(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header is enough: the data behind it may be missing altogether."""

    def never(*_: object) -> None:
        raise AssertionError("tensors were read")

    monkeypatch.setattr("safetensors.torch.load_file", never)
    monkeypatch.setattr(files, "read", never)
    assert all(fit.fits for fit in check_folder(pipeline))


def test_misfits_are_counted_by_kind(pipeline: Path) -> None:
    def damage(content: dict[str, torch.Tensor]) -> None:
        del content["conv_in.bias"]
        content["surplus"] = torch.zeros(2)
        content["conv_out.bias"] = torch.zeros(9)

    change(pipeline / "unet" / WEIGHTS, damage)
    unet = parts(pipeline)["unet"]
    assert not unet.fits
    assert unet.missing == ["conv_in.bias"] and unet.unexpected == ["surplus"]
    assert unet.shapes == ["conv_out.bias (9,) for (4,)"]
    assert unet.matched == unet.expected - 2


def test_pickles_prefixes_and_old_attention_names_fit(pipeline: Path) -> None:
    file = pipeline / "unet" / WEIGHTS
    torch.save({f"module.{key}": value for key, value in load_file(file).items()}, file.with_suffix(".bin"))
    file.unlink()
    unet = parts(pipeline)["unet"]
    assert unet.fits and unet.source == "diffusion_pytorch_model.bin"


@pytest.mark.parametrize(
    ("part", "file", "changes", "fault"),
    [
        ("unet", "config.json", {"in_channels": 4}, "in_channels 4: an x4 upscaler's takes 7"),
        ("controlnet", "config.json", {"in_channels": 4}, "in_channels give 4 input channels"),
        ("scheduler", "scheduler_config.json", {"thresholding": True}, "thresholding=True: only False"),
    ],
)
def test_faults_of_configs(pipeline: Path, part: str, file: str, changes: dict, fault: str) -> None:
    edit(pipeline / part / file, **changes)
    found = {fit.part: fit for fit in check_folder(pipeline, "upscaler")}[part]
    assert not found.fits and any(fault in line for line in found.errors)


def test_a_vae_of_another_factor(pipeline: Path) -> None:
    from diffusers import AutoencoderKL

    config = dict(latent.prior().vae.config)
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        config[key] = [*config[key], config[key][-1]]
    AutoencoderKL(**config).save_pretrained(pipeline / "vae")
    vae = parts(pipeline)["vae"]
    assert vae.matched == vae.expected and vae.errors == ["reduces by 8; these methods need a factor of 4"]


def test_unusual_values_are_doubts_not_faults(pipeline: Path) -> None:
    edit(pipeline / "vae" / "config.json", scaling_factor=0.18215)
    edit(pipeline / "scheduler" / "scheduler_config.json", beta_end=0.012)
    found = parts(pipeline)
    assert found["vae"].fits and "scaling_factor is 0.18215, the x4 upscaler's is 0.08333" in found["vae"].warnings[0]
    assert found["scheduler"].fits and "beta_end is 0.012" in found["scheduler"].warnings[0]


def test_what_a_prior_lacks(pipeline: Path) -> None:
    (pipeline / "prompt_embeds.safetensors").unlink()
    (pipeline / "scheduler" / "scheduler_config.json").unlink()
    errors = parts(pipeline)["prior"].errors
    assert [fault.partition(" lacks ")[2] for fault in errors] == [
        "scheduler", "prompt_embeds.safetensors, or text_encoder and tokenizer",
    ]  # fmt: skip


def test_a_prompt_of_another_width(pipeline: Path) -> None:
    save_file({"prompt_embeds": torch.zeros(1, 4, 9)}, pipeline / "prompt_embeds.safetensors")
    assert parts(pipeline)["unet"].errors == ["expects prompts of width 8; prompt_embeds.safetensors has 9"]
    save_file({"other": torch.zeros(1)}, pipeline / "prompt_embeds.safetensors")
    assert parts(pipeline)["prompt"].errors == ["holds other instead of prompt_embeds"]


@pytest.mark.parametrize("stored", ["text_model.", ""])
def test_a_text_encoder_of_older_and_newer_transformers(pipeline: Path, stored: str) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=4, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=6,
    )  # fmt: skip
    encoder = CLIPTextModel(config)
    folder = pipeline / "text_encoder"
    encoder.save_pretrained(folder)
    state = {f"{stored}{k.removeprefix('text_model.')}": v for k, v in encoder.state_dict().items()}
    state[f"{stored}embeddings.position_ids"] = torch.arange(6)[None]
    save_file(state, folder / "model.safetensors")
    assert parts(pipeline)["text_encoder"].fits
    change(folder / "model.safetensors", lambda content: content.pop(f"{stored}final_layer_norm.bias"))
    assert parts(pipeline)["text_encoder"].missing == ["final_layer_norm.bias"]


@pytest.mark.parametrize(("pad", "warnings"), [("!", 0), ({"content": "!"}, 0), ("<|endoftext|>", 1)])
def test_the_pad_token(pipeline: Path, pad: object, warnings: int) -> None:
    (pipeline / "tokenizer").mkdir()
    (pipeline / "tokenizer" / "special_tokens_map.json").write_text(json.dumps({"pad_token": pad}))
    assert len(parts(pipeline)["tokenizer"].warnings) == warnings


def test_damaged_and_foreign_parts_do_not_hide_the_others(pipeline: Path) -> None:
    file = pipeline / "vae" / WEIGHTS
    file.write_bytes(file.read_bytes()[:40])
    (pipeline / "controlnet" / "config.json").write_text('{"_class_name": "SomethingElse"}')
    (pipeline / "unet" / WEIGHTS).unlink()
    found = parts(pipeline)
    assert "may be truncated" in found["vae"].errors[0]
    assert found["controlnet"].notes == ["nothing here uses this class; not looked at"]
    assert "holds none of diffusion_pytorch_model.safetensors" in found["unet"].errors[0]
    assert found["scheduler"].fits


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no weights in the diffusers layout"):
        check_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet3DConditionModel"}')
    with pytest.raises(WeightsError, match=r"names UNet3DConditionModel in its config\.json; nothing here uses that"):
        check_folder(tmp_path)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_a_guide(tmp_path: Path, variant: str, old: bool) -> None:
    latent.method("dgaf", f"variant={variant}").export_released(tmp_path)
    folder = tmp_path / "dgafnet"
    if old:
        content = load_file(folder / WEIGHTS)
        save_file({k.replace("dgafnet_", "brushnet_"): v for k, v in content.items()}, folder / WEIGHTS)
        edit(folder / "config.json", _class_name="BrushNetModel")
    (guide,) = check_folder(tmp_path)
    assert guide.fits and guide.matched == guide.expected
    attention = str(variant == "paper").lower()
    assert f"for method=dgaf method.guide_attention={attention}" in guide.notes
    convolutions = [k for k in load_file(folder / WEIGHTS) if k.startswith(("dgafnet_", "brushnet_"))]
    assert f"{len(convolutions) // 2} output convolutions" in guide.notes


def test_a_guide_with_other_inputs(tmp_path: Path) -> None:
    latent.method("dgaf").export_released(tmp_path)
    edit(tmp_path / "dgafnet" / "config.json", conditioning_channels=5)
    (guide,) = check_folder(tmp_path)
    assert any("give 12 input channels, these methods have 11" in fault for fault in guide.errors)
    assert [name.partition(" ")[0] for name in guide.shapes] == ["conv_in_condition.weight"]


def test_the_released_networks_have_the_printed_shapes() -> None:
    """13 and 28 output convolutions, 11 input channels, the released parameter counts; at size=paper, on no memory."""
    from vsrbench.methods.dgaf.released import expected

    config = {
        "in_channels": 7, "conditioning_channels": 4, "block_out_channels": [256, 512, 512, 1024],
        "layers_per_block": 2, "down_block_types": ["DownBlock2D"] * 4, "up_block_types": ["UpBlock2D"] * 4,
        "cross_attention_dim": 1024, "attention_head_dim": 8, "norm_num_groups": 32, "use_linear_projection": True,
    }  # fmt: skip
    state = expected(config)
    assert sum(value.numel() for value in state.values()) == 277_052_416
    assert tuple(state["conv_in_condition.weight"].shape) == (256, 11, 3, 3)
    assert sum(key.startswith("dgafnet_") and key.endswith("weight") for key in state) == 28
