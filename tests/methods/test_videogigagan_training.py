"""VideoGigaGAN's stages and optimiser steps at size tiny: what moves, what is skipped, how a stopped run goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

import latent
from training_fakes import same
from vsrbench import config, train
from vsrbench.config import build, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, RunError, TrainingError, WeightsError
from vsrbench.flow.trained import flow_error
from vsrbench.methods.videogigagan.guard import DEAD, KNOWN, WINDOW, Guard, norm, worst
from vsrbench.methods.videogigagan.losses import Objective, discriminator_loss, gradient_penalty
from vsrbench.methods.videogigagan.model import LADDER
from vsrbench.methods.videogigagan.module import VideoGigaGANModule
from vsrbench.nn.perceptual import RandomFeatures
from vsrbench.training.checkpoint import RunCheckpoint
from vsrbench.training.loggers import read_metrics
from vsrbench.types import Clip
from vsrbench.weights.trained import load_trained


def method(*overrides: str, stage: str = "video", lr: float = 2e-3, betas: tuple[float, float] = (0.0, 0.99)) -> Any:
    """The training at the start of a stage."""
    made = latent.module("videogigagan", *overrides)
    optimiser = lambda parameters: torch.optim.Adam(parameters, lr=lr, betas=betas)  # noqa: E731
    if stage:
        made.begin_stage(stage, optimiser, Noise(0))
        made.train()
    return made


def awake(made: VideoGigaGANModule) -> VideoGigaGANModule:
    """With everything that starts at zero doing something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in (*made.method.generator.parameters(), *made.discriminator.parameters()):
            if not parameter.any():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


def clip(frames: int = 3, batch: int = 1, size: int = 16, seed: int = 0) -> Clip:
    return latent.make_clip(frames, (size, size), batch, seed)


class Steps:
    """Stands in for the Trainer: makes optimiser steps of a method on given clips."""

    class Optimiser:
        def __init__(self, steps: "Steps", optimiser: torch.optim.Optimizer) -> None:
            self.steps, self.optimizer = steps, optimiser
            self.param_groups, self.zero_grad = optimiser.param_groups, optimiser.zero_grad

        def step(self) -> None:
            self.optimizer.step()
            self.steps.count += 1

    def __init__(self, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.method, self.count = made, 0
        self.optimisers = [Steps.Optimiser(self, o) for o in made.configure_optimizers()]
        self.model = nn.Module()
        patched = type("Patched", (type(made),), {"global_step": property(lambda _: self.count)})
        monkeypatch.setattr(made, "__class__", patched)
        for name, value in {
            "optimizers": lambda: self.optimisers,
            "lr_schedulers": lambda: None,
            "manual_backward": lambda loss: loss.backward(),
        }.items():
            monkeypatch.setattr(made, name, value, raising=False)
        monkeypatch.setattr(type(made), "trainer", property(lambda _: self), raising=False)

    def __call__(self, *clips: Clip) -> None:
        self.method.accumulate = len(clips)
        for number, one in enumerate(clips):
            self.method.training_step(one, number)


@pytest.fixture
def stepper(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Steps]:
    return lambda made: Steps(made, monkeypatch)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


# --- one step --------------------------------------------------------------------------------------


def test_one_backward_pass_gives_both_networks_their_own_gradients(stepper: Callable[[Any], Steps]) -> None:
    """The same as differentiating the generator's terms and the discriminator's loss on their own."""
    made = awake(method("module.objective.propagation_clip=null"))
    sample = clip(batch=2)
    fake = made.method.generate(sample, made.noise)
    terms = made.output_terms(fake, sample.hr, made.logits_of(fake, sample))
    ours = torch.autograd.grad(sum(terms.values()), list(made.method.generator.parameters()))
    real, false = made.logits_of(sample.hr, sample), made.logits_of(fake.detach(), sample)
    penalty = gradient_penalty(lambda x: made.logits_of(x, sample, scaled=True), 2 * sample.hr - 1)
    loss = discriminator_loss(real, false) + 0.2048 / 2 * 16 * penalty  # step 0 carries R1
    theirs = torch.autograd.grad(loss, list(made.discriminator.parameters()))
    stepper(made)
    made.add_batch(sample, last=True)
    for found, parameters in ((ours, made.method.generator.parameters()), (theirs, made.discriminator.parameters())):
        for gradient, parameter in zip(found, parameters, strict=True):
            assert torch.allclose(gradient, parameter.grad, rtol=1e-3, atol=1e-5)


def test_checkpointing_changes_no_gradient(stepper: Callable[[Any], Steps]) -> None:
    """Also not in a step with R1, and with the discriminator's graph used twice."""
    found = []
    for on in ("false", "true"):
        settings = [f"{part}.checkpointing={on}" for part in ("module", "method.generator", "method.front")]
        made = awake(method(*settings))
        stepper(made)
        made.add_batch(clip(batch=2), last=True)
        found.append([p.grad for p in (*made.method.generator.parameters(), *made.discriminator.parameters())])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("row", LADDER)
def test_every_parameter_of_every_row_gets_a_gradient(row: str, stepper: Callable[[Any], Steps]) -> None:
    made = awake(method(f"method.ladder={row}"))
    has_front = any(name.startswith("method.generator.front") for name, _ in made.named_parameters())
    has_time = any(".temporal." in name for name, _ in made.named_parameters())
    assert (has_front, has_time) == (LADDER[row]["propagation"], LADDER[row]["temporal"])
    stepper(made)
    made.add_batch(clip(batch=2), last=True)
    networks = [*made.method.generator.named_parameters(), *made.discriminator.named_parameters()]
    assert [name for name, p in networks if p.grad is None] == []
    # nothing depends on what a softmax or a later average cancels
    dead = [name for name, p in networks if not p.grad.any()]
    assert len(dead) < 0.03 * len(networks), dead


def test_image_stage_has_no_parts_for_video_and_uses_every_other(stepper: Callable[[Any], Steps]) -> None:
    made = method(stage="image")
    names = [name for name, _ in made.named_parameters()]
    assert not [name for name in names if ".front." in name or ".temporal." in name or ".stem_features." in name]
    step = stepper(made)
    step(clip())
    step(clip())
    assert step.count == 2 and made.terms.keys() == {"pixel", "random_features", "gan"}


def test_a_parameter_without_use_is_an_error_that_says_so(stepper: Callable[[Any], Steps]) -> None:
    made = method()
    made.method.generator.surplus = nn.Parameter(torch.zeros(1))
    with pytest.raises(TrainingError, match="1 parameters of the generator took no part in stage=video"):
        stepper(made)(clip())


def test_discriminator_rests_for_the_first_steps_of_the_image_stage(stepper: Callable[[Any], Steps]) -> None:
    made = method("module.objective.pixel_steps=2", stage="image")
    step, before = stepper(made), state(made.discriminator)
    for _ in range(2):
        step(clip())
        assert made.terms.keys() == {"pixel", "random_features"}
    assert same(state(made.discriminator), before)
    assert not step.optimisers[1].optimizer.state, "its moments do not begin either"
    step(clip())
    assert not same(state(made.discriminator), before)
    assert made.terms.keys() == {"pixel", "random_features", "gan"}


def test_penalty_comes_at_every_so_many_th_step_whatever_happened_before() -> None:
    made = method("module.objective.r1_every=3")
    assert [step for step in range(8) if made.penalised(step)] == [0, 3, 6]
    made = method("module.objective.r1_every=3", "module.objective.pixel_steps=4", stage="image")
    assert [step for step in range(10) if made.penalised(step)] == [6, 9]
    assert made.objective.r1_weight == pytest.approx(0.2048 / 2 * 3)
    assert method("module.objective.r1_half=false").objective.r1_weight == pytest.approx(0.2048 * 16)


def test_flow_network_waits_and_then_moves_slower(stepper: Callable[[Any], Steps]) -> None:
    made = method("module.objective.flow_hold=2", "module.objective.flow=1.0")
    ours, theirs = made.configure_optimizers()
    assert [g["lr"] for g in ours.param_groups] == [2e-3, 0.25 * 2e-3]
    assert theirs.param_groups[0]["lr"] == 2e-3
    step, before = stepper(made), state(made.method.generator.front.flow)
    for _ in range(2):
        step(clip())
        assert same(state(made.method.generator.front.flow), before)
    step(clip())
    assert not same(state(made.method.generator.front.flow), before)
    assert "flow" in made.terms


def test_size_paper_trains_with_what_the_paper_prints() -> None:
    """Sec. 4.1 for Eq. 2's weights, rate, clips and steps; StyleGAN2 and GigaGAN for what it leaves to them."""
    cfg = compose(["method=videogigagan", "size=paper", "data=sample", "stage=video"])
    objective = Objective.of(OmegaConf.to_container(cfg.module.objective))
    assert (objective.gan, objective.r1, objective.features, objective.pixel) == (0.05, 0.2048, 5.0, 10.0)
    assert (objective.r1_every, objective.r1_half) == (16, True) and objective.r1_weight == 0.2048 / 2 * 16
    assert (objective.flow, objective.flow_rate, objective.flow_hold) == (0.0, 0.25, 5000)
    assert (cfg.optimiser._target_, cfg.optimiser.lr) == ("torch.optim.Adam", 5e-5)
    assert list(cfg.optimiser.betas) == [0.0, 0.99] and cfg.schedule is None, "a fixed rate"
    assert (cfg.train.crop, cfg.train.frames, cfg.train.effective_batch, cfg.trainer.max_steps) == (64, 10, 32, 100_000)
    assert cfg.module.features == "lpips_vgg" and cfg.ema.decay == 0.999
    module = method("module.objective.image_rate=1")
    module.optimiser = build(cfg.optimiser)
    module.stage = "video"
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in module.configure_optimizers()]
    assert rates == [[5e-5, 5e-5 * 0.25], [5e-5]], "both networks, and the flow network at a quarter"


def test_terms_are_weighted_as_equation_2_says() -> None:
    module, sample = method(), clip()
    frames, logits = sample.hr * 0.9 + 0.02, torch.randn(1, sample.frames)
    terms = module.output_terms(frames, sample.hr, logits)
    charbonnier = ((frames - sample.hr).square() + 1e-12).sqrt().mean()
    torch.testing.assert_close(terms["pixel"], 10 * charbonnier)
    torch.testing.assert_close(terms["gan"], 0.05 * F.softplus(-logits).mean())
    similar = RandomFeatures()(frames.flatten(0, 1), sample.hr.flatten(0, 1))
    torch.testing.assert_close(terms["random_features"], 5 * similar)


def test_image_stage_has_its_own_learning_rate() -> None:
    made = method(stage="image")
    assert {g["lr"] for o in made.configure_optimizers() for g in o.param_groups} == {4e-3}


def test_gradients_are_clipped_network_by_network(
    stepper: Callable[[Any], Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = method("module.objective.propagation_clip=1e-4")
    made.gradient_clip_val = 0.5
    kept: dict[str, float] = {}

    def look(*args: Any, **kwargs: Any) -> None:
        kept.update({name: float(norm([p.grad for p in group])) for name, group in made.groups().items()})

    monkeypatch.setattr(made, "move", look)
    step = stepper(awake(made))
    step(clip())
    assert kept["propagation"] <= 1.01e-4
    assert kept["generator"] == pytest.approx(0.5, rel=1e-2) and kept["discriminator"] <= 0.51


# --- steps that are not made -----------------------------------------------------------------------


class Broken(nn.Module):
    """A feature loss whose value or gradient is not finite at the second call."""

    def __init__(self, gradient: bool) -> None:
        super().__init__()
        self.gradient, self.calls = gradient, 0

    def forward(self, output: Tensor, truth: Tensor) -> Tensor:
        self.calls += 1
        if self.calls != 2:
            return (output - truth).square().mean()
        if self.gradient:
            return (output - output.detach()).abs().sum().sqrt()  # 0, with an infinite slope
        return output.sum() * float("nan")


class Louder(nn.Module):
    """A loss ten thousand times as large."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Tensor, truth: Tensor) -> Tensor:
        return 1e4 * self.loss(output, truth)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_step_that_is_not_finite_is_skipped_counted_and_named(
    gradient: bool, stepper: Callable[[Any], Steps], capsys: pytest.CaptureFixture[str]
) -> None:
    made = method()
    made.feature_loss = Broken(gradient)
    step = stepper(made)
    step(clip(), clip(seed=1))  # the second batch is the broken one
    what = "gradient of random_features" if gradient else "random_features"
    assert made.skipped == {what: 1}
    assert f"step 1 skipped: {what} is not finite (clips clip#1)" in capsys.readouterr().out
    assert float(made.observed["skipped"]) == 1
    assert step.count == 1, "the step counts: the next one has other data"
    fresh = method()
    assert same(state(made.method.generator), state(fresh.method.generator))
    assert same(state(made.discriminator), state(fresh.discriminator))
    step(clip())
    assert made.skipped == {what: 1}
    assert all(value.isfinite().all() for value in state(made).values())
    assert not same(state(made.method.generator), state(fresh.method.generator))


def test_a_step_with_a_gradient_spike_is_skipped(
    stepper: Callable[[Any], Steps], capsys: pytest.CaptureFixture[str]
) -> None:
    made = method("method.ladder=base", stage="image")
    step = stepper(made)
    step(clip())
    step(clip())
    for values in made.guard.history.values():
        values.extend([values[-1]] * KNOWN)
    before = state(made.method.generator)
    made.feature_loss = Louder(made.feature_loss)
    step(clip())
    assert made.skipped == {"random_features": 1}
    assert "step 3 skipped: random_features is" in capsys.readouterr().out
    assert same(state(made.method.generator), before)


def test_a_generator_that_is_lost_ends_the_run_and_leaves_the_checkpoints_of_before(
    stepper: Callable[[Any], Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DEAD, True, 3)
    made = method()
    trainer = cast(Any, SimpleNamespace(global_step=4, max_steps=9, lightning_module=made))
    checkpoint = RunCheckpoint(every=2, monitor="val/psnr_y", mode="max")
    assert checkpoint._due(trainer)
    step, broken = stepper(made), Broken(gradient=False)
    made.feature_loss = broken
    step(clip())
    for skipped in (1, 2):
        broken.calls = 1
        step(clip())
        assert made.skipped_in_a_row == skipped and not checkpoint._due(trainer)
    step(clip())
    assert made.skipped_in_a_row == 0 and checkpoint._due(trainer)
    made.skipped_in_a_row, broken.calls = 2, 1
    with pytest.raises(TrainingError, match="3 steps in a row were skipped, the last because random_features is not"):
        step(clip())


def test_guard_names_the_cause_and_follows_a_value_that_has_risen_for_good() -> None:
    guard = Guard(factor=10)
    for _ in range(KNOWN):
        assert guard.verdict({"loss": 1.0, "gradient": 2.0}) is None
    assert guard.verdict({"loss": 9.0, "gradient": 19.0}) is None
    assert guard.verdict({"loss": 1.0, "gradient": 21.0}) == ("gradient", "is 21, its median 2")
    assert guard.verdict({"loss": 11.0, "gradient": 21.0})[0] == "loss", "what comes first is the cause"
    assert guard.verdict({"loss": 11.0, "gradient": float("inf")}) == ("gradient", "is not finite")
    assert guard.verdict({"loss": 1.0, "gradient": 21.0}, {"gradient": 25.0}) is None, "it is shortened to 25 anyway"
    assert guard.verdict({"loss": 1.0, "gradient": 26.0}, {"gradient": 25.0}) is not None
    skipped = sum(guard.verdict({"loss": 50.0, "gradient": 2.0}) is not None for _ in range(WINDOW))
    assert 0 < skipped < WINDOW
    assert guard.verdict({"loss": 50.0, "gradient": 2.0}) is None


def test_guard_is_quiet_at_first_and_about_zeros_and_goes_on_from_a_file(tmp_path: Path) -> None:
    guard = Guard()
    assert [guard.verdict({"a": 10.0**n}) for n in range(KNOWN)] == [None] * KNOWN
    zeros = Guard()
    for _ in range(2 * KNOWN):
        assert zeros.verdict({"a": 0.0}) is None
    assert zeros.verdict({"a": 5.0}) is None, "a term that begins is no spike"
    torch.save(guard.state_dict(), tmp_path / "guard")
    other = Guard()
    other.load_state_dict(torch.load(tmp_path / "guard", weights_only=True))
    assert other.history == guard.history


def test_worst_of_all_ranks_has_no_nan() -> None:
    found = worst({"a": torch.tensor(float("nan")), "b": torch.tensor(2.0), "c": -float("inf")}, torch.device("cpu"))
    assert found == {"a": float("inf"), "b": 2.0, "c": float("inf")}


# --- stages ----------------------------------------------------------------------------------------


def arguments(runs: Path, name: str, *overrides: str) -> list[str]:
    """What `train` would be given for a few steps on the sample data."""
    short = ["validation.clips=1", "validation.frames=2", "validation.strips=0", "checkpoint.every=1"]
    common = ["method=videogigagan", "size=tiny", "data=sample", "data.workers=0", "trainer.accelerator=cpu"]
    return [*common, *short, "trainer.log_every_n_steps=1", f"runs={runs}", f"name={name}", *overrides]


def trained(runs: Path, name: str, *overrides: str) -> Path:
    train.run(config.compose(arguments(runs, name, *overrides)))
    return runs / name


def content(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"), "image", "stage=image", "train.frames=1", "trainer.max_steps=2")


def test_video_model_starts_as_the_image_model(image_run: Path) -> None:
    sample, noise = clip(frames=4, batch=2), Noise(3)
    image = method("method.ladder=base", "method.down=blur", "method.shuttle=hf", stage="")
    video = method(stage="")
    for made in (image, video):
        load_trained(made, str(image_run))
    assert torch.equal(image.upscale(sample, noise), video.upscale(sample, noise))
    judged = [made.discriminator(2 * sample.hr - 1) for made in (image, video)]
    assert torch.equal(*judged)
    assert image.method.context == 0 and video.method.context > 0


def test_weights_that_lack_more_than_the_parts_for_video_are_refused(image_run: Path) -> None:
    weights = content(image_run)["state_dict"]
    made = method(stage="")
    with pytest.raises(WeightsError, match=r"1 missing \['mapping.layers.0.bias'\]"):
        made.load_trained_state({k: v for k, v in weights.items() if k != "generator.mapping.layers.0.bias"})
    half = made.trained_state() | {k: v for k, v in weights.items() if k.startswith("discriminator")}
    with pytest.raises(WeightsError, match=r"1 missing \['front\.fusion\.bias'\]"):
        made.load_trained_state({k: v for k, v in half.items() if k != "generator.front.fusion.bias"})


def test_a_discriminator_of_another_crop_is_no_matter_for_upscaling_but_for_training(image_run: Path) -> None:
    sample, noise = clip(frames=2), Noise(3)
    found = []
    for crop in (16, 8):
        made = method(f"train.crop={crop}", stage="")
        load_trained(made, str(image_run))
        found.append(made.upscale(sample, noise))
    assert torch.equal(*found)
    optimiser = lambda parameters: torch.optim.Adam(parameters)  # noqa: E731
    with pytest.raises(WeightsError, match=r"trained with train\.crop=16, here it is 8"):
        made.begin_stage("video", optimiser, Noise(0))


def test_samples_of_another_crop_than_the_discriminators_are_refused(stepper: Callable[[Any], Steps]) -> None:
    step = stepper(method("module.crop=8"))
    with pytest.raises(TrainingError, match=r"module\.crop=8, but samples have 16 LR pixels"):
        step(clip())


def test_video_stage_wants_an_image_model_and_no_fp16(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"give ckpt_path=RUN of a run with stage=image, .*or module\.from_scratch=true"):
        trained(tmp_path, "video", "stage=video", "trainer.max_steps=1")
    made = method(stage="image")
    made._trainer = type("T", (), {"precision": "16-mixed"})()
    with pytest.raises(ConfigError, match="bf16-mixed"):
        made.on_fit_start()


def test_video_stage_wants_more_than_one_frame(stepper: Callable[[Any], Steps]) -> None:
    step = stepper(method())
    with pytest.raises(TrainingError, match=r"set train\.frames=2 or more"):
        step(clip(frames=1))
    stepper(method("method.ladder=temporal"))(clip(frames=1))  # nothing there needs a neighbour


def test_unknown_settings_are_named() -> None:
    for overrides, text in (
        (("method.ladder=half",), "method.ladder=half: use base, temporal, propagation, antialias or hf"),
        (("method.z=zero",), "method.z=zero: use random or mean"),
        (("method.chunk=0",), "method.chunk=0: use a whole number from 1"),
        (("method.mirror=1",), "method.mirror=1: use a whole number from 2"),
        (("+module.objective.lpips=5",), "module.objective has no lpips; it has .*features"),
        (("method.front.flow_net=raft",), "method.front.flow_net=raft: use spynet or pyramid"),
        (("train.crop=20",), "not 80: set train.crop"),
        (("method.chunk=all",), "method.chunk=all: use a whole number from 1"),
        (("method.max_context=-1",), "method.max_context=-1: use a whole number from 0"),
        (("method.generator.experts=0",), "method.generator.experts=0: use a whole number from 1"),
        (("method.generator.decoder_blocks=[1,0,1,1,1]",), "method.generator.decoder_blocks=.*for each"),
        (("method.front.groups=0",), "method.front.groups=0"),
        (("method.front.groups=3",), "method.front.groups=3: 2 x 8 channels must divide"),
        (("method.front.alignment=conv",), "method.front.alignment=conv: use dcn or warp"),
        (("+module.discriminator.deep={17:3}",), r"module.discriminator.deep at \[17\] pixels: use 8, 16, 32"),
        (("module.discriminator.attention=[4]",), r"module.discriminator.attention at \[4\] pixels"),
        (("module.discriminator.heads=0",), "module.discriminator.heads=0"),
        (("module.discriminator.heads=99",), "module.discriminator.heads=99: use at most the 16 channels at 8 pixels"),
        (("module.discriminator.widths=[]",), r"module.discriminator.widths=\[\]"),
        (("module.objective.r1=-1",), "module.objective.r1=-1: use 0 or more"),
        (("module.objective.r1_every=0",), "module.objective.r1_every=0: use a whole number from 1"),
    ):
        with pytest.raises(ConfigError, match=text):
            method(*overrides, stage="")
    with pytest.raises(ConfigError, match="stem=concat"):
        method("method.generator.stem=replace", stage="image")


# --- runs ------------------------------------------------------------------------------------------


def test_a_resumed_run_equals_an_uninterrupted_one(
    image_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both optimisers, average, R1's phase, the guard's medians, random states, logged numbers."""
    settings = ["stage=video", f"ckpt_path={image_run}", "module.objective.r1_every=2", "trainer.max_steps=3"]
    whole = trained(tmp_path, "whole", *settings)
    plain, count = VideoGigaGANModule.training_step, [0]

    def interrupted(self: VideoGigaGANModule, batch: Clip, batch_idx: int) -> None:
        plain(self, batch, batch_idx)
        count[0] += 1
        if count[0] == 3:  # within the second step
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(VideoGigaGANModule, "training_step", interrupted)
    with pytest.raises(SystemExit):
        trained(tmp_path, "parts", *settings)
    assert content(tmp_path / "parts")["global_step"] == 1
    monkeypatch.undo()
    parts = trained(tmp_path, "parts", *settings)
    ours, theirs = content(parts), content(whole)
    assert ours["global_step"] == 3 and len(ours["optimizer_states"]) == 2
    for key in ("state_dict", "ema", "optimizer_states", "gan", "random", "global_step", "vsrbench"):
        assert same(ours[key], theirs[key]), key
    assert {key.split(".")[0] for key in ours["ema"]["shadow"]} == {"generator"}
    assert {key.split(".")[0] for key in ours["state_dict"]} == {"generator", "discriminator"}
    curves = [
        [{k: v for k, v in row.items() if "perf/" not in k} for row in read_metrics(f / "metrics.csv")]
        for f in (whole, parts)
    ]
    assert curves[0] == curves[1]
    expected = {"loss_pixel", "loss_gan", "loss_random_features", "loss_discriminator", "r1", "ema_distance", "skipped"}
    expected |= {f"gradient_norm_{part}" for part in ("generator", "propagation", "discriminator")}
    assert {f"train/{name}" for name in expected} <= curves[0][0].keys()


def test_one_step_of_lightning_is_one_step_of_both_optimisers(image_run: Path) -> None:
    stored = content(image_run)
    assert stored["global_step"] == 2
    steps = [{int(s["step"]) for s in o["state"].values()} for o in stored["optimizer_states"]]
    assert steps == [{2}, {1}], "the discriminator began one step later (pixel_steps=1)"


def test_some_steps_of_the_real_command_bring_the_pixel_loss_down(tmp_path: Path) -> None:
    folder = trained(
        tmp_path, "run", "stage=image", "debug=overfit", f"runs={tmp_path}", "trainer.max_steps=40", "train.crop=8",
        "train.frames=1", "train.batch=2", "module.objective.pixel_steps=20", "optimiser.lr=2e-3",
    )  # fmt: skip
    losses = [float(row["train/loss_pixel"]) for row in read_metrics(folder / "metrics.csv") if row["train/loss_pixel"]]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_two_processes_under_plain_ddp_equal_one(tmp_path: Path) -> None:
    """Plain ddp looks for no unused parameters: it stops at the second step where one got no gradient."""
    settings = ("stage=video", "module.from_scratch=true", "module.objective.r1_every=2", "train.effective_batch=4")
    one = trained(tmp_path, "one", *settings, "trainer.max_steps=3")
    line = [a for a in arguments(tmp_path, "two", *settings, "trainer.max_steps=3") if "accelerator" not in a]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vsrbench.train", *line, "trainer=ddp_sim"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    ours, theirs = content(one), content(tmp_path / "two")
    assert theirs["global_step"] == 3
    for key, value in ours["state_dict"].items():
        assert torch.allclose(value, theirs["state_dict"][key], atol=1e-3), key
    curves = [read_metrics(folder / "metrics.csv") for folder in (one, tmp_path / "two")]
    for name in ("train/loss", "train/r1", "train/loss_discriminator"):
        assert [float(row[name]) for row in curves[0][:3]] == pytest.approx(
            [float(row[name]) for row in curves[1][:3]], rel=1e-3
        )


@pytest.mark.slow
def test_hundreds_of_steps_halve_the_pixel_loss_and_stay_finite(tmp_path: Path) -> None:
    """Without the bilinear residual, which would begin where this ends; with the discriminator from the start."""
    folder = trained(
        tmp_path, "run", "stage=image", "train.frames=1", "module.objective.pixel_steps=0", "trainer.max_steps=300",
        "train.batch=4", "train.effective_batch=4", "checkpoint.every=0",
    )  # fmt: skip
    rows = [row for row in read_metrics(folder / "metrics.csv") if row["train/loss"]]
    assert len(rows) == 300, "every loss is finite"
    pixel = [float(row["train/loss_pixel"]) for row in rows]
    assert sum(pixel[-20:]) < 0.5 * sum(pixel[:20])
    assert float(rows[-1]["train/skipped"]) == 0 and 0.1 < float(rows[-1]["train/loss_discriminator"]) < 10


# --- upscaling -------------------------------------------------------------------------------------


def test_a_clip_is_upscaled_alike_in_any_batch_and_chunk() -> None:
    made = awake(method(stage=""))
    sample, noise = clip(frames=5, batch=2), Noise(1)
    both = made.upscale(sample, noise)
    assert both.shape == (2, 5, 3, 64, 64) and both.min() >= 0 and both.max() <= 1
    assert torch.allclose(both[1:], made.upscale(sample.rows([1]), noise), atol=1e-5)
    made.method.chunk = None
    whole = made.upscale(sample, noise)
    made.method.chunk = 5
    assert torch.equal(whole, made.upscale(sample, noise))
    assert not torch.allclose(whole, both, atol=1e-4), "chunks cut what the modules over time see"


def test_one_style_and_noise_serve_all_frames_of_a_clip() -> None:
    made = awake(method("method.ladder=base", stage=""))
    sample = clip(frames=1)
    still = Clip(sample.lr.expand(-1, 3, -1, -1, -1), None, sample.name, torch.arange(3)[None], 4)
    frames = made.upscale(still, Noise(1))
    assert torch.allclose(frames[:, 0], frames[:, 2], atol=1e-6)
    assert not torch.allclose(frames, made.upscale(still, Noise(2)), atol=1e-3)
    made.method.z = "mean"
    assert not made.method.styles(still, Noise(1)).any()


def test_scale_eight() -> None:
    made = method("scale=8", stage="")
    sample = clip(frames=2)
    assert made.upscale(Clip(sample.lr, None, sample.name, sample.index, 8), Noise(0)).shape == (1, 2, 3, 128, 128)


@pytest.mark.parametrize("size", ["tiny", "mini", "small", "paper"])
def test_every_size_composes_for_both_stages_and_scales(size: str) -> None:
    for scale in (4, 8):
        for stage in ("image", "video"):
            cfg = compose(["method=videogigagan", f"size={size}", f"scale={scale}", f"stage={stage}"])
            assert cfg.optimiser.betas == [0.0, 0.99] and cfg.method.scale == scale
    assert compose(["method=videogigagan", "size=paper"]).train.effective_batch == 32


def test_flow_error_of_exact_and_of_unknown_motion() -> None:
    lr = torch.rand(1, 1, 3, 8, 8).expand(-1, 3, -1, -1, -1)
    still = torch.zeros(1, 2, 2, 8, 8)
    unknown = Clip(lr, None, ["a"], torch.arange(3)[None], 4)
    known = Clip(lr, None, ["a"], torch.arange(3)[None], 4, still + 3.0, still)
    assert float(flow_error(unknown, still, still)) == pytest.approx(1e-6)
    assert float(flow_error(known, still, still)) == pytest.approx(0.5 * 18**0.5, rel=1e-3)
