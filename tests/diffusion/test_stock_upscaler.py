"""The stock x4 upscaler as its authors run it: noise on the LR frame, its label, and classifier-free guidance."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline, UNet2DConditionModel
from omegaconf import OmegaConf
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import latent
from vsrbench.config import compose
from vsrbench.diffusion.frames import noised_lr
from vsrbench.diffusion.noise import Noise, RecordedNoise
from vsrbench.diffusion.prior import load_prior, save_prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.methods.ldm import LDM

LEVEL, SCALE, STEPS = 20, 9.0, 4
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusionUpscalePipeline:
    """Tiny random networks with a class embedding and a text encoder of three words.

    The noise of the LR frames has a schedule of its own, so that the wrong one would be seen.
    """
    folder = tmp_path_factory.mktemp("tokenizer")
    words = ["!", "a</w>", "b</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings: Any = OmegaConf.to_container(compose(["method=ldm", "size=tiny"], verb="eval").prior, resolve=True)
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=5, hidden_size=int(settings["unet"]["cross_attention_dim"]), intermediate_size=16,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=6, bos_token_id=3, eos_token_id=4,
        pad_token_id=0,
    )  # fmt: skip
    return StableDiffusionUpscalePipeline(
        vae=AutoencoderKL(**settings["vae"]).eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=CLIPTokenizer.from_pretrained(str(folder), pad_token="!", model_max_length=6),
        unet=UNet2DConditionModel(**{**settings["unet"], "num_class_embeds": 32}).eval(),
        low_res_scheduler=DDPMScheduler(**BETAS, beta_schedule="linear"),
        scheduler=DDIMScheduler(
            **BETAS, beta_schedule="scaled_linear", prediction_type="v_prediction", steps_offset=1,
            set_alpha_to_one=False, clip_sample=False,
        ),
    )  # fmt: skip


@pytest.fixture
def folder(pipeline: StableDiffusionUpscalePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VSRBENCH_CACHE", str(tmp_path / "cache"))
    pipeline.save_pretrained(tmp_path / "stock")
    return tmp_path / "stock"


@pytest.mark.parametrize(("level", "scale"), [(LEVEL, SCALE), (LEVEL, 1.0), (5, SCALE)])
def test_frames_equal_those_of_diffusers(
    pipeline: StableDiffusionUpscalePipeline, folder: Path, level: int, scale: float
) -> None:
    """Noise level, prompt, negative prompt and guidance; largest difference 1e-5 (3.2e-6 on the CPU of the record)."""
    clip = latent.make_clip(1, (16, 20))
    latents = torch.randn(1, 4, 16, 20, generator=torch.Generator().manual_seed(1))
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a b", clip.lr[0], num_inference_steps=STEPS, guidance_scale=scale, noise_level=level, negative_prompt="b",
        generator=torch.Generator().manual_seed(2), latents=latents, output_type="pt",
    ).images  # fmt: skip
    draws = {
        ("initial", "clip#0", 0, 0): latents,
        ("lr_noise", "clip#0", 0, 0): torch.randn(1, 3, 16, 20, generator=torch.Generator().manual_seed(2)),
    }
    prior = load_prior(str(folder), noise_level=level, prompt="a b", negative_prompt="b")
    method = LDM(prior, Sampler("ddim", STEPS), guidance_scale=scale).eval()
    frames = method.upscale(clip, RecordedNoise(draws))[0]
    assert (frames - expected).abs().max() < 1e-5
    plain = LDM(prior, Sampler("ddim", STEPS), guidance_scale=2.0).eval()
    assert (plain.upscale(clip, RecordedNoise(draws))[0] - expected).abs().max() > 1e-4


def test_level_0_is_a_clean_frame_and_others_are_noised_once_per_frame(folder: Path) -> None:
    clip = latent.make_clip(3)
    assert torch.equal(noised_lr(load_prior(str(folder), noise_level=0), clip, Noise(0)).lr, clip.lr)
    prior = load_prior(str(folder), noise_level=31)
    noised = noised_lr(prior, clip, Noise(0))
    error = (noised.lr - clip.lr)[0]
    assert 0.01 < error.std() < 0.1 and not torch.allclose(error[0], error[1], atol=1e-3)
    assert torch.equal(noised_lr(prior, clip.window(1, 2), Noise(0)).lr, noised.lr[:, 1:2]), "by the frame's number"


@pytest.mark.parametrize("name", ["dgaf", "stablevsr", "ldm"])
def test_every_method_shows_the_noised_frame_to_its_networks(name: str) -> None:
    """In sampling and in training; flow looks at the clean one."""
    shown: list[torch.Tensor] = []
    module = latent.module(name)
    prior, clip = module.method.prior, latent.make_clip(3)
    prior.noise_level = 7
    expected = noised_lr(prior, clip, Noise(0)).lr[0]
    predict = prior.predict

    def spy(x: torch.Tensor, lr: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        shown.extend(lr)
        return predict(x, lr, *others, **named)

    prior.predict = spy
    module.method.upscale(replace(clip, hr=None), Noise(0))
    module.begin_stage("default", lambda p: torch.optim.Adam(p), Noise(0))
    module.losses(clip, Noise(0))
    assert len(shown) > 3
    assert all(any(torch.equal(lr, frame) for frame in expected) for lr in shown)


def test_an_exported_prior_keeps_its_levels(folder: Path, tmp_path: Path) -> None:
    prior = load_prior(str(folder), noise_level=LEVEL)
    save_prior(prior, tmp_path / "again", torch.float32)
    again = load_prior(str(tmp_path / "again"), noise_level=LEVEL)
    assert torch.equal(again.lr_schedule.alphas_cumprod, prior.lr_schedule.alphas_cumprod)
    assert not torch.allclose(again.lr_schedule.alphas_cumprod, again.schedule.alphas_cumprod)


def test_prompts_need_an_encoder_and_fit_it(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"the prompt 'a a a a a a' has 8 tokens, .* takes 6"):
        load_prior(str(folder), noise_level=LEVEL, prompt="a a a a a a")
    with pytest.raises(WeightsError, match=r"has no text_encoder/ and tokenizer/, which the prompt 'a' needs"):
        load_prior(str(compose(["method=ldm", "size=mini"], verb="eval").prior.path), noise_level=0, prompt="a")
    with pytest.raises(ConfigError, match=r"prior.random=true has no text encoder"):
        load_prior(random=True, prompt="a")
    with pytest.raises(ConfigError, match=r"method\.guidance_scale=0\.5"):
        latent.method("ldm", "method.guidance_scale=0.5")
