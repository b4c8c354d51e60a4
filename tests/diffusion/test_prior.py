import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import latent
from vsrbench.config import compose
from vsrbench.diffusion.noise import Noise
from vsrbench.diffusion.prior import load_prior, save_prior
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.weights.folders import load_prompt
from vsrbench.weights.hub import locate

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny prior as a diffusers folder."""
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    save_prior(latent.prior(), folder)
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "prior"))


def change_config(folder: Path, part: str, **changes: object) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def change_weights(folder: Path, part: str, change) -> None:
    file = folder / part / WEIGHTS
    content = load_file(file)
    change(content)
    save_file(content, file)


def refused(folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_prior(str(folder), noise_level=0)
    return str(caught.value)


# --- loading -------------------------------------------------------------------------------------


def test_a_folder_gives_back_what_was_saved(exported: Path) -> None:
    ours, again = latent.prior(), load_prior(str(exported), noise_level=0)
    for key, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[key], value.half().float()), key
    assert torch.equal(again.prompt, ours.prompt)
    assert torch.equal(again.schedule.alphas_cumprod, ours.schedule.alphas_cumprod)
    assert again.unet.dtype == again.vae.dtype == torch.float32
    assert not again.unet.training and not again.vae.training


def test_half_precision_variants_and_pickled_weights(exported: Path, folder: Path) -> None:
    reference = load_prior(str(exported), noise_level=0).state_dict()
    for part in ("unet", "vae"):
        (folder / part / WEIGHTS).rename(folder / part / "diffusion_pytorch_model.fp16.safetensors")
    variant = load_prior(str(folder), noise_level=0).state_dict()
    for part in ("unet", "vae"):
        stored = folder / part / "diffusion_pytorch_model.fp16.safetensors"
        torch.save(load_file(stored), folder / part / "diffusion_pytorch_model.bin")
        stored.unlink()
    pickled = load_prior(str(folder), noise_level=0).state_dict()
    for key, value in reference.items():
        assert torch.equal(variant[key], value)
        assert torch.equal(pickled[key], value)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_missing_unexpected_and_misshapen_keys_are_named(folder: Path, part: str) -> None:
    key = "conv_in.bias" if part == "unet" else "quant_conv.bias"
    change_weights(folder, part, lambda content: content.pop(key))
    assert f"{part}: weights do not fit" in (told := refused(folder)) and f"1 missing ['{key}']" in told
    change_weights(folder, part, lambda content: content.update({key: torch.zeros(3)}))
    assert key in (told := refused(folder)) and part in told


def test_unexpected_keys_are_named(folder: Path) -> None:
    change_weights(folder, "unet", lambda content: content.update(surplus=torch.zeros(3)))
    assert "1 unexpected ['surplus']" in refused(folder)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere").endswith("nowhere: no such folder")
    (folder / "unet" / WEIGHTS).unlink()
    assert "unet holds none of diffusion_pytorch_model.safetensors" in refused(folder)
    (folder / "unet" / "config.json").unlink()
    assert "unet/config.json is missing: a prior folder needs unet/, vae/ and scheduler/" in refused(folder)


@pytest.mark.parametrize("part", ["vae", "scheduler"])
def test_missing_parts_are_named(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    assert f"{part}/" in refused(folder)


def test_truncated_files_are_named(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    assert "unet cannot be loaded" in refused(folder)
    (folder / "unet" / "config.json").write_text('{"in_channels": 7,')
    assert "unet/config.json is damaged" in refused(folder)


def test_a_hub_name_that_cannot_be_reached_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits for another attempt"))
    with pytest.raises(WeightsError, match=r"prior\.path=nobody/nothing .* cannot be fetched .* local diffusers"):
        locate("nobody/nothing")
    with pytest.raises(WeightsError, match="cannot be fetched"):
        locate("not a/hub name")


def test_without_path_the_error_says_what_to_do() -> None:
    with pytest.raises(WeightsError, match=r"prior\.path=DIR .*prior\.random=true"):
        load_prior()


# --- parts that do not fit each other ------------------------------------------------------------


def test_noise_level_and_class_embedding_belong_together(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"the UNet has class embedding: set prior\.noise_level=0"):
        load_prior(str(folder))
    with pytest.raises(ConfigError, match=r"prior\.noise_level=8: the UNet has levels 0 to 7"):
        load_prior(str(folder), noise_level=8)
    change_config(folder, "unet", num_class_embeds=None)
    change_weights(folder, "unet", lambda content: content.pop("class_embedding.weight"))
    assert load_prior(str(folder)).labels(torch.device("cpu")) is None
    with pytest.raises(ConfigError, match=r"the UNet has no class embedding: set prior\.noise_level=null"):
        load_prior(str(folder), noise_level=0)


def random_settings(**changes: object) -> dict:
    from omegaconf import OmegaConf

    node = OmegaConf.to_container(compose(["method=ldm", "size=tiny"], verb="eval").prior, resolve=True)
    return {**{key: value for key, value in node.items() if key != "_target_"}, **changes}


def test_a_vae_of_another_factor_is_refused() -> None:
    settings = random_settings()
    vae = settings["vae"]
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        vae[key] = [*vae[key], vae[key][-1]]
    with pytest.raises(ConfigError, match="the VAE reduces by 8; these methods need a factor of 4"):
        load_prior(**settings)


def test_a_unet_that_is_no_upscalers_is_refused() -> None:
    settings = random_settings()
    settings["unet"]["in_channels"] = 4
    with pytest.raises(ConfigError, match=r"the UNet takes 4 channels, not 4 \+ 3"):
        load_prior(**settings)


def test_a_prompt_of_another_width_is_refused(folder: Path) -> None:
    save_file({"prompt_embeds": torch.zeros(1, 4, 9)}, folder / "prompt_embeds.safetensors")
    with pytest.raises(ConfigError, match="the prompt has width 9, the UNet expects 8"):
        load_prior(str(folder), noise_level=0)


def test_random_weights_are_seeded_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (load_prior(**random_settings(seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.unet.conv_in.weight, same.unet.conv_in.weight)
    assert not torch.equal(one.unet.conv_in.weight, other.unet.conv_in.weight)


# --- the prompt ----------------------------------------------------------------------------------


@pytest.fixture
def with_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with a tiny text encoder instead of a stored prompt, and a cache of its own."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    (folder / "prompt_embeds.safetensors").unlink()
    (folder / "tokenizer").mkdir()
    words = ["!", "a</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), pad_token="!", model_max_length=6)
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=4, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=6, bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    monkeypatch.setenv("VSRBENCH_CACHE", str(folder.parent / "cache"))
    return folder


@torch.no_grad()
def test_the_empty_prompt_is_the_encoders_last_state(with_encoder: Path) -> None:
    from transformers import CLIPTextModel

    model = CLIPTextModel.from_pretrained(str(with_encoder / "text_encoder")).eval()
    expected = model(torch.tensor([[2, 3, 0, 0, 0, 0]])).last_hidden_state
    prior = load_prior(str(with_encoder), noise_level=0)
    assert prior.prompt.shape == (1, 6, 8)
    assert torch.allclose(prior.prompt, expected, atol=1e-6)


def test_the_prompt_is_computed_once(with_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_prompt(str(with_encoder))
    cached = list((with_encoder.parent / "cache").iterdir())
    assert len(cached) == 1

    def never(*_: object) -> None:
        raise AssertionError("the encoder was asked again")

    monkeypatch.setattr("vsrbench.weights.folders.encode_prompt", never)
    assert torch.equal(load_prompt(str(with_encoder)), first)


def test_another_encoder_is_another_prompt(with_encoder: Path) -> None:
    first = load_prompt(str(with_encoder))
    file = with_encoder / "text_encoder" / "model.safetensors"
    save_file({key: value + 0.1 for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    assert not torch.allclose(load_prompt(str(with_encoder)), first)


def test_a_broken_encoder_is_named(with_encoder: Path) -> None:
    file = with_encoder / "text_encoder" / "model.safetensors"
    content = load_file(file)
    dropped = next(key for key in content if "final_layer_norm.weight" in key)
    save_file({k: v for k, v in content.items() if k != dropped}, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"text_encoder: weights do not fit .*final_layer_norm"):
        load_prompt(str(with_encoder))
    shutil.rmtree(with_encoder / "tokenizer")
    with pytest.raises(WeightsError, match=r"text_encoder/ and tokenizer/"):
        load_prompt(str(with_encoder))
    shutil.rmtree(with_encoder / "text_encoder")
    with pytest.raises(WeightsError, match=r"neither prompt_embeds\.safetensors nor text_encoder/"):
        load_prompt(str(with_encoder))


def test_a_broken_stored_prompt_is_named(folder: Path) -> None:
    file = folder / "prompt_embeds.safetensors"
    save_file({"something": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"prompt_embeds\.safetensors holds something instead of prompt_embeds"):
        load_prompt(str(folder))
    file.write_bytes(b"cut")
    with pytest.raises(WeightsError, match=r"prompt_embeds\.safetensors cannot be read"):
        load_prompt(str(folder))


# --- frames and latents --------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["tiny", "mini"])
@torch.no_grad()
def test_encoding_and_decoding_shapes(size: str) -> None:
    prior, hr = latent.prior(size), latent.make_clip(2, (10, 14)).hr[0]
    found = prior.encode(hr)
    assert found.shape == (2, 4, 10, 14)
    assert prior.decode(found).shape == hr.shape


@torch.no_grad()
def test_the_shipped_vae_gives_frames_back() -> None:
    prior = latent.prior("mini")
    hr = nn.functional.interpolate(latent.make_clip(1, (8, 8)).hr[0], scale_factor=3, mode="bicubic").clamp(0, 1)
    assert (prior.decode(prior.encode(hr)) - hr).square().mean().sqrt() < 0.05
    assert 0.2 < prior.encode(hr).std() < 4, "latents have about unit variance"


@torch.no_grad()
def test_a_sample_of_the_posterior_is_its_mode_plus_noise() -> None:
    prior, hr = latent.prior(), latent.make_clip(1, (8, 8)).hr[0]
    noise = Noise(0).normal((1, 4, 8, 8), "posterior")
    posterior = prior.vae.encode(2 * hr - 1).latent_dist
    assert torch.equal(prior.encode(hr), posterior.mode() * prior.scaling)
    sampled = (posterior.mean + posterior.std * noise) * prior.scaling
    assert torch.allclose(prior.encode(hr, noise), sampled)


@torch.no_grad()
def test_prediction_is_the_networks_on_latent_and_lr() -> None:
    prior = latent.prior()
    x, lr = Noise(0).normal((2, 4, 8, 8), "x"), latent.make_clip(2, (8, 8)).lr[0]
    joined = torch.cat([x, 2 * lr - 1], dim=1)
    labels = torch.zeros(2, dtype=torch.long)
    expected = prior.unet(joined, 7, prior.prompt.expand(2, -1, -1), class_labels=labels).sample
    assert torch.allclose(prior.predict(x, lr, 7), expected, atol=1e-6)
