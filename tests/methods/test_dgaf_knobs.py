"""Every knob of DGAF-VSR is a plain override that changes the output; those that mean nothing are refused."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import latent
from vsrbench.diffusion.frames import on_prior_grid
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.flow.rescaled import upscale_warp_downscale
from vsrbench.inference.chunks import upscale_source
from vsrbench.methods.dgaf import DGAF
from vsrbench.types import FULL_CLIP, Clip

FOUR_STEPS = ["sampler.kind=ddpm", "sampler.steps=4"]


def awake(*overrides: str) -> DGAF:
    built = latent.method("dgaf", *FOUR_STEPS, *overrides)
    latent.awake(built.guide)
    return built


def upscaled(*overrides: str, clip: Clip | None = None) -> Tensor:
    return awake(*overrides).upscale(latent.make_clip(3) if clip is None else clip, Noise(0))


PRINTED = [f"method.rescale={s}" for s in (1, 1.6, 2, 2.5, 3.2, 5, 6.4)]
PRINTED += ["method.rescale_mode=bicubic", "method.rescale_mode=none", "method.guidance=encoder"]
PRINTED += ["method.in_pair=false", "method.flow_upscaling=post", "flow=farneback"]
OTHERS = ["align=released", "pick=corner", "neighbours=same_step", "guide_attention=false", "new_channels=copy"]
OTHERS += ["flow_input=bicubic", "flow_input=released", "projection=z_next"]


@pytest.mark.parametrize("knob", [*PRINTED, *(f"method.{other}" for other in OTHERS), "variant=released"])
def test_each_knob_changes_the_output(knob: str) -> None:
    assert (upscaled(knob) - upscaled()).abs().max() > 1e-5


def test_flow_from_networks_needs_no_other_change() -> None:
    clip = latent.make_clip(2, (32, 32))
    found = [upscaled(f"flow={name}", "flow.random=true", clip=clip) for name in ("raft", "spynet")]
    assert (found[0] - found[1]).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rescale=0.5", r"method\.rescale=0\.5: use 1 or more"),
        ("rescale_mode=area", r"method\.rescale_mode=area: use nearest, bicubic or none"),
        ("pick=edge", r"method\.pick=edge: use centre or corner"),
        ("align=half", r"method\.align=half: use exact or released"),
        ("neighbours=both", r"method\.neighbours=both"),
        ("guidance=decoder", r"method\.guidance=decoder: use dense or encoder"),
        ("flow_upscaling=none", r"method\.flow_upscaling=none: use pre or post"),
        ("flow_input=area", r"method\.flow_input=area"),
        ("lr_enlargement=area", r"method\.lr_enlargement=area"),
        ("projection=x0", r"method\.projection=x0: use z_t or z_next"),
        ("flow_factor=s", r"method\.flow_factor=s: use hr or rescale"),
        ("new_channels=random", r"method\.new_channels=random: use zero or copy"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        latent.method("dgaf", f"method.{setting}")


def test_settings_of_training_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"module\.posterior=mean: use mode or sample"):
        latent.module("dgaf", "module.posterior=mean")


# --- rescaling by any factor ---------------------------------------------------------------------


FEATURES = torch.randn(1, 4, 15, 20, generator=torch.Generator().manual_seed(0))
STILL = torch.zeros(1, 2, 60, 80)


@pytest.mark.parametrize("factor", [1, 1.6, 2, 2.5, 3.2, 4, 5, 6.4, 8, 16])
def test_no_motion_keeps_features_at_any_factor(factor: float) -> None:
    assert torch.allclose(upscale_warp_downscale(FEATURES, STILL, factor), FEATURES, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 1.6, 2, 2.5, 3.2, 4, 5, 6.4, 8, 16])
def test_corners_keep_features_at_whole_factors_only(factor: float) -> None:
    """Rounding down twice loses samples where cells are no whole number of pixels (Supp. Table 8 dips there)."""
    moved = upscale_warp_downscale(FEATURES, STILL, factor, pick="corner")
    assert torch.allclose(moved, FEATURES, atol=1e-4) == (factor == int(factor))


def test_direct_warping_is_rescaling_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, flow = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 2, 32, 32, generator=generator)
    direct = upscale_warp_downscale(x0, flow, 4, "none")
    assert torch.equal(direct, upscale_warp_downscale(x0, flow, 1))
    assert not torch.equal(direct, upscale_warp_downscale(x0, flow, 4))


def test_the_released_corner_is_the_top_left_sample() -> None:
    x0 = torch.arange(16.0).view(1, 1, 4, 4)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0, 2::4, 2::4] = 4.0  # moves the centres' samples by one cell, leaves the corners
    assert torch.equal(upscale_warp_downscale(x0, flow, 4, pick="corner"), x0)
    moved = upscale_warp_downscale(x0, flow, 4, pick="centre")
    assert torch.equal(moved[..., :-1], x0[..., 1:])


# --- two readings of Section 4 -------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 1.6, 2, 4, 6.4])
@pytest.mark.parametrize("frames", ["nearest", "bicubic", "released"])
def test_the_literal_s_enlarges_the_frames_for_flow_as_ogwm_does(factor: float, frames: str) -> None:
    """Sec. 4 writes the frames of FM and the features of OGWM with one s: then flow lives on OGWM's grid."""
    lr = latent.make_clip(1, (15, 20)).lr[0]
    settings = [f"method.rescale={factor}", f"method.flow_input={frames}"]
    literal = latent.method("dgaf", *settings, "method.flow_factor=rescale").flow_frames(lr)
    assert literal.shape[-2:] == (round(15 * factor), round(20 * factor))
    fixed = latent.method("dgaf", *settings).flow_frames(lr)
    assert fixed.shape[-2:] == (60, 80)
    assert torch.equal(literal, fixed) == (factor == 4)
    if factor != 4:
        clip = latent.make_clip(3)
        assert (upscaled(*settings, "method.flow_factor=rescale", clip=clip) - upscaled(*settings, clip=clip)).any()


def test_z_t_minus_1_is_projected_with_the_steps_own_noise_estimate() -> None:
    """Sec. 4.2: deterministic steps leave x0 as it is; ancestral ones leave their fresh noise in it."""
    clip = latent.make_clip(3)
    for kind, same in (("ddim", True), ("ddpm", False)):
        settings = [f"sampler.kind={kind}", "sampler.steps=4"]
        frames = upscaled(*settings, clip=clip), upscaled(*settings, "method.projection=z_next", clip=clip)
        assert torch.allclose(*frames, atol=1e-5) == same

    seen: dict[int, dict[str, Tensor]] = {}

    class Spy:
        def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
            seen.setdefault(step, {}).update(tensors)

    method = awake("method.projection=z_next", "flow=exact")
    still = torch.zeros(1, 2, 2, 16, 16)
    method.upscale(replace(clip, flow_forward=still, flow_backward=still), Noise(0), Spy())
    schedule, visited = method.prior.schedule, method.sampler.timesteps(method.prior.schedule)
    first = Noise(0)
    x = torch.stack([first.normal((4, 16, 16), "initial", "clip#0", t) for t in range(3)])[None]
    eps = (x - schedule.abar(visited[0], x).sqrt() * seen[0]["x0"]) / (1 - schedule.abar(visited[0], x)).sqrt()
    abar = schedule.abar(visited[1], x)
    expected = (seen[0]["x"] - (1 - abar).sqrt() * eps) / abar.sqrt()
    assert torch.allclose(seen[1]["aligned"][:, 0], expected[:, 1], atol=1e-4), "step 1 is guided by the next frame"


def test_z_t_minus_1_needs_the_printed_order() -> None:
    with pytest.raises(ConfigError, match=r"method\.projection=z_next needs method\.neighbours=last_step"):
        awake("method.projection=z_next", "method.neighbours=same_step")


@torch.no_grad()
def test_training_mirrors_the_projection() -> None:
    """At deterministic samplers both readings are one; ancestral ones show the guide a noisier neighbour."""
    losses = {}
    for kind in ("ddim", "ddpm"):
        for reading in ("z_t", "z_next"):
            module = latent.module("dgaf", f"sampler.kind={kind}", "sampler.steps=4", f"method.projection={reading}")
            latent.awake(module.method.guide, scale=0.3)
            module.begin_stage("guide", lambda p: torch.optim.Adam(p, 1e-3), Noise(0))
            losses[kind, reading] = module.losses(latent.make_clip(3, batch=2), Noise(0))["prediction"]
    assert torch.equal(losses["ddim", "z_t"], losses["ddim", "z_next"])
    assert torch.equal(losses["ddim", "z_t"], losses["ddpm", "z_t"])
    assert not torch.allclose(losses["ddpm", "z_t"], losses["ddpm", "z_next"])


# --- guidance of the encoder alone ---------------------------------------------------------------


def test_encoder_guidance_has_no_decoder() -> None:
    guide = latent.method("dgaf", "method.guidance=encoder").guide
    assert len(guide.zero_decoder) == 0 and guide.net.up_blocks is None


def test_encoder_guidance_takes_a_dense_guides_weights() -> None:
    dense, encoder = awake(), latent.method("dgaf", *FOUR_STEPS, "method.guidance=encoder")
    encoder.load_trained_state(dense.trained_state())
    clip = latent.make_clip(3)
    without = awake()
    for conv in without.guide.zero_decoder:
        torch.nn.init.zeros_(conv.weight), torch.nn.init.zeros_(conv.bias)
    assert torch.allclose(encoder.upscale(clip, Noise(0)), without.upscale(clip, Noise(0)), atol=1e-6)
    with pytest.raises(WeightsError, match="missing"):
        dense.load_trained_state(encoder.trained_state())


def test_every_parameter_of_an_encoder_guide_learns() -> None:
    module = latent.module("dgaf", "method.guidance=encoder")
    module.begin_stage("guide", lambda p: torch.optim.Adam(p, 1e-3), Noise(0))
    latent.awake(module.method.guide)
    module.training_step(latent.make_clip(3, batch=2), 0).backward()
    assert all(p.grad is not None for p in module.method.guide.parameters())


# --- the released order --------------------------------------------------------------------------


def test_in_the_released_order_a_frame_sees_all_before_it() -> None:
    """In one step, forward: the last frame depends on the first, the first on none."""
    method = latent.method("dgaf", "variant=released", "sampler.kind=ddim", "sampler.steps=1")
    latent.awake(method.guide, scale=0.2)
    clip = latent.make_clip(4)
    reference = method.upscale(clip, Noise(0))

    def effect(frame: int) -> list[bool]:
        changed = clip.lr.clone()
        changed[:, frame] = 1 - changed[:, frame]
        method.flows = lambda _, known=method.flows(clip): known  # type: ignore[method-assign, misc]
        other = method.upscale(Clip(changed, None, clip.name, clip.index, 4), Noise(0))
        del method.flows
        return ((other - reference).abs().amax((0, 2, 3, 4)) > 1e-7).tolist()

    assert effect(0) == [True, True, True, True]
    assert effect(2) == [False, False, True, True]


def test_a_released_clip_is_one_chunk() -> None:
    method = awake("variant=released")
    assert method.context == FULL_CLIP
    clip = latent.make_clip(5)

    class Source:
        frames = 5

        def read(self, start: int, stop: int) -> Clip:
            return clip.window(start, stop)

    settings = {"chunk": 2, "batch": 1, "max_frames": None, "tile": None, "overlap": 0, "whole": 5}
    frames = torch.stack([frame for _, frame in upscale_source(method, Source(), Noise(0), settings)])
    assert torch.allclose(frames, method.upscale(clip, Noise(0))[0], atol=1e-6)
    assert awake("variant=released", "method.max_context=3").context == 3
    with pytest.raises(ConfigError, match=r"one of 5 frames may not fit: set method\.max_context=8"):
        list(upscale_source(method, Source(), Noise(0), {**settings, "whole": 4}))


def test_a_released_guide_starts_like_the_prior_with_its_input_bias_fixed() -> None:
    module = latent.module("dgaf", "variant=released")
    first = module.method.prior.unet.conv_in.weight
    assert torch.equal(module.method.guide.net.conv_in.weight[:, 7:], first[:, :4])
    module.begin_stage("guide", lambda p: torch.optim.Adam(p, 1e-3), Noise(0))
    fixed = [name for name, p in module.method.guide.named_parameters() if not p.requires_grad]
    assert fixed == ["net.conv_in.bias"]


def test_the_released_guides_parameter_count() -> None:
    from vsrbench.config import build, compose

    cfg = compose(["method=dgaf", "size=paper", "variant=released", "prior.random=true", "flow.random=true"], "bench")
    with torch.device("meta"):
        method = build(cfg.method)
    assert sum(p.numel() for p in method.guide.parameters()) == 277_052_416


# --- x8 and x16 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dgaf", "ldm"])
@pytest.mark.parametrize(("scale", "size"), [(8, (12, 14)), (16, (5, 6))])
def test_larger_scales(name: str, scale: int, size: tuple[int, int]) -> None:
    method = latent.method(name, f"scale={scale}")
    if name == "dgaf":
        assert method.guidance.rescale == scale
        latent.awake(method.guide)
    height, width = size
    lr = torch.rand(1, 2, 3, *size, generator=torch.Generator().manual_seed(0))
    clip = Clip(lr, None, ["a"], torch.arange(2)[None], scale)
    frames = method.upscale(clip, Noise(0))
    assert frames.shape == (1, 2, 3, scale * height, scale * width)
    other = latent.method(name, f"scale={scale}", "method.lr_enlargement=nearest").upscale(clip, Noise(0))
    assert not torch.allclose(frames, other, atol=1e-4)


def test_flow_and_occlusion_come_along_to_the_priors_grid() -> None:
    flow = torch.full((1, 1, 2, 3, 4), 1.5)
    occlusion = torch.zeros(1, 1, 2, 3, 4, dtype=torch.bool)
    occlusion[..., 1, 2] = True
    clip = Clip(torch.rand(1, 2, 3, 3, 4), None, ["a"], torch.arange(2)[None], 16, flow, -flow, occlusion)
    moved = on_prior_grid(clip)
    assert moved.scale == 4 and moved.lr.shape == (1, 2, 3, 12, 16)
    assert torch.equal(moved.flow_forward, torch.full((1, 1, 2, 12, 16), 6.0))
    assert torch.equal(moved.flow_backward, -moved.flow_forward)
    assert moved.occlusion.sum() == 2 * 16 and moved.occlusion[0, 0, 0, 4:8, 8:12].all()
    with pytest.raises(ConfigError, match="use 4, 8 or 16"):
        on_prior_grid(Clip(torch.rand(1, 2, 3, 3, 4), None, ["a"], torch.arange(2)[None], 2))


def test_x8_trains() -> None:
    module = latent.module("dgaf", "scale=8")
    module.begin_stage("guide", lambda p: torch.optim.Adam(p, 1e-3), Noise(0))
    hr = latent.make_clip(3, (32, 32)).hr
    lr = torch.nn.functional.avg_pool2d(hr.flatten(0, 1), 8).unflatten(0, (1, 3))
    loss = module.training_step(Clip(lr, hr, ["a#0"], torch.arange(3)[None], 8), 0)
    loss.backward()
    assert module.method.guide.zero_middle.weight.grad.abs().max() > 0
