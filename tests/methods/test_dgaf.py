"""DGAF-VSR: what the guide may and may not change, how frames depend on each other, and its training."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import latent
from vsrbench.config import compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError
from vsrbench.flow.bank import FlowBank
from vsrbench.flow.rescaled import upscale_warp_downscale
from vsrbench.flow.warp import resize_flow
from vsrbench.inference.chunks import upscale_source
from vsrbench.methods.dgaf import DGAF
from vsrbench.methods.dgaf.guidance import Guidance
from vsrbench.methods.dgaf.module import DGAFModule
from vsrbench.methods.dgaf.networks import GuidingUNet
from vsrbench.methods.dgaf.sampling import align_neighbours
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip

FOUR_STEPS = ["sampler.kind=ddpm", "sampler.steps=4"]


@pytest.fixture
def method() -> DGAF:
    """Tiny, four stochastic steps, with a guide that has something to say."""
    built = latent.method("dgaf", *FOUR_STEPS)
    latent.awake(built.guide)
    return built


# --- OGWM ----------------------------------------------------------------------------------------


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def constant(x: float, y: float, height: int, width: int) -> Tensor:
    return torch.tensor([float(x), float(y)]).view(1, 2, 1, 1).expand(1, 2, height, width)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_zero_flow_keeps_the_neighbours_features(factor: int) -> None:
    x0 = noise(2, 4, 6, 7)
    zero = torch.zeros(2, 2, 24, 28)
    assert torch.allclose(upscale_warp_downscale(x0, zero, factor), x0, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(1, 0), (-2, 1)])
def test_whole_latent_pixels_shift(x: int, y: int) -> None:
    """4 HR pixels of flow are one latent pixel."""
    x0 = noise(1, 4, 8, 9)
    moved = upscale_warp_downscale(x0, constant(4 * x, 4 * y, 32, 36), 4)
    inner = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    assert torch.allclose(moved[inner], x0.roll((-y, -x), (2, 3))[inner], atol=1e-5)
    assert (moved[..., -1] if x > 0 else moved[..., 0]).abs().max() == 0, "outside is zero"


def test_upscaling_keeps_sub_pixel_motion_out_of_the_features() -> None:
    """Sec. 4.1: a quarter latent pixel leaves features unmixed at s = 4, while warping at their own size blends."""
    x0, flow = noise(1, 4, 8, 8), constant(1, 0, 32, 32)
    assert torch.allclose(upscale_warp_downscale(x0, flow, 4)[..., :-1], x0[..., :-1], atol=1e-5)
    assert not torch.allclose(upscale_warp_downscale(x0, flow, 1)[..., :-1], x0[..., :-1], atol=1e-2)


def test_a_flow_on_another_grid_is_brought_along() -> None:
    x0, flow = noise(1, 4, 6, 6), 3 * noise(1, 2, 6, 6, seed=1)
    assert torch.equal(upscale_warp_downscale(x0, flow, 4), upscale_warp_downscale(x0, resize_flow(flow, (24, 24)), 4))


def test_every_frame_gets_the_neighbour_the_step_asks_for() -> None:
    x0 = torch.arange(1.0, 4).view(1, 3, 1, 1, 1).expand(1, 3, 4, 5, 5)
    still = torch.zeros(1, 2, 2, 20, 20)
    previous, has = align_neighbours(x0, FlowBank(still, still), Guidance(), 0)
    assert (has, previous[0, :, 0, 2, 2].tolist()) == ([False, True, True], [0, 1, 2])
    following, has = align_neighbours(x0, FlowBank(still, still), Guidance(), 1)
    assert (has, following[0, :, 0, 2, 2].tolist()) == ([True, True, False], [2, 3, 0])


def test_directions_alternate() -> None:
    assert [Guidance().direction(step) for step in range(5)] == [-1, 1, -1, 1, -1]
    assert [Guidance().context(steps) for steps in (1, 2, 3, 4, 5, 50)] == [0, 1, 1, 2, 2, 25]


# --- the guide -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["tiny", "mini"])
def test_an_untrained_guide_is_the_prior_alone(size: str) -> None:
    clip = latent.make_clip(3, (16, 16), batch=2)
    guided, alone = latent.method("dgaf", size=size), latent.method("ldm", size=size)
    # to rounding: the guided forward adds zeros, and processors differ in how they fuse that with what comes next
    torch.testing.assert_close(guided.upscale(clip, Noise(0)), alone.upscale(clip, Noise(0)), atol=5e-6, rtol=0)


@torch.no_grad()
def test_the_guide_starts_as_a_copy_that_ignores_the_neighbour() -> None:
    from vsrbench.diffusion.guided import features

    prior = latent.prior()
    guide, labels = GuidingUNet(prior.unet), prior.labels(torch.device("cpu"))
    x, aligned, lr = noise(1, 4, 8, 8), noise(1, 4, 8, 8, seed=1), latent.make_clip(1, (8, 8)).lr[0]
    own = features(prior.unet, torch.cat([x, 2 * lr - 1], 1), 7, prior.prompt, labels)
    copied = features(guide.net, torch.cat([x, 2 * lr - 1, aligned], 1), 7, prior.prompt, labels)
    assert torch.allclose(own.middle, copied.middle, atol=1e-6)
    residuals = guide(x, lr, aligned, 7, prior.prompt, labels)
    assert [r.shape for r in residuals.encoder] == [f.shape for f in own.encoder]
    assert [r.shape for r in residuals.decoder] == [f.shape for f in own.decoder]
    assert all(r.abs().max() == 0 for r in [*residuals.encoder, residuals.middle, *residuals.decoder])


def test_what_the_guide_says_matters(method: DGAF) -> None:
    clip = latent.make_clip(3)
    quiet = latent.method("dgaf", *FOUR_STEPS)
    assert (method.upscale(clip, Noise(0)) - quiet.upscale(clip, Noise(0))).abs().max() > 1e-2
    alone = latent.method("ldm", *FOUR_STEPS)
    single = clip.window(0, 1)
    assert torch.allclose(method.upscale(single, Noise(0)), alone.upscale(single, Noise(0)), atol=1e-6)


def test_the_first_step_and_border_frames_run_unguided(method: DGAF) -> None:
    """The trace shows what each step was guided by: nothing at first, then the last x0 of the neighbour."""
    seen: list[tuple[int, dict[str, Tensor]]] = []

    class Spy:
        def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
            seen.append((step, tensors))

    clip = latent.make_clip(3)
    method.upscale(clip, Noise(0), Spy())
    guided = {step: tensors["aligned"] for step, tensors in seen if "aligned" in tensors}
    x0 = {step: tensors["x0"] for step, tensors in seen if "x0" in tensors}
    assert sorted(guided) == [1, 2, 3]
    for step, aligned in guided.items():
        border = 0 if Guidance().direction(step) == -1 else 2
        assert aligned[:, border].abs().max() == 0
        with torch.inference_mode():
            expected, _ = align_neighbours(x0[step - 1], method.flows(clip), Guidance(), step)
        assert torch.allclose(aligned, expected)


@pytest.mark.parametrize("prior", ["tiny", "mini"])
def test_odd_frame_sizes(prior: str) -> None:
    built = latent.method("dgaf", size=prior)
    latent.awake(built.guide)
    assert built.upscale(latent.make_clip(2, (17, 22)), Noise(0)).shape == (1, 2, 3, 68, 88)


# --- one clip, any grouping ----------------------------------------------------------------------


class Whole:
    """A clip as a source of the chunked loop."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.frames = clip, clip.frames

    def read(self, start: int, stop: int) -> Clip:
        return self.clip.window(start, stop)


def chunked(method: DGAF, clip: Clip, chunk: int) -> Iterator[Tensor]:
    settings = compose([f"inference.chunk={chunk}", "inference.overlap=0"], verb="upscale").inference
    for _, frame in upscale_source(method, Whole(clip), Noise(0), settings):
        yield frame


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmpp"])
def test_one_batch_and_frame_by_frame_give_the_same_frames(kind: str) -> None:
    method = latent.method("dgaf", f"sampler.kind={kind}", "sampler.steps=4")
    latent.awake(method.guide)
    clip = latent.make_clip(4)
    whole = method.configure_inference(batch=4).upscale(clip, Noise(0))
    for frames in (1, 3):
        assert torch.allclose(method.configure_inference(batch=frames).upscale(clip, Noise(0)), whole, atol=1e-5)


@pytest.mark.parametrize("chunk", [4, 3, 1])
def test_chunks_that_overlap_by_the_context_give_the_whole_clips_frames(method: DGAF, chunk: int) -> None:
    clip = latent.make_clip(7)
    assert method.context == 2
    frames = torch.stack(list(chunked(method, clip, chunk)))
    assert torch.allclose(frames, method.upscale(clip, Noise(0))[0], atol=1e-5)


def test_samples_of_a_batch_do_not_see_each_other(method: DGAF) -> None:
    clip = latent.make_clip(3, batch=3)
    together = method.upscale(clip, Noise(0))
    for b in range(3):
        assert torch.allclose(method.upscale(clip.rows([b]), Noise(0))[0], together[b], atol=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 4, 5])
def test_exactly_the_context_is_seen(steps: int) -> None:
    """A changed frame changes others up to the context away (on the side that the directions allow), none beyond."""
    method = latent.method("dgaf", "sampler.kind=ddim", f"sampler.steps={steps}", "flow=exact")
    latent.awake(method.guide, scale=0.2)
    count, middle = 9, 4
    still = torch.zeros(1, count - 1, 2, 16, 16)
    clip = replace(latent.make_clip(count), flow_forward=still, flow_backward=still)
    changed = clip.lr.clone()
    changed[:, middle] = 1 - changed[:, middle]
    reference = method.upscale(clip, Noise(0))
    moved = (method.upscale(replace(clip, lr=changed), Noise(0)) - reference).abs().amax((0, 2, 3, 4))
    reached = [t - middle for t in range(count) if moved[t] > 1e-6]
    guided = [Guidance().direction(step) for step in range(1, steps)]
    assert (min(reached), max(reached)) == (-guided.count(1), guided.count(-1))
    assert max(-min(reached), max(reached)) == method.context == Guidance().context(steps)


def test_the_context_can_be_bounded() -> None:
    assert latent.method("dgaf", "sampler.steps=30", "method.max_context=4").context == 4
    assert latent.method("dgaf", "sampler.steps=4", "method.max_context=4").context == 2


def test_flow_input() -> None:
    clip = latent.make_clip(2)
    asked: list[Tensor] = []

    class Still(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            asked.append(a)
            return torch.zeros(len(a), 2, *a.shape[-2:])

    for name in ("nearest", "bicubic"):
        method = latent.method("dgaf", f"method.flow_input={name}")
        method.flow = Still()
        method.flows(clip)
    assert torch.equal(asked[1], F.interpolate(clip.lr[:, 0], scale_factor=4, mode="nearest"))
    assert torch.allclose(asked[2], imresize(clip.lr[:, 1], 4).clamp(0, 1))
    steep = (clip.lr[0] > 0.5).float()  # where bicubic overshoots: the estimator sees pictures, in [0,1]
    assert imresize(steep, 4).max() > 1 and method.flow_frames(steep).max() == 1


# --- training ------------------------------------------------------------------------------------

RECIPES = {
    "printed": [],
    "few-step": ["module.trajectory=true", "sampler.start=lr_noised", "sampler.strength=0.4", "sampler.steps=4"],
}


def began(recipe: str, *overrides: str) -> DGAFModule:
    every = "module.objective={prediction: 1.0, x0: 1.0, pixel: 1.0, gradient: 1.0, agreement: 1.0}"
    module = latent.module("dgaf", every, *RECIPES[recipe], *overrides)
    module.begin_stage("guide", lambda p: torch.optim.Adam(p, 1e-3), Noise(0))
    return module.train()


def batch(samples: int) -> Clip:
    return latent.make_clip(3, (16, 16), batch=samples)


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_the_guide_learns(recipe: str) -> None:
    module = began(recipe)
    free = {name for name, p in module.named_parameters() if p.requires_grad}
    assert free == {name for name, _ in module.named_parameters() if name.startswith("method.guide.")}
    frozen = copy.deepcopy(module.method.prior.state_dict())
    optimiser = module.configure_optimizers()
    latent.awake(module.method.guide)
    module.training_step(batch(3), 0).backward()
    for name, parameter in module.named_parameters():
        if name in free:
            assert parameter.grad is not None, name
            # the tiny prompt is zero: attention to it has nothing to choose from
            constant = "attn2" in name or "norm2" in name
            assert constant or parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name
    optimiser.step()
    assert all(torch.equal(value, frozen[key]) for key, value in module.method.prior.state_dict().items())
    assert (
        not module.method.prior.unet.training and not module.method.prior.vae.training and module.method.guide.training
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_lowers_the_loss_of_a_fixed_batch(recipe: str) -> None:
    module, clip = began(recipe), batch(2)
    optimiser = module.configure_optimizers()
    first = module.training_step(clip, 0)
    assert set(module.terms) == set(module.stages["guide"].losses)
    loss = first
    for _ in range(6):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss = module.training_step(clip, 0)
    assert loss < first


@pytest.mark.parametrize("recipe", RECIPES)
@torch.no_grad()
def test_a_samples_loss_does_not_depend_on_its_batch(recipe: str) -> None:
    module, clip = began(recipe), batch(5)
    latent.awake(module.method.guide)
    together = module.losses(clip, Noise(0))
    alone = [module.losses(clip.rows([b]), Noise(0)) for b in range(5)]
    for name, value in together.items():
        assert torch.allclose(value, torch.stack([a[name] for a in alone]).mean(), rtol=1e-4), name


@torch.no_grad()
def test_both_neighbours_are_drawn() -> None:
    """The previous or the next frame, each about half of the time, decided by the sample's name."""
    module, clip = began("printed", "module.objective={prediction: 1, x0: 0, pixel: 0, gradient: 0}"), batch(1)
    latent.awake(module.method.guide)
    chosen = []
    for number in range(12):
        named = replace(clip, name=[f"clip#{number}"])
        for side, index in ((0, 0), (1, 2)):
            changed = named.lr.clone()
            changed[:, index] = 0
            if not torch.equal(
                module.losses(replace(named, lr=changed), Noise(0))["prediction"],
                module.losses(named, Noise(0))["prediction"],
            ):
                chosen.append(side)
    assert len(chosen) == 12, "one neighbour matters, the other never"
    assert 2 < sum(chosen) < 10


@torch.no_grad()
def test_the_few_step_recipe_learns_what_sampling_visits() -> None:
    """With an untrained guide the loss at a drawn step is that of the prior at the x which sampling reaches there."""
    module, clip = began("few-step", "module.objective={prediction: 0, x0: 1, pixel: 0, gradient: 0}"), batch(1)
    seen: dict[int, Tensor] = {}

    class Spy:
        def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
            if "x0" in tensors:
                seen[step] = tensors["x0"][:, 1]

    module.method.upscale(clip, Noise(0), Spy())
    truth = module.method.prior.encode(clip.hr[:, 1])
    errors = [F.mse_loss(seen[step], truth) for step in range(1, 4)]
    loss = module.losses(clip, Noise(0))["x0"]
    assert min((loss - error).abs() for error in errors) < 1e-5


def test_a_single_step_has_nothing_to_guide() -> None:
    with pytest.raises(ConfigError, match=r"sampler\.steps=2 or more"):
        began("few-step", "sampler.steps=1").losses(batch(1), Noise(0))


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in ("false", "true"):
        module = began("printed", f"module.checkpointing={checkpointing}")
        latent.awake(module.method.guide)
        module.training_step(batch(1), 0).backward()
        gradients.append([p.grad for p in module.method.guide.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_papers_parameter_counts() -> None:
    """Guide and prior have one topology; 28 zero convolutions carry the guide's features."""
    from vsrbench.benchmarks.params import counts
    from vsrbench.benchmarks.shapes import on_meta
    from vsrbench.config import build

    with torch.device("meta"):
        method = build(on_meta("dgaf", "paper", "paper").method)
    found = {name: count for name, (count, *_) in counts(method, {}).items()}
    assert found["guiding U-Net"] == 472_373_504
    assert found["zero convolutions"] == 11_484_928
    assert found["denoising U-Net"] == 472_374_020
    assert found["VAE decoder"] == 32_965_399
    assert found["flow estimator (FM)"] == 5_257_536
    guide = method.guide
    assert (len(guide.zero_encoder), len(guide.zero_decoder)) == (12, 15)
    assert guide.net.conv_in.in_channels == 11
