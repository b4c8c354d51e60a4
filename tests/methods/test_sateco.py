"""SATeCo's four stages: what each trains on what, what stays as it was, and what comes out in the end."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import latent
from vsrbench import train
from vsrbench.config import build, build_method, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.diffusion.objective import draw_timesteps
from vsrbench.diffusion.schedule import Schedule
from vsrbench.errors import ConfigError, RunError, WeightsError
from vsrbench.methods.sateco import module as training
from vsrbench.methods.sateco.guidance import predict
from vsrbench.methods.sateco.module import SATeCoModule
from vsrbench.methods.sateco.sampling import restore
from vsrbench.nn.colour import replace_low_band
from vsrbench.nn.functional import charbonnier
from vsrbench.training.stages import with_start
from vsrbench.types import Clip
from vsrbench.weights.trained import load_trained

STAGES = ["upscaler", "unet", "vae", "refiner"]
TRAINED = {
    "upscaler": {"upscaler"},
    "unet": {"latent_encoder", "unet_guidance"},
    "vae": {"vae_guidance"},
    "refiner": {"refiner"},
}


def method(*overrides: str, stage: str = "", size: str = "tiny") -> SATeCoModule:
    made: SATeCoModule = latent.module("sateco", *overrides, size=size)
    if stage:
        made.begin_stage(stage, lambda parameters: torch.optim.AdamW(parameters, lr=1e-2), Noise(0))
        made.train()
    return made


def awake(made: SATeCoModule) -> SATeCoModule:
    """With everything that starts at zero doing something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.method.networks.parameters():
            if not parameter.any():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return made


def clip(frames: int = 2, batch: int = 1, seed: int = 0) -> Clip:
    return latent.make_clip(frames, (16, 16), batch, seed)


def truth(sample: Clip) -> Tensor:
    assert sample.hr is not None
    return sample.hr


# --- what moves ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_moves_the_stages_own_parts_and_leaves_all_others_to_the_bit(stage: str) -> None:
    made = awake(method(stage=stage))
    before = {name: [p.clone() for p in part.parameters()] for name, part in made.parts().items()}
    optimiser = made.configure_optimizers()
    torch.stack(list(made.losses(clip(batch=2), Noise(0)).values())).sum().backward()
    optimiser.step()
    for name, part in made.parts().items():
        moved = [not torch.equal(old, new) for old, new in zip(before[name], part.parameters(), strict=True)]
        assert all(moved) if name in TRAINED[stage] else not any(moved), name


def test_the_stages_train_everything_but_the_prior_and_each_builds_on_the_one_before() -> None:
    made = method()
    assert {name: set(stage.trainable) for name, stage in made.stages.items()} == TRAINED
    assert [stage.needs for stage in made.stages.values()] == [(), ("upscaler",), ("unet",), ("vae",)]
    assert made.parts().keys() - set().union(*TRAINED.values()) == {"denoising_unet", "vae"}
    for part in ("denoising_unet", "vae"):
        assert not made.train().parts()[part].training or not made.stage


# --- stage 1 ---------------------------------------------------------------------------------------


def test_the_upscaler_learns_the_ground_truth() -> None:
    made, sample = method(stage="upscaler"), clip(batch=2)
    expected = ((made.method.networks.upscaler(sample.lr) - truth(sample)).square() + 1e-6).sqrt().mean()
    assert torch.allclose(made.losses(sample, Noise(0))["charbonnier"], expected)


# --- stage 2 ---------------------------------------------------------------------------------------


def test_at_the_start_the_unet_stage_has_the_priors_own_loss() -> None:
    """Noise prediction of latent diffusion [36], recomputed frame by frame with the frozen prior alone."""
    made, sample, noise = method(stage="unet"), clip(batch=2), Noise(7)
    prior = made.method.prior
    t = draw_timesteps(noise, sample, prior.schedule.length)
    errors = []
    for b, name in enumerate(sample.name):
        for i in range(sample.frames):
            z = prior.encode(truth(sample)[b, i][None])
            eps = noise.normal(tuple(z.shape[1:]), "eps", name, int(sample.index[b, i]))[None]
            output = prior.predict(prior.schedule.add_noise(z, eps, t[b : b + 1]), sample.lr[b, i][None], t[b : b + 1])
            errors.append(F.mse_loss(output, eps))
    assert prior.schedule.prediction_type == "epsilon"
    [(name, loss)] = made.losses(sample, noise).items()
    assert name == "prediction"
    assert torch.allclose(loss, torch.stack(errors).mean(), rtol=1e-4)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the guided networks are called with."""
    calls: dict[str, Any] = {}
    predict, decode = training.predict, training.decode

    def noting(prior: Any, guidance: Any, x: Tensor, t: Tensor, guides: Any, *rest: Any) -> Tensor:
        output = predict(prior, guidance, x, t, guides, *rest)
        calls.update(x=x, t=t, guides=guides, output=output)
        return output

    def decoding(prior: Any, guidance: Any, x: Tensor, features: Any, *rest: Any) -> Tensor:
        calls.update(latent=x, features=features)
        return decode(prior, guidance, x, features, *rest)

    monkeypatch.setattr(training, "predict", noting)
    monkeypatch.setattr(training, "decode", decoding)
    return calls


def encoder_features(made: SATeCoModule, frames: Tensor) -> list[Tensor]:
    """What leaves every level of the VAE encoder before it halves the size, taken from its own forward."""
    found: list[Tensor] = []
    encoder = made.method.prior.vae.encoder
    hooks = [b.resnets[-1].register_forward_hook(lambda m, a, out: found.append(out)) for b in encoder.down_blocks]
    encoder(2 * frames.flatten(0, 1) - 1)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("bridge", [False, True])
@torch.no_grad()
def test_the_unet_stage_is_guided_by_the_upscaled_clip_and_not_by_the_truth(bridge: bool, seen: dict[str, Any]) -> None:
    """Awake, so that guidance matters: its maps are those of the latent of X_u, whatever the ground truth is."""
    made, sample = awake(method(f"module.bridge={str(bridge).lower()}", stage="unet")), clip(batch=2)
    networks, prior = made.method.networks, made.method.prior
    losses = made.losses(sample, Noise(0))
    guides = networks.latent_encoder(prior.encode(networks.upscaler(sample.lr).flatten(0, 1)))
    for ours, expected in zip(seen["guides"], guides, strict=True):
        torch.testing.assert_close(ours, expected)
    leaked = networks.latent_encoder(prior.encode(truth(sample).flatten(0, 1)))
    assert not torch.allclose(leaked[0], guides[0], atol=1e-3), "the truth would be another guide"
    output = predict(prior, networks.unet_guidance, seen["x"], seen["t"], guides, sample.lr)
    wrong = predict(prior, networks.unet_guidance, seen["x"], seen["t"], leaked, sample.lr)
    torch.testing.assert_close(seen["output"], output)
    assert not torch.allclose(wrong, output, atol=1e-4) and all(loss.isfinite() for loss in losses.values())


@torch.no_grad()
def test_the_vae_stage_is_guided_by_the_upscaled_clip_and_decodes_the_truth(seen: dict[str, Any]) -> None:
    made, sample = awake(method(stage="vae")), clip(batch=2)
    networks = made.method.networks
    made.losses(sample, Noise(0))
    upscaled, hr = networks.upscaler(sample.lr), truth(sample)
    for ours, expected, leaked in zip(
        seen["features"], encoder_features(made, upscaled), encoder_features(made, hr), strict=True
    ):
        torch.testing.assert_close(ours, expected)
        assert not torch.allclose(leaked, expected, atol=1e-3)
    torch.testing.assert_close(seen["latent"].flatten(0, 1), made.method.prior.encode(hr.flatten(0, 1)))


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@torch.no_grad()
def test_the_bridge_shows_what_the_sampler_will_visit(
    step: int, seen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DDIM from the noised latent of the upscaled frame, with the ground truth's latent as every x0."""
    steps = ("sampler.steps=4", "sampler.strength=0.4")
    made, sample = method("module.bridge=true", "module.timesteps=0.41", *steps, stage="unet"), clip()
    schedule, sampler = made.method.prior.schedule, made.method.sampler
    visited = sampler.timesteps(schedule)
    monkeypatch.setattr(training, "draw_timesteps", lambda noise, clip, limit: torch.tensor([visited[step]]))
    made.losses(sample, Noise(0))
    start, x0 = (
        made.method.prior.encode(frames[0]) for frames in (made.method.networks.upscaler(sample.lr), truth(sample))
    )
    eps = torch.stack([Noise(0).normal(tuple(x0.shape[1:]), "eps", sample.name[0], i) for i in range(2)])
    x = schedule.add_noise(start, eps, visited[0])
    for earlier in range(step):
        x = sampler.update(schedule, x, x0, earlier, None, None)
    assert torch.allclose(seen["x"][0], x, atol=1e-4)


def test_decoded_terms_fit_a_prior_of_any_factor() -> None:
    made = method("module.objective.unet.pixel=1", stage="unet")
    assert made.method.prior.factor == 8
    assert set(made.losses(clip(), Noise(0))) == {"prediction", "pixel"}


def test_only_timesteps_below_the_share_are_drawn(seen: dict[str, Any]) -> None:
    made = method("module.timesteps=0.01", stage="unet")
    drawn = []
    for seed in range(6):
        made.losses(clip(batch=2, seed=10 * seed), Noise(seed))
        drawn += seen["t"].tolist()
    assert max(drawn) < 10 and len(set(drawn)) > 2


# --- stage 3 ---------------------------------------------------------------------------------------


def test_at_the_start_the_vae_stage_has_the_frozen_decoders_error(seen: dict[str, Any]) -> None:
    made, sample = method("module.objective.vae={pixel:2,features:0}", stage="vae"), clip(batch=2)
    frames = truth(sample).flatten(0, 1)
    expected = 2 * F.l1_loss(made.method.prior.decode(made.method.prior.encode(frames)), frames)
    terms = made.losses(sample, Noise(0))
    assert terms.keys() == {"pixel"} and torch.allclose(terms["pixel"], expected, rtol=1e-4)
    assert torch.allclose(seen["latent"].flatten(0, 1), made.method.prior.encode(frames), atol=1e-6)


def test_noise_on_the_latents_is_drawn_for_every_frame(seen: dict[str, Any]) -> None:
    made, sample = method("module.latent_noise=0.05", stage="vae"), clip()
    made.losses(sample, Noise(0))
    added = seen["latent"][0] - made.method.prior.encode(truth(sample)[0])
    assert added.std() == pytest.approx(0.05, rel=0.3)
    assert not torch.allclose(added[0], added[1])


def test_the_perceptual_term_is_named_and_weighted() -> None:
    made, sample = method("module.features=random_features", stage="vae"), clip()
    terms = made.losses(sample, Noise(0))
    decoded = made.method.prior.decode(made.method.prior.encode(truth(sample)[0]))
    assert made.feature_loss is not None
    assert torch.allclose(terms["features"], 0.1 * made.feature_loss(decoded, truth(sample)[0]), rtol=1e-3)


# --- stage 4 ---------------------------------------------------------------------------------------


class Shelf:
    """Stands in for a run's ``cache``."""

    def __init__(self) -> None:
        self.made: dict[str, Tensor] = {}
        self.asked: list[str] = []

    def __call__(self, key: str, make: Any) -> Tensor:
        self.asked.append(key)
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]


def test_the_refiner_starts_at_the_mean_of_its_inputs() -> None:
    made, sample = method(stage="refiner"), clip()
    upscaled, decoded = training.generate(made.method.run, sample, Noise(0))
    expected = charbonnier(0.5 * (upscaled + decoded) - truth(sample))
    assert torch.allclose(made.losses(sample, Noise(0))["charbonnier"], expected, rtol=1e-4)


def test_a_sampled_clip_is_made_once_for_every_sample_and_set_of_weights() -> None:
    made = awake(method(stage="refiner"))
    made.cache = shelf = Shelf()
    both, one = clip(batch=2), clip()
    first = made.losses(both, Noise(0))["charbonnier"]
    assert len(shelf.made) == 2
    assert made.losses(both, Noise(0))["charbonnier"].equal(first)
    made.losses(one, Noise(0))
    assert len(shelf.made) == 2, "the same sample in another batch"
    with torch.no_grad():
        made.method.networks.refiner.w = 0.1
        next(made.method.networks.refiner.parameters()).add_(1.0)
    made.begin_stage("refiner", None, Noise(0))
    made.losses(one, Noise(0))
    assert len(shelf.made) == 2, "the refiner did not make them"
    with torch.no_grad():
        next(made.method.networks.vae_guidance.parameters()).add_(1.0)
    made.begin_stage("refiner", None, Noise(0))
    made.losses(one, Noise(0))
    assert len(shelf.made) == 3, "other weights made others"
    assert len({key.split("/")[1] for key in shelf.made}) == 2


@pytest.mark.parametrize("setting", ["method.guidance.norm=layer", "method.guidance.window=2", "sampler.low_band=2"])
def test_the_same_weights_with_other_settings_make_another_sample(setting: str) -> None:
    one, other = awake(method(stage="refiner")), method(setting, stage="refiner")
    other.method.networks.load_state_dict(one.method.networks.state_dict())
    assert one.maker_hash() == awake(method(stage="refiner")).maker_hash()
    assert one.maker_hash() != other.maker_hash()


def test_another_crop_of_the_same_name_is_another_sample() -> None:
    made = method(stage="refiner")
    made.cache = shelf = Shelf()
    sample = clip()
    made.losses(sample, Noise(0))
    made.losses(Clip(sample.lr.flip(-1), truth(sample).flip(-1), sample.name, sample.index, 4), Noise(0))
    assert len(shelf.made) == 2


# --- upscaling -------------------------------------------------------------------------------------


def test_each_stage_is_judged_by_what_it_makes() -> None:
    made, sample = awake(method()), clip()
    upscaled, decoded = training.generate(made.method.run, sample, Noise(0))
    refined = made.method.networks.refiner(upscaled, decoded)
    for stage, expected in (("upscaler", upscaled), ("unet", decoded), ("vae", decoded), ("refiner", refined)):
        made = method(stage=stage)
        made.method.networks.load_state_dict(awake(method()).method.networks.state_dict())
        if stage in ("unet", "vae"):
            made.method.networks.refiner.load_state_dict(method().method.networks.refiner.state_dict())
        output = made.eval().upscale(sample, Noise(0))
        assert torch.allclose(output, expected.clamp(0, 1), atol=1e-5), stage


@pytest.mark.parametrize("frames", [2, 3])
def test_what_the_result_is_made_of_can_be_asked_for(frames: int) -> None:
    """X_u and X_d of Fig. 2: with one window as they are, blended with more; Eq. 5 without its network joins them."""
    sample, found = clip(frames), {}
    for result in ("upscaled", "decoded", "refined"):
        made = method(f"method.result={result}", "method.refiner.w=0.25")
        found[result] = restore(made.method.run, sample, Noise(0))
    joined = 0.25 * found["upscaled"] + 0.75 * found["decoded"]
    inside = torch.stack([(part > 0) & (part < 1) for part in found.values()]).all(dim=0)  # nothing was clamped there
    assert inside.float().mean() > 0.3 and torch.allclose(found["refined"][inside], joined[inside], atol=1e-5)
    if frames == 2:
        assert torch.allclose(found["upscaled"], made.method.networks.upscaler(sample.lr).clamp(0, 1), atol=1e-6)


@torch.no_grad()
def test_the_low_band_of_the_decoded_clip_is_the_upscaled_clips() -> None:
    made, sample = awake(method("sampler.low_band=2")), clip()
    upscaled, decoded = training.generate(made.method.run, sample, Noise(0))
    _, as_it_is = training.generate(awake(method()).method.run, sample, Noise(0))
    expected = replace_low_band(as_it_is.flatten(0, 1), upscaled.flatten(0, 1), 2.0)
    assert torch.allclose(decoded.flatten(0, 1), expected, atol=1e-4)
    assert not torch.allclose(decoded, as_it_is, atol=1e-2)


def test_a_chunk_equals_the_whole() -> None:
    made, sample = awake(method()), clip(frames=7)
    whole = made.upscale(sample, Noise(0))
    first, last = 2 - made.method.context, 5 + made.method.context
    part = made.upscale(sample.window(max(0, first), min(7, last)), Noise(0))
    assert torch.allclose(part[:, 2 - max(0, first) :][:, :3], whole[:, 2:5], atol=1e-5)


# --- settings --------------------------------------------------------------------------------------


def test_without_an_upscaler_to_train_the_first_stage_falls_away() -> None:
    made = method("method.upscaler.kind=bicubic")
    assert list(made.stages) == STAGES[1:] and made.stages["unet"].needs == ()
    with pytest.raises(Exception, match="unknown stage 'upscaler'"):
        made.begin_stage("upscaler", None, Noise(0))
    cfg = compose(["method=sateco", "size=tiny", "data=sample", "method.upscaler.kind=bicubic", "stage=upscaler"])
    with pytest.raises(ConfigError, match=r"stage=upscaler has nothing to train .* one of unet, vae, refiner"):
        with_start(cfg, None, resumed=False)


def test_an_unknown_stage_is_named_before_its_settings_are_looked_for() -> None:
    with pytest.raises(ConfigError, match="stage=decoder is not one of default, upscaler, unet, vae, refiner, all"):
        compose(["method=sateco", "size=tiny", "data=sample", "stage=decoder"])


@pytest.mark.parametrize(("stage", "terms"), [("unet", "prediction or x0 or"), ("vae", "pixel or features")])
def test_a_stage_without_any_loss_is_refused(stage: str, terms: str) -> None:
    made = method(*(f"module.objective.{stage}.{term}=0" for term in training.WEIGHTS[stage]))
    with pytest.raises(ConfigError, match=rf"module\.objective\.{stage} has no weight above 0: give one to {terms}"):
        made.begin_stage(stage, None, Noise(0))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("features=lpips", r"module\.features=lpips: use lpips_vgg or random_features"),
        ("timesteps=0", r"module\.timesteps=0: give a number above 0 to 1"),
        ("latent_noise=-1", r"module\.latent_noise=-1: give a number from 0"),
        ("refiner.w=half", r"method\.refiner\.w=half: use a number"),
        ("refiner.w=null", r"method\.refiner\.w=None: use a number"),
        ("refiner.width=0", r"method\.refiner\.width=0: use 1 or more"),
        ("encoder.blocks=0", r"method\.encoder\.blocks=0: use 1 or more"),
        ("guidance.vae=none", r"method\.guidance\.vae=none: use zero_conv, sfa or sfa_tfa"),
        ("guidance.tfa_kernel=3", r"method\.guidance\.tfa_kernel=3: use three odd numbers"),
        ("guidance.tfa_kernel=[1,1]", r"method\.guidance\.tfa_kernel=\[1, 1\]: use three odd numbers"),
        ("upscaler.heads=0", r"method\.upscaler\.heads=0: use 1 or more"),
        ("upscaler.features=0", r"method\.upscaler\.features=0: use 1 or more"),
        ("upscaler.window=[2,8]", r"method\.upscaler\.window=\[2, 8\]: .* use \[2,h,w\]"),
        ("upscaler.window=[2,0,8]", r"method\.upscaler\.window=\[2, 0, 8\]: .* use \[2,h,w\]"),
        ("result=x_h", r"method\.result=x_h: use refined, decoded or upscaled"),
        ("objective.unet={noise:1}", r"module\.objective\.unet has no noise; it has prediction, x0, pixel, gradient"),
        ("objective.vae={lpips:1}", r"module\.objective\.vae has no lpips; it has pixel, features"),
        ("+objective.refiner={pixel:1}", r"module\.objective has no refiner; it has unet, vae"),
    ],
)
def test_unknown_settings_are_named(setting: str, message: str) -> None:
    plus = "+" if setting.startswith("+") or setting.startswith("objective.") else ""
    node = message.partition("\\")[0]
    with pytest.raises(ConfigError, match=message):
        method(f"{plus * 2 if plus and not setting.startswith('+') else plus}{node}.{setting.removeprefix('+')}")


def test_the_schedule_of_stable_diffusion_and_the_trap_beside_it() -> None:
    """ "linear" of the paper is latent diffusion's name; diffusers' own "linear" is another schedule."""
    settings = dict(compose(["method=sateco", "size=paper"], verb="eval").prior.scheduler)
    assert Schedule(**settings).alphas_cumprod[999].item() == pytest.approx(0.0046601, abs=1e-7)
    trap = Schedule(**{**settings, "beta_schedule": "linear"})
    assert trap.alphas_cumprod[999].item() == pytest.approx(0.00157896, abs=1e-8)


def test_the_papers_values_are_the_defaults_at_size_paper() -> None:
    for stage in STAGES:
        cfg = compose(["method=sateco", "size=paper", f"stage={stage}"])
        assert (cfg.optimiser._target_, cfg.optimiser.lr, cfg.train.frames) == ("torch.optim.AdamW", 5e-5, 6)
    assert (cfg.method.refiner.w, cfg.method.guidance.window, cfg.method.init) == (0.5, 8, "identity")
    assert compose(["method=sateco", "size=paper", "prior=sd15"]).prior.unet.cross_attention_dim == 768
    for recipe, data in (("reds", "reds"), ("vimeo", "vimeo")):
        cfg = compose(["method=sateco", "size=paper", f"recipe=sateco/{recipe}", "stage=unet"])
        assert cfg.data.set == data and 4 * cfg.train.crop <= (256 if data == "vimeo" else 720)


@pytest.mark.slow
def test_parameters_at_paper_size() -> None:
    """Counted by hand from the shapes (SFA 2(k^2 C^2 + C), TFA 8 C^2 + 8 C), and the published sizes of the prior."""
    from vsrbench.benchmarks.shapes import on_meta

    with torch.device("meta"):
        made = build(on_meta("sateco", "paper", "paper").method)
    found = {
        name: sum(p.numel() for m in modules for p in m.parameters())
        for name, modules in made.parameter_groups().items()
    }
    assert found["denoising U-Net"] == 865_910_724 and found["VAE"] == 83_653_863
    assert found["SFA (UNet)"] == sum(2 * (9 * c * c + c) for c in (320, 640, 1280, 1280))
    assert found["TFA (UNet)"] == sum(8 * (c * c + c) for c in (320, 640, 1280, 1280))
    assert found["SFA (VAE)"] == 10_914_560 and found["TFA (VAE)"] == 4_860_928
    assert found["latent encoder E_z"] == 79_395_200


# --- cost ------------------------------------------------------------------------------------------


def test_the_units_of_work_run_and_cover_every_part() -> None:
    made = method()
    work = made.method.work(clip(frames=5))
    assert list(work) == [
        "video upscaler", "VAE encoder", "latent encoder E_z", "denoising U-Net", "SFA and TFA (UNet)", "VAE decoder",
        "SFA and TFA (VAE)", "video refiner",
    ]  # fmt: skip
    for unit in work.values():
        unit.run()
    # windows of 2 frames that share one: 4 windows, 8 frames of work for 5
    assert work["VAE encoder"].per_frame == pytest.approx(8 / 5)
    assert work["denoising U-Net"].per_frame == pytest.approx(2 * 8 / 5)
    assert work["SFA and TFA (UNet)"].per_frame == pytest.approx(2 * 4 / 5)


# --- runs ------------------------------------------------------------------------------------------


def arguments(runs: Path, *overrides: str) -> list[str]:
    return [
        "method=sateco", "size=tiny", "data=sample", "trainer=cpu", f"runs={runs}", "trainer.max_steps=1",
        "train.effective_batch=1", "validation.every=0", "validation.clips=1", "validation.frames=2", "data.workers=0",
        *overrides,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the last stage, after all four by one command."""
    folder = train.run(compose(arguments(tmp_path_factory.mktemp("runs"), "stage=all"), verb="train"))
    assert folder is not None
    return folder


def test_the_last_checkpoint_upscales_with_what_all_stages_trained(finished: Path) -> None:
    made, start = method(), method()
    load_trained(made, str(finished))
    for part in set().union(*TRAINED.values()):
        pairs = zip(made.parts()[part].parameters(), start.parts()[part].parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs), part
    state = {key: value.half() for key, value in made.trained_state().items()}
    other = method()
    other.load_trained_state({key: value.float() for key, value in state.items()})
    assert (other.upscale(clip(), Noise(0)) - made.upscale(clip(), Noise(0))).abs().max() < 0.05


def test_weights_of_an_earlier_stage_say_what_they_lack(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vae = next(f.parent for f in finished.parent.glob("*/result.json") if '"stage": "vae"' in f.read_text())
    build_method(compose(["method=sateco", "size=tiny", f"ckpt_path={vae}"], verb="eval"))
    assert f"note: {vae} holds nothing of stage=refiner: that part is as it starts" in capsys.readouterr().err
    build_method(compose(["method=sateco", "size=tiny", f"ckpt_path={finished}"], verb="eval"))
    assert "note:" not in capsys.readouterr().err


def test_sampled_clips_stay_on_disk(finished: Path) -> None:
    kept = list((finished.parent / "kept" / "sateco").glob("*/*.safetensors"))
    assert len(kept) == 1, "one sample, one set of weights"


def test_a_row_of_table_3_takes_the_stages_before_from_another_run(finished: Path) -> None:
    vae = next(f.parent for f in finished.parent.glob("*/result.json") if '"stage": "vae"' in f.read_text())
    runs = finished.parent
    with pytest.raises(RunError, match="stage=refiner starts from the run of stage=vae"):
        train.run(compose(arguments(runs, "stage=refiner", "method.refiner.w=1.0"), verb="train"))
    folder = train.run(
        compose(arguments(runs, "stage=refiner", "method.refiner.w=1.0", f"ckpt_path={vae}"), verb="train")
    )
    assert folder is not None and folder != finished
    assert len(list((runs / "kept" / "sateco").glob("*/*.safetensors"))) == 1, "X_d does not depend on w"


def test_another_prior_is_refused(finished: Path) -> None:
    made = method()
    with torch.no_grad():
        next(made.method.prior.unet.parameters()).add_(1.0)
    with pytest.raises(WeightsError, match="beside another denoising_unet"):
        load_trained(made, str(finished))


def test_killed_in_the_third_stage_and_resumed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights are those of the run that nothing happened to."""
    losses = SATeCoModule.losses

    def killed(self: SATeCoModule, *args: Any) -> dict[str, Tensor]:
        if self.stage == "vae":
            raise KeyboardInterrupt
        return losses(self, *args)

    monkeypatch.setattr(SATeCoModule, "losses", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train.run(compose(arguments(tmp_path, "stage=all"), verb="train"))
    assert len(list(tmp_path.glob("*/result.json"))) == 2
    monkeypatch.setattr(SATeCoModule, "losses", losses)
    capsys.readouterr()
    folder = train.run(compose(arguments(tmp_path, "stage=all"), verb="train"))
    assert capsys.readouterr().out.count("finished at step 1") == 2
    assert folder is not None
    ours, theirs = (
        torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (folder, finished)
    )
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_kept_parts_are_modules_of_their_own() -> None:
    parts = method().parts()
    shared = [id(p) for part in parts.values() for p in part.parameters()]
    assert len(shared) == len(set(shared))
    assert all(isinstance(part, nn.Module) for part in parts.values())
