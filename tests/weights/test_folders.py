"""Reading priors in the shapes that they have in the wild: old names, prefixes, pickles, and configs that mislead."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import latent
from vsrbench.diffusion.prior import load_prior, save_prior
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.weights.files import read
from vsrbench.weights.folders import cast, load_part, save_network
from vsrbench.weights.layout import weight_files

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    save_prior(latent.prior(), folder, torch.float32)
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "prior"))


def change_config(folder: Path, part: str, name: str = "config.json", drop: str = "", **changes: object) -> None:
    file = folder / part / name
    content = {**json.loads(file.read_text()), **changes}
    content.pop(drop, None)
    file.write_text(json.dumps(content))


def rewrite(folder: Path, part: str, rename) -> None:
    file = folder / part / WEIGHTS
    save_file({rename(key): value for key, value in load_file(file).items()}, file)


def test_a_prefix_of_ddp_and_a_trainers_wrapper(folder: Path) -> None:
    own = latent.prior().unet.state_dict()
    rewrite(folder, "unet", lambda key: f"module.{key}")
    assert all(torch.equal(value, own[key]) for key, value in load_part(str(folder), "unet").state_dict().items())
    wrapped = {"state_dict": load_file(folder / "unet" / WEIGHTS), "step": 3}
    (folder / "unet" / WEIGHTS).unlink()
    torch.save(wrapped, folder / "unet" / "diffusion_pytorch_model.bin")
    assert all(torch.equal(value, own[key]) for key, value in load_part(str(folder), "unet").state_dict().items())


def test_attention_of_an_old_vae(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(**{**latent.prior().vae.config, "mid_block_add_attention": True})
    save_network(vae, tmp_path / "vae", torch.float32)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(key: str) -> str:
        for new, name in old.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        return key

    rewrite(tmp_path, "vae", rename)
    assert any(".proj_attn." in key for key in load_file(tmp_path / "vae" / WEIGHTS))
    loaded = load_part(str(tmp_path), "vae").state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in vae.state_dict().items())


def test_a_large_file_in_pieces(folder: Path) -> None:
    whole = load_file(folder / "unet" / WEIGHTS)
    names = sorted(whole)
    pieces = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for piece, keys in pieces.items():
        save_file({key: whole[key] for key in keys}, folder / "unet" / piece)
    (folder / "unet" / WEIGHTS).unlink()
    index = folder / "unet" / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"weight_map": {key: piece for piece, keys in pieces.items() for key in keys}}))
    loaded = load_part(str(folder), "unet").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in whole.items())
    (folder / "unet" / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"index\.json names b\.safetensors: fetch the folder again"):
        load_part(str(folder), "unet")


def test_safetensors_before_pickles_and_full_before_half_precision(tmp_path: Path) -> None:
    names = ["diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.bin"]
    names += ["diffusion_pytorch_model.fp16.safetensors", WEIGHTS]
    for name in names:
        (tmp_path / name).touch()
        assert [file.name for file in weight_files(tmp_path)] == [name]


class Trap:
    """What a hostile pickle holds: unpickling it would create a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.file,))


def test_a_pickle_is_never_run(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    torch.save({"conv_in.weight": Trap(folder / "ran")}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="may be truncated or hold more than tensors"):
        load_part(str(folder), "unet")
    assert not (folder / "ran").exists()


def test_a_pickle_without_a_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.bin")
    with pytest.raises(WeightsError, match=r"list\.bin holds a list and no state dict"):
        read(tmp_path / "list.bin")


def test_class_embeddings_that_config_and_weights_do_not_agree_on(folder: Path) -> None:
    change_config(folder, "unet", num_class_embeds=None)
    with pytest.raises(WeightsError, match=r"1 unexpected .*only one side has a class embedding"):
        load_part(str(folder), "unet")
    change_config(folder, "unet", num_class_embeds=8)
    content = load_file(folder / "unet" / WEIGHTS)
    del content["class_embedding.weight"]
    save_file(content, folder / "unet" / WEIGHTS)
    with pytest.raises(WeightsError, match=r"1 missing .*only one side has a class embedding"):
        load_part(str(folder), "unet")


@pytest.mark.parametrize(
    ("part", "name", "change", "told"),
    [
        ("vae", "config.json", {"drop": "scaling_factor"}, "vae/config.json has no scaling_factor"),
        ("scheduler", "scheduler_config.json", {"drop": "prediction_type"}, "has no prediction_type"),
        ("scheduler", "scheduler_config.json", {"drop": "beta_schedule"}, "has no beta_schedule"),
        ("unet", "config.json", {"in_channels": 4}, "unet/config.json in_channels 4: an x4 upscaler's takes 7"),
        ("unet", "config.json", {"_class_name": "UNet3DConditionModel"}, "is of class UNet3DConditionModel"),
    ],
)
def test_configs_of_other_models_are_refused(folder: Path, part: str, name: str, change: dict, told: str) -> None:
    change_config(folder, part, name, **change)
    with pytest.raises(WeightsError, match=told):
        load_prior(str(folder), noise_level=0)


@pytest.mark.parametrize(
    ("part", "name", "key", "value", "told"),
    [
        ("vae", "config.json", "scaling_factor", 0.18215, "scaling_factor is 0.18215, the x4 upscaler's is 0.08333"),
        ("scheduler", "scheduler_config.json", "beta_end", 0.012, "beta_end is 0.012, the x4 upscaler's is 0.02"),
        ("scheduler", "scheduler_config.json", "prediction_type", "epsilon", "prediction_type is epsilon"),
    ],
)
def test_unusual_values_are_warned_of(folder: Path, part: str, name: str, key: str, value: object, told: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_prior(str(folder), noise_level=0)
    change_config(folder, part, name, **{key: value})
    with pytest.warns(UserWarning, match=rf"{part}/{name}: {told}"):
        load_prior(str(folder), noise_level=0)


def test_a_schedule_that_no_sampler_here_knows(folder: Path) -> None:
    change_config(folder, "scheduler", "scheduler_config.json", timestep_spacing="trailing")
    with pytest.raises(ConfigError, match="timestep_spacing=trailing: only leading"):
        load_prior(str(folder), noise_level=0)


# --- writing -------------------------------------------------------------------------------------


class Wide(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("wide", torch.tensor([value]))


def test_values_beyond_half_precision_are_not_written() -> None:
    state: dict[str, Tensor] = Wide(1e5).state_dict()
    assert torch.equal(cast(state, torch.float32)["wide"], state["wide"])
    with pytest.raises(WeightsError, match=r"wide has values that are not finite as torch\.float16: .*dtype=float32"):
        cast(state, torch.float16)


def test_whole_numbers_keep_their_type() -> None:
    assert cast({"count": torch.tensor(3)}, torch.float16)["count"].dtype == torch.int64
