from dataclasses import replace

import pytest
import torch
from torch import Tensor

import latent
from vsrbench.diffusion.noise import Noise, RecordedNoise
from vsrbench.methods.ldm import LDM
from vsrbench.methods.ldm.module import LDMModule
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip


class Spy:
    """A trace and a progress that remember."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.total = self.done = 0

    def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
        assert frame is None
        self.steps.append({"step": torch.tensor(step), **tensors})

    def start(self, total: int, what: str) -> None:
        self.total = total

    def advance(self, count: int = 1) -> None:
        self.done += count


def test_output_is_four_times_larger_and_in_range() -> None:
    method, spy = latent.method("ldm"), Spy()
    output = method.upscale(latent.make_clip(3, (16, 20), batch=2), Noise(0), spy, spy)
    assert output.shape == (2, 3, 3, 64, 80)
    assert output.dtype == torch.float32
    assert output.min() >= 0 and output.max() <= 1
    assert spy.total == spy.done == 2 * 2 * 3, "steps x clips x frames"
    assert [int(s["step"]) for s in spy.steps] == [0, 1]
    assert spy.steps[0]["x0"].shape == (2, 3, 4, 16, 20)


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmpp"])
def test_any_grouping_gives_the_same_frames(kind: str) -> None:
    method = latent.method("ldm", f"sampler={kind}", "sampler.steps=3")
    clip = latent.make_clip(3, (16, 16), batch=2)
    reference = method.configure_inference(batch=6).upscale(clip, Noise(0))
    assert torch.allclose(method.configure_inference(batch=1).upscale(clip, Noise(0)), reference, atol=1e-5)
    for b in range(2):
        for t in range(3):
            alone = method.upscale(clip.rows([b]).window(t, t + 1), Noise(0))
            assert torch.allclose(alone[0, 0], reference[b, t], atol=1e-5)
    assert not torch.allclose(method.upscale(clip, Noise(1)), reference, atol=1e-3)


def test_recorded_noise_replays_a_run() -> None:
    method, clip = latent.method("ldm"), latent.make_clip(2)
    draws = {("initial", "clip#0", t, 0): Noise(3).normal((4, 16, 16), "initial", "clip#0", t) for t in range(2)}
    assert torch.equal(method.upscale(clip, RecordedNoise(draws)), method.upscale(clip, Noise(3)))
    with pytest.raises(KeyError):
        method.upscale(latent.make_clip(3), RecordedNoise(draws))


def test_start_from_the_noised_lr_frame() -> None:
    """The first x is the bicubic frame's latent, noised to the first visited timestep."""
    settings = ["sampler.kind=ddim", "sampler.steps=3", "sampler.start=lr_noised", "sampler.strength=0.4"]
    method, clip, spy = latent.method("ldm", *settings, size="mini"), latent.make_clip(1), Spy()
    method.upscale(clip, Noise(0), spy)
    schedule = method.prior.schedule
    with torch.no_grad():
        start = method.prior.encode(imresize(clip.lr[0], 4).clamp(0, 1))
    eps = Noise(0).normal((4, 16, 16), "initial", "clip#0", 0)
    x = schedule.add_noise(start, eps, 400)
    lr = clip.lr[0]
    with torch.no_grad():
        x0 = schedule.x0(x, method.prior.predict(x, lr, 400), 400)
    assert torch.allclose(spy.steps[0]["x0"][0], x0, atol=1e-4)
    noise = latent.method("ldm", "sampler.start=noise", "sampler.strength=1", size="mini")
    assert (method.upscale(clip, Noise(0)) - noise.upscale(clip, Noise(0))).abs().max() > 0.02


def test_low_band_comes_from_the_lr_frame() -> None:
    """However wrong the tiny network's colours are, the mean of every channel is that of the bicubic frame."""
    clip = latent.make_clip(1, (24, 24))
    target = imresize(clip.lr, 4).mean((-2, -1))

    def gap(method: LDM) -> float:
        return (method.upscale(clip, Noise(0)).mean((-2, -1)) - target).abs().max().item()

    settings = ["sampler.start=lr_noised", "sampler.strength=0.4"]
    fixed = gap(latent.method("ldm", *settings, "sampler.low_band=4.0", size="mini"))
    assert fixed < 0.01
    assert fixed < 0.5 * gap(latent.method("ldm", *settings, "sampler.low_band=0", size="mini"))


def test_the_shipped_miniature_beats_bicubic_enlargement_in_sharpness() -> None:
    method, clip = latent.method("ldm", size="mini"), latent.make_clip(1, (24, 24))
    output, bicubic = method.upscale(clip, Noise(0)), imresize(clip.lr, 4).clamp(0, 1)
    energy = [frames.diff(dim=-1).square().mean() for frames in (output, bicubic)]
    assert energy[0] > energy[1]
    assert (output - clip.hr).abs().mean() < 2 * (bicubic - clip.hr).abs().mean()


# --- training ------------------------------------------------------------------------------------

STAGES = [("unet", []), ("unet", ["module.trajectory=true", "sampler.steps=3"]), ("vae", [])]


def began(stage: str, overrides: list[str], size: str = "tiny") -> LDMModule:
    every = "module.objective={prediction: 1.0, x0: 1.0, pixel: 1.0, gradient: 1.0}"
    module = latent.module("ldm", every, *overrides, size=size)
    module.begin_stage(stage, lambda p: torch.optim.Adam(p, 1e-3), Noise(0))
    return module.train()


def batch(samples: int) -> Clip:
    return latent.make_clip(1, (16, 16), batch=samples)


@pytest.mark.parametrize(("stage", "overrides"), STAGES)
def test_training_lowers_the_loss_of_a_fixed_batch(stage: str, overrides: list[str]) -> None:
    module = began(stage, overrides)
    optimiser, clip = module.configure_optimizers(), batch(2)
    first = module.training_step(clip, 0)
    assert set(module.terms) == set(module.stages[stage].losses)
    trained = module.parts()[module.stages[stage].trainable[0]]
    first.backward()
    assert all(p.grad is not None for p in trained.parameters())
    frozen = [p for p in module.parameters() if not p.requires_grad]
    assert frozen and all(p.grad is None for p in frozen)
    for _ in range(4):
        optimiser.step()
        optimiser.zero_grad()
        loss = module.training_step(clip, 0)
        loss.backward()
    assert loss < first


@pytest.mark.parametrize(("stage", "overrides"), STAGES)
@torch.no_grad()
def test_a_samples_loss_does_not_depend_on_its_batch(stage: str, overrides: list[str]) -> None:
    module, clip = began(stage, overrides), batch(5)
    together = module.losses(clip, Noise(0))
    alone = [module.losses(clip.rows([b]), Noise(0)) for b in range(5)]
    for name, value in together.items():
        assert torch.allclose(value, torch.stack([a[name] for a in alone]).mean(), rtol=1e-4), name


@torch.no_grad()
def test_another_sample_number_draws_anew() -> None:
    module, clip = began("unet", []), batch(1)
    one, other = module.losses(clip, Noise(0)), module.losses(replace(clip, name=["clip#9"]), Noise(0))
    assert not torch.allclose(one["prediction"], other["prediction"])


def test_checkpointing_changes_no_loss() -> None:
    one, other = began("unet", []), began("unet", ["module.checkpointing=true"])
    losses = [m.training_step(batch(1), 0) for m in (one, other)]
    assert torch.allclose(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    for p, q in zip(one.method.prior.unet.parameters(), other.method.prior.unet.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-6)
