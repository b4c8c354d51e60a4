"""StableVSR: what guides a frame, in which order, what it costs, and its training."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import latent
from vsrbench.config import build, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.methods.stablevsr import StableVSR
from vsrbench.methods.stablevsr.module import StableVSRModule
from vsrbench.types import FULL_CLIP, Clip
from vsrbench.weights.trained import load_trained

FOUR_STEPS = ["sampler.kind=ddpm", "sampler.steps=4"]


def awake(*overrides: str, size: str = "tiny") -> StableVSR:
    """A TCM that has something to say: its zero convolutions get random weights."""
    return wake(latent.method("stablevsr", *FOUR_STEPS, *overrides, size=size))


def wake(built: StableVSR) -> StableVSR:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in built.tcm.net.named_parameters():
            if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond_embedding.conv_out")):
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return built


def upscaled(*overrides: str, clip: Clip | None = None) -> Tensor:
    return awake(*overrides).upscale(latent.make_clip(3) if clip is None else clip, Noise(0))


@pytest.mark.parametrize("size", ["tiny", "mini"])
def test_an_untrained_module_is_the_prior_alone(size: str) -> None:
    clip = latent.make_clip(3, (16, 16), batch=2)
    alone = latent.method("ldm", size=size)
    for strategy in ("bidirectional", "auto_regressive", "single_frame"):
        guided = latent.method("stablevsr", f"method.strategy={strategy}", size=size)
        assert torch.allclose(guided.upscale(clip, Noise(0)), alone.upscale(clip, Noise(0)), atol=1e-5)


@pytest.mark.parametrize(
    "knob",
    [
        "strategy=unidirectional", "strategy=auto_regressive", "strategy=single_frame", "guidance=x_t",
        "compensation=none", "compensation=latent", "align=released", "flow_input=released",
        "guidance_precision=bf16", "refresh=2",
    ],
)  # fmt: skip
def test_each_knob_changes_the_output(knob: str) -> None:
    assert (upscaled(f"method.{knob}") - upscaled()).abs().max() > 1e-6


def test_a_module_that_reads_latents() -> None:
    overrides = ["method.compensation=latent", "method.tcm_input=latent"]
    assert awake(*overrides).tcm.net.controlnet_cond_embedding.conv_in.in_channels == 4
    assert (upscaled(*overrides) - upscaled("method.compensation=latent")).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["strategy=both"], r"method\.strategy=both: use bidirectional"),
        (["guidance=eps"], r"method\.guidance=eps"),
        (["compensation=warp"], r"method\.compensation=warp"),
        (["tcm_input=latent"], r"needs method\.compensation=latent"),
        (["refresh=0"], r"method\.refresh=0: give a whole number from 1"),
        (["flow_input=hr"], r"method\.flow_input=hr"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        latent.method("stablevsr", *(f"method.{setting}" for setting in settings))


@pytest.mark.parametrize("setting", ["neighbour=next", "posterior=mean"])
def test_settings_of_training_that_mean_nothing_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"module\.{setting}: use (previous or random|mode or sample)"):
        latent.module("stablevsr", f"module.{setting}")


@torch.no_grad()
def test_guidance_in_full_precision_stays_so_while_the_networks_run_in_half() -> None:
    clip, flow = latent.make_clip(2), torch.zeros(1, 2, 64, 64)

    def texture(precision: str, outer: bool) -> Tensor:
        method = awake(f"method.guidance_precision={precision}")
        x0 = method.prior.encode(clip.hr[:, 0])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer):
            return method.texture.make(method.prior, x0, x0, flow)

    exact = texture("fp32", outer=False)
    assert torch.equal(texture("fp32", outer=True), exact)
    assert torch.equal(texture("auto", outer=False), exact), "auto is fp32 on a CPU"
    assert torch.equal(texture("auto", outer=True), texture("bf16", outer=True)), "or what the networks run in"
    assert not torch.equal(texture("bf16", outer=False), exact)


# --- order ---------------------------------------------------------------------------------------


def reached(strategy: str, steps: int, changed: int, frames: int = 4) -> list[bool]:
    """Which frames differ after one frame changed, flows staying the same."""
    method = awake(f"method.strategy={strategy}", "sampler.kind=ddim", f"sampler.steps={steps}", "flow=exact")
    still = torch.zeros(1, frames - 1, 2, 16, 16)
    clip = replace(latent.make_clip(frames), flow_forward=still, flow_backward=still)
    lr = clip.lr.clone()
    lr[:, changed] = 1 - lr[:, changed]
    gap = method.upscale(replace(clip, lr=lr), Noise(0)) - method.upscale(clip, Noise(0))
    return (gap.abs().amax((0, 2, 3, 4)) > 1e-7).tolist()


def test_information_runs_as_the_strategy_says() -> None:
    assert reached("single_frame", 2, 1) == [False, True, False, False]
    assert reached("unidirectional", 2, 1) == [False, True, True, True]
    assert reached("auto_regressive", 2, 1) == [False, True, True, True]
    assert reached("bidirectional", 1, 1) == [False, True, True, True]
    assert reached("bidirectional", 2, 1) == [True, True, True, True]


def test_the_first_visited_frame_runs_unguided_and_flows_are_computed_once() -> None:
    method, clip = awake(), latent.make_clip(3)
    seen: dict[tuple[int, int], bool] = {}
    asked: list[Tensor] = []

    class Spy:
        def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
            if frame is not None:
                seen[step, frame] = "texture" in tensors

    class Still(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            asked.append(a)
            return torch.zeros(len(a), 2, *a.shape[-2:])

    method.flow = Still()
    method.upscale(clip, Noise(0), Spy())
    assert [key for key, guided in seen.items() if not guided] == [(0, 0), (1, 2), (2, 0), (3, 2)]
    assert list(seen)[3:6] == [(1, 2), (1, 1), (1, 0)]
    assert len(asked) == 4 and all(a.shape[-2:] == clip.lr.shape[-2:] for a in asked)


def decodes(*overrides: str) -> int:
    """Calls of the VAE's decoder for a clip of three frames and four steps."""
    method = awake(*overrides)
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    method.prior.vae.decoder.register_forward_hook(counted)
    method.configure_inference(batch=1).upscale(latent.make_clip(3), Noise(0))
    return count


def test_nothing_is_decoded_that_nobody_asks_for() -> None:
    """Two guided frames at each of four steps, and three final frames."""
    assert decodes() == 4 * 2 + 3
    assert decodes("method.refresh=2") == 4 + 3
    assert decodes("method.strategy=single_frame") == 3
    assert decodes("method.strategy=auto_regressive") == 2 + 3
    assert decodes("method.tcm_input=latent", "method.compensation=latent") == 3


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("size", [(17, 22), (16, 16)])
def test_short_clips_and_odd_sizes(frames: int, size: tuple[int, int]) -> None:
    clip = latent.make_clip(frames, size)
    assert upscaled(clip=clip).shape == (1, frames, 3, 4 * size[0], 4 * size[1])


def test_frames_below_rafts_minimum() -> None:
    """LR 16x16, RAFT's smallest input is 128 pixels a side: padded, on LR frames and on enlarged ones."""
    for flow_input in ("lr", "released"):
        frames = upscaled("flow=raft", "flow.random=true", f"method.flow_input={flow_input}")
        assert torch.isfinite(frames).all()


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    method, clip = awake(), latent.make_clip(3, batch=2)
    together = method.upscale(clip, Noise(0))
    for b in range(2):
        assert torch.allclose(method.upscale(clip.rows([b]), Noise(0))[0], together[b], atol=1e-5)


def test_a_clip_is_one_chunk_unless_bounded() -> None:
    assert awake().context == FULL_CLIP
    assert awake("method.max_context=3").context == 3
    assert awake("method.strategy=single_frame").context == 0


# --- training ------------------------------------------------------------------------------------

RECIPES = {
    "printed": [],
    "released": ["variant=released"],
    "few-step": ["module.trajectory=true", "sampler.start=lr_noised", "sampler.strength=0.4"],
}


def began(recipe: str, stage: str = "tcm") -> StableVSRModule:
    every = "module.objective={prediction: 1.0, x0: 1.0, pixel: 1.0, gradient: 1.0, agreement: 1.0}"
    module = latent.module("stablevsr", *FOUR_STEPS, every, *RECIPES[recipe])
    wake(module.method)
    module.begin_stage(stage, lambda p: torch.optim.Adam(p, 1e-3), Noise(0))
    return module.train()


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_the_module_learns(recipe: str) -> None:
    module = began(recipe)
    frozen = copy.deepcopy(module.method.prior.state_dict())
    optimiser = module.configure_optimizers()
    module.training_step(latent.make_clip(3, batch=3), 0).backward()
    assert set(module.terms) == {"prediction", "x0", "pixel", "gradient", "agreement"}
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None) == name.startswith("method.tcm."), name
    optimiser.step()
    assert all(torch.equal(value, frozen[key]) for key, value in module.method.prior.state_dict().items())


@pytest.mark.parametrize("recipe", RECIPES)
@torch.no_grad()
def test_a_samples_loss_does_not_depend_on_its_batch(recipe: str) -> None:
    module, clip = began(recipe), latent.make_clip(3, batch=4)
    together = module.losses(clip, Noise(0))
    alone = [module.losses(clip.rows([b]), Noise(0)) for b in range(4)]
    for name, value in together.items():
        assert torch.allclose(value, torch.stack([a[name] for a in alone]).mean(), rtol=1e-4), name


@torch.no_grad()
def test_algorithm_2_looks_at_the_previous_frame() -> None:
    module, clip = began("printed"), latent.make_clip(3)
    for frame, matters in ((0, True), (1, True), (2, False)):
        lr = clip.lr.clone()
        lr[:, frame] = 0
        same = (
            module.losses(replace(clip, lr=lr), Noise(0))["prediction"] == module.losses(clip, Noise(0))["prediction"]
        )
        assert bool(same) != matters


def test_the_trajectory_needs_a_frame_wise_strategy() -> None:
    module = began("few-step")
    module.method.strategy = "auto_regressive"
    with pytest.raises(ConfigError, match="trains with a frame-wise strategy"):
        module.losses(latent.make_clip(3), Noise(0))


def test_the_prior_can_be_tuned_on_single_frames() -> None:
    module = began("printed", stage="prior")
    tcm = copy.deepcopy(module.method.tcm.state_dict())
    module.training_step(latent.make_clip(3, batch=2), 0).backward()
    module.configure_optimizers().step()
    assert set(module.terms) == {"prediction"}
    assert all(p.grad is None for p in module.method.tcm.parameters())
    assert all(p.grad is not None for p in module.method.prior.unet.parameters())
    assert all(torch.equal(value, tcm[key]) for key, value in module.method.tcm.state_dict().items())
    clip = latent.make_clip(3)
    loss = module.losses(clip, Noise(0))["prediction"]
    for frame in range(3):  # the middle one is learned, from its own LR and HR
        for field in ("lr", "hr"):
            changed = getattr(clip, field).clone()
            changed[:, frame] = 0
            other = module.losses(replace(clip, **{field: changed}), Noise(0))["prediction"]
            assert bool(other != loss) == (frame == 1)


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        module = began("printed")
        module.checkpointing = checkpointing
        module.training_step(latent.make_clip(3), 0).backward()
        gradients.append([p.grad for p in module.method.tcm.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


# --- weights -------------------------------------------------------------------------------------


def test_a_published_folder_loads(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    source = awake()
    source.tcm.net.save_pretrained(tmp_path / "controlnet")
    target = latent.method("stablevsr", *FOUR_STEPS)
    load_trained(target, str(tmp_path))
    assert "tensors fit" in capsys.readouterr().out
    clip = latent.make_clip(2)
    assert torch.equal(target.upscale(clip, Noise(0)), source.upscale(clip, Noise(0)))
    other = latent.method("stablevsr", "method.embedding=[4,6,9]")
    with pytest.raises(WeightsError, match="wrong shape"):
        load_trained(other, str(tmp_path))


def test_a_tuned_prior_needs_no_particular_module() -> None:
    module = began("printed", stage="prior")
    checkpoint = {"state_dict": {}}
    module.on_save_checkpoint(checkpoint)
    assert "tcm" not in checkpoint["frozen"] and "vae" in checkpoint["frozen"]
    torch.nn.init.normal_(other_tcm := (other := awake()).tcm.net.conv_in.weight)
    other.check_frozen(checkpoint["frozen"], ["denoising_unet"])
    assert other_tcm.std() > 0.5
    module = began("printed")
    module.on_save_checkpoint(checkpoint)
    assert {"denoising_unet", "vae"} <= set(checkpoint["frozen"])


def test_the_papers_parameter_counts() -> None:
    cfg = compose(["method=stablevsr", "size=paper", "prior.random=true", "flow.random=true"], "bench")
    with torch.device("meta"):
        method = build(cfg.method)
    counted = {
        name: sum(p.numel() for m in ms for p in m.parameters()) for name, ms in method.parameter_groups().items()
    }
    assert counted["temporal conditioning module"] == 207_699_264
    assert counted["denoising U-Net"] == 472_374_020
    assert counted["VAE decoder"] == 32_965_399
