from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import latent
from vsrbench.config import build, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, TrainingError, WeightsError
from vsrbench.flow.spynet import SpyNetwork
from vsrbench.inference.chunks import upscale_source
from vsrbench.methods.basicvsrpp import BasicVSRPP
from vsrbench.methods.basicvsrpp.module import BasicVSRPPModule
from vsrbench.methods.padding import upscale_padded
from vsrbench.metrics.frame import psnr, quantise
from vsrbench.nn.imresize import imresize
from vsrbench.nn.perceptual import LPIPS, RandomFeatures
from vsrbench.types import FULL_CLIP, Clip
from vsrbench.weights.commands.check import check_path
from vsrbench.weights.trained import load_trained

State = dict[str, Tensor]


def tiny(*overrides: str) -> BasicVSRPP:
    """A tiny network whose flow, offsets and output layer all do something."""
    return wake(latent.method("basicvsrpp", *overrides))


def wake(method: BasicVSRPP) -> BasicVSRPP:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in method.net.parameters():
            if not p.any():
                p.copy_(0.05 * torch.randn(p.shape, generator=generator))
    return method


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def on_meta(*overrides: str) -> BasicVSRPP:
    with torch.device("meta"):
        return build(compose(["method=basicvsrpp", "size=paper", *overrides], verb="eval").method)


# --- size ------------------------------------------------------------------------------------------


def test_parameters_of_the_paper_to_the_last_one() -> None:
    net = on_meta().net
    assert count(net) == 7_322_927
    assert count(net.spynet) == 1_440_300 and count(net.feat_extract) == 371_072
    assert [count(m) for m in net.propagation.deform_align.values()] == [509_872] * 4
    assert [count(m) for m in net.propagation.backbone.values()] == [590_784, 627_648, 664_512, 701_376]
    r = net.reconstruction
    assert count(r.reconstruction) == 553_664 and count(r.upsample1) == count(r.upsample2) == 147_712
    assert count(r.conv_hr, r.conv_last) == 36_928 + 1_731


@pytest.mark.parametrize(("width", "millions"), [(128, 43.78), (256, 166.00), (384, 368.14)])
def test_wider_networks_count_what_is_printed(width: int, millions: float) -> None:
    """NTIRE's model, and "medium" and "large" of VideoGigaGAN's Table 3."""
    net = on_meta(f"method.mid_channels={width}", "method.num_blocks=25").net
    assert round(count(net) / 1e6, 2) == millions


def test_table_lines_add_up_to_the_whole() -> None:
    method = tiny()
    assert sum(count(*modules) for modules in method.parameter_groups().values()) == count(method)
    assert sum(count(part) for part in method.parts().values()) == count(method)


# --- upscaling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "size"), [(1, (16, 16)), (2, (16, 20)), (3, (13, 9)), (3, (3, 17)), (2, (1, 1))])
@pytest.mark.parametrize("alignment", ["dcn", "warp"])
def test_any_length_and_size(alignment: str, frames: int, size: tuple[int, int]) -> None:
    method = tiny(f"method.alignment={alignment}")
    lr = latent.make_clip(frames, (24, 24), batch=2).lr[..., : size[0], : size[1]]
    clip = Clip(lr, None, ["a", "b"], torch.arange(frames).expand(2, frames), 4)
    output = method.upscale(clip, Noise(0))
    assert output.shape == (2, frames, 3, 4 * size[0], 4 * size[1]) and output.dtype == torch.float32
    assert output.min() >= 0 and output.max() <= 1
    assert torch.equal(upscale_padded(method, clip, Noise(0)), output)


@pytest.mark.parametrize("alignment", ["dcn", "warp"])
def test_any_grouping_gives_the_same_frames(alignment: str) -> None:
    method, clip = tiny(f"method.alignment={alignment}"), latent.make_clip(4, (12, 14), batch=3)
    reference = method.configure_inference(batch=64).upscale(clip, Noise(0))
    for batch in (1, 5):
        assert torch.allclose(method.configure_inference(batch=batch).upscale(clip, Noise(1)), reference, atol=1e-5)
    for b in range(3):
        assert torch.allclose(method.upscale(clip.rows([b]), Noise(0))[0], reference[b], atol=1e-5)


class Stored:
    """A clip as ``inference`` reads it."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.frames = clip, clip.frames

    def read(self, start: int, stop: int) -> Clip:
        return self.clip.window(start, stop)


def chunked(method: BasicVSRPP, clip: Clip, chunk: int) -> Tensor:
    settings = compose([f"inference.chunk={chunk}"], verb="upscale").inference
    return torch.stack([frame for _, frame in upscale_source(method, Stored(clip), Noise(0), settings)])


def test_chunks_are_the_whole_clip_unless_their_overlap_is_limited() -> None:
    clip = latent.make_clip(7, (12, 12))
    method = tiny()
    whole = method.upscale(clip, Noise(0))[0]
    assert method.context == FULL_CLIP and torch.allclose(chunked(method, clip, 2), whole, atol=1e-6)
    short = tiny("method.max_context=2")
    assert short.context == 2
    found = chunked(short, clip, 2)
    alone = short.upscale(clip.window(2, 7), Noise(0))[0, 2]  # frames 4, 5 with two neighbours on each side that exist
    assert torch.allclose(found[4], alone, atol=1e-6) and not torch.allclose(found, whole, atol=1e-4)


def test_training_starts_at_the_enlarged_frame() -> None:
    """size=mini: the last convolution is zero, the residual MATLAB's bicubic."""
    method, clip = latent.method("basicvsrpp", size="mini"), latent.make_clip(2, (20, 24))
    assert torch.allclose(method.upscale(clip, Noise(0)), imresize(clip.lr, 4).clamp(0, 1), atol=1e-6)
    bilinear = latent.method("basicvsrpp", "method.residual=bilinear", size="mini")
    expected = nn.functional.interpolate(clip.lr[0], scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(bilinear.upscale(clip, Noise(0))[0], expected.clamp(0, 1), atol=1e-6)


def test_a_mirrored_clip_is_followed_by_its_reverse() -> None:
    mirrored, plain = tiny("method.mirror=true"), tiny()
    clip = latent.make_clip(3)
    both = Clip(torch.cat([clip.lr, clip.lr.flip(1)], 1), None, clip.name, torch.arange(6)[None], 4)
    assert torch.allclose(mirrored.upscale(clip, Noise(0)), plain.upscale(both, Noise(0))[:, :3], atol=1e-6)


def test_progress_and_trace() -> None:
    class Spy:
        total = done = 0

        def start(self, total: int, what: str) -> None:
            self.total = total

        def advance(self, count: int = 1) -> None:
            self.done += count

        def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
            self.flows = tensors

    spy = Spy()
    tiny("method.branches=2").configure_inference(batch=3).upscale(latent.make_clip(5, batch=2), Noise(0), spy, spy)
    assert spy.total == spy.done == 2 * 5 * 3
    assert {name: tuple(flow.shape) for name, flow in spy.flows.items()} == dict.fromkeys(
        ("to_next", "to_previous"), (2, 4, 2, 16, 16)
    )


def test_bf16_stays_near_fp32() -> None:
    method, clip = tiny(), latent.make_clip(3, (16, 16))
    exact = method.upscale(clip, Noise(0))
    half = method.configure_inference(precision="bf16").upscale(clip, Noise(0))
    assert half.dtype == torch.float32
    assert -10 * (half - exact).square().mean().log10() > 40


def test_units_of_work_run_and_cover_every_part() -> None:
    method, clip = tiny(), latent.make_clip(4)
    lines = method.work(clip)
    for unit in lines.values():
        unit.run()
    assert {name: unit.per_frame for name, unit in lines.items()} == {
        "flow network": 0.75, "feature extraction": 1.0, "reconstruction": 1.0,
        **{f"alignment {name}": 0.75 for name in method.net.propagation.names},
        **{f"branch {name}": 1.0 for name in method.net.propagation.names},
    }  # fmt: skip
    assert not any("alignment" in name or "flow" in name for name in method.work(clip.window(0, 1)))


# --- training --------------------------------------------------------------------------------------


def adam(parameters: Iterable[Any]) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.99))


def began(*overrides: str, schedule: Any = None) -> BasicVSRPPModule:
    module = latent.module("basicvsrpp", *overrides)
    wake(module.method)
    module.begin_stage("sr", adam, Noise(0), schedule)
    return module.train()


@pytest.mark.parametrize("alignment", ["dcn", "warp"])
@pytest.mark.parametrize("frames", [2, 4])
def test_every_parameter_has_a_gradient_at_every_step(alignment: str, frames: int) -> None:
    """Distributed training then needs no search for unused ones."""
    module = began(f"method.alignment={alignment}", "module.flow_loss=0.1", "module.flow_hold=10")
    module.training_step(latent.make_clip(frames, batch=2), 0).backward()
    assert all(p.requires_grad and p.grad is not None for p in module.parameters())
    assert set(module.terms) == {"pixel", "flow"}


def test_training_lowers_the_loss_of_a_fixed_batch() -> None:
    module, clip = began("module.lpips=0.1", "module.features=random_features"), latent.make_clip(3, batch=2)
    optimiser = module.configure_optimizers()
    losses = []
    for _ in range(12):
        losses.append(module.training_step(clip, 0))
        optimiser.zero_grad()
        losses[-1].backward()
        module.on_before_optimizer_step(optimiser)
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]
    assert set(module.terms) == {"pixel", "perceptual"}
    assert all(p.grad is None for p in module.perceptual.parameters())


def moved(module: BasicVSRPPModule, steps: list[int]) -> list[tuple[bool, bool, float]]:
    """At which of the given step numbers the flow network and the rest move, and the flow network's learning rate."""
    made, clip, found = module.configure_optimizers(), latent.make_clip(2), []
    optimiser, schedule = (
        (made["optimizer"], made["lr_scheduler"]["scheduler"]) if isinstance(made, dict) else (made, None)
    )
    for step in steps:
        type(module).global_step = property(lambda _, step=step: step)
        before = [p.detach().clone() for p in module.method.net.parameters()]
        module.training_step(clip, 0).backward()
        module.on_before_optimizer_step(optimiser)
        rate = optimiser.param_groups[1]["lr"] / optimiser.param_groups[0]["lr"]
        optimiser.step()
        optimiser.zero_grad()
        if schedule is not None:
            schedule.step()
        names = [name for name, _ in module.method.net.named_parameters()]
        change = {
            n: not torch.equal(a, b) for n, a, b in zip(names, before, module.method.net.parameters(), strict=True)
        }
        flow = [value for name, value in change.items() if name.startswith("spynet.")]
        rest = [value for name, value in change.items() if not name.startswith("spynet.")]
        found.append((any(flow), all(rest), round(rate, 6)))
    return found


@pytest.mark.parametrize("kind", [None, "cosine", "one_cycle"])
def test_the_flow_network_is_held_and_then_learns_slowly(kind: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under any schedule; its gradients exist all the while."""
    monkeypatch.setattr(BasicVSRPPModule, "global_step", BasicVSRPPModule.global_step)  # put back afterwards
    schedules: dict[str | None, Any] = {
        None: None,
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10, 1e-7),
        "one_cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1e-3, 10),
    }
    module = began("module.flow_hold=2", "module.flow_loss=0.1", schedule=schedules[kind])
    expected = [(False, True, 0.0)] * 2 + [(True, True, 0.25)] * 2
    assert moved(module, [0, 1, 2, 3]) == expected


@torch.no_grad()
def test_a_samples_loss_does_not_depend_on_its_batch() -> None:
    module, clip = began("module.flow_loss=0.1"), latent.make_clip(3, batch=3)
    together = module.losses(clip, Noise(0))
    alone = [module.losses(clip.rows([b]), Noise(0)) for b in range(3)]
    for name, value in together.items():
        assert torch.allclose(value, torch.stack([a[name] for a in alone]).mean(), rtol=1e-4), name


@torch.no_grad()
@pytest.mark.parametrize("exact", [True, False])
def test_the_flow_term_is_smallest_at_the_true_motion(exact: bool) -> None:
    """The scene moves by 1.5 HR pixels per HR frame number, that is 1.5 LR pixels between LR frames of the clip."""
    clip, module = latent.make_clip(3, (24, 24)), began("module.flow_loss=1.0")
    true = torch.tensor([-1.5, 0.5]).view(1, 1, 2, 1, 1).expand(1, 2, 2, 24, 24)
    if exact:
        still = torch.zeros(1, 2, 2, 24, 24, dtype=torch.bool)
        clip = Clip(clip.lr, clip.hr, clip.name, clip.index, 4, true, -true, still)
    errors = []
    for factor in (1.0, 0.8, -1.0, 0.0):
        flow = factor * true
        module.method.net.flows = lambda lr, flow=flow: (flow, -flow)
        errors.append(module.losses(clip, Noise(0))["flow"].item())
    assert min(errors) == errors[0] and (not exact or errors[0] < 2e-3)


def test_losses_that_cannot_be_had_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"train\.frames=2"):
        began().losses(latent.make_clip(1), Noise(0))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"LPIPS has no weights: .*put the files .*vgg16"):
        latent.module("basicvsrpp", "module.lpips=1")
    assert latent.module("basicvsrpp").perceptual is None, "weight 0 needs no files"
    found = latent.module("basicvsrpp", "module.lpips=1", "module.features=random_features").perceptual
    assert isinstance(found, RandomFeatures) and not isinstance(found, LPIPS)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("flow_net=raft", "method.flow_net=raft: use spynet or pyramid"),
        ("residual=nearest", "method.residual=nearest: use bilinear or bicubic"),
        ("flow_weights=x.pth", "method.flow_weights=x.pth are SPyNet's"),
        ("alignment=none", "method.alignment=none"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        latent.method("basicvsrpp", f"method.{setting}")


def test_the_miniature_learns_what_bicubic_cannot_know() -> None:
    """From its start at the bicubic frame it gains on a fixed clip within a few steps."""
    module, clip = latent.module("basicvsrpp", size="mini"), latent.make_clip(3, (16, 16), batch=2)

    def quality() -> float:
        return psnr(quantise(module.upscale(clip, Noise(0))[0]), quantise(clip.hr[0])).mean().item()

    start = quality()
    module.begin_stage("sr", lambda p: torch.optim.Adam(p, lr=2e-3), Noise(0))
    optimiser = module.configure_optimizers()
    for _ in range(25):
        optimiser.zero_grad()
        module.training_step(clip, 0).backward()
        optimiser.step()
    assert quality() > start + 1


def test_the_shipped_miniature_beats_bicubic_enlargement() -> None:
    """On moving frames by more than half a decibel, and by more than it makes of each frame alone."""
    method, clip = latent.method("basicvsrpp", size="mini"), latent.make_clip(5, (24, 24))
    load_trained(method, compose(["method=basicvsrpp", "size=mini"], verb="eval").weights)

    def quality(frames: Tensor) -> float:
        return psnr(quantise(frames[0]), quantise(clip.hr[0]), 4).mean().item()

    together = quality(method.upscale(clip, Noise(0)))
    alone = torch.cat([method.upscale(clip.window(t, t + 1), Noise(0)) for t in range(5)], dim=1)
    assert together > quality(imresize(clip.lr, 4).clamp(0, 1)) + 0.5
    assert together > quality(alone)


# --- weights ---------------------------------------------------------------------------------------

SMALL = ["method.flow_net=spynet"]


def published(state: State, layout: str) -> State:
    """Our state under the names that a published file has."""
    names = {
        "propagation.": "", "reconstruction.reconstruction.": "reconstruction.", "reconstruction.upsample": "upsample",
        "reconstruction.conv_": "conv_",
    }  # fmt: skip
    found: State = {}
    for key, value in state.items():
        old = next((p for p in names if key.startswith(p)), None)
        new = key if old is None else names[old] + key.removeprefix(old)
        if layout == "mmediting":
            if new.startswith("spynet."):
                level, layer, kind = (new.split(".")[i] for i in (2, 4, 5))
                new = f"spynet.basic_module.{level}.basic_module.{int(layer) // 2}.conv.{kind}"
            new = f"generator.{new}"
        else:
            for n in "12":
                new = new.replace(f"upsample{n}.upsample_conv", f"upconv{n}")
        found[new] = value
    extra = {"spynet.mean": [0.485, 0.456, 0.406], "spynet.std": [0.229, 0.224, 0.225]}
    prefix = "generator." if layout == "mmediting" else ""
    found |= {prefix + key: torch.tensor(value).view(1, 3, 1, 1) for key, value in extra.items()}
    return found | ({"step_counter": torch.tensor(7)} if layout == "mmediting" else {})


def write(state: State, layout: str, path: Path) -> Path:
    content = {"meta": {"epoch": 1}, "state_dict": state} if layout == "mmediting" else {"params": state}
    torch.save(content, path)
    return path


@pytest.mark.parametrize("layout", ["mmediting", "basicsr"])
def test_published_checkpoints_load(layout: str, tmp_path: Path) -> None:
    one, other = tiny(*SMALL), latent.method("basicvsrpp", *SMALL, "method.num_blocks=1")
    with torch.no_grad():
        for p in one.parameters():
            p.add_(0.01)
    state = published(one.trained_state(), layout)
    load_trained(other, str(write(state, layout, tmp_path / "generator.pth")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    clip = latent.make_clip(3)
    assert torch.equal(one.upscale(clip, Noise(0)), other.upscale(clip, Noise(0)))


def test_the_names_at_paper_size_are_the_published_ones() -> None:
    """A sample of the names that the published file is known to hold, with their shapes."""
    state = published(on_meta().trained_state(), "mmediting")
    expected = {
        "spynet.basic_module.5.basic_module.4.conv.weight": (2, 16, 7, 7),
        "feat_extract.main.0.weight": (64, 3, 3, 3),
        "feat_extract.main.2.4.conv2.bias": (64,),
        "deform_align.backward_1.weight": (64, 128, 3, 3),
        "deform_align.forward_2.conv_offset.6.weight": (432, 64, 3, 3),
        "backbone.forward_2.main.0.weight": (64, 320, 3, 3),
        "backbone.backward_2.main.2.6.conv1.weight": (64, 64, 3, 3),
        "reconstruction.main.0.weight": (64, 320, 3, 3),
        "upsample2.upsample_conv.weight": (256, 64, 3, 3),
        "conv_last.weight": (3, 64, 3, 3),
    }
    assert {key: tuple(state[f"generator.{key}"].shape) for key in expected} == expected


@pytest.mark.parametrize("layout", ["mmediting", "basicsr"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if "spynet" not in k}, "lack spynet"),
        (lambda s: {k: v for k, v in s.items() if "conv_last.bias" not in k}, "do not fit 'reconstruction'"),
        (lambda s: {**s, "extra.weight": torch.zeros(1)}, "hold 'extra.weight', which is nothing of"),
        (lambda s: {k: v[:1] if "conv_hr.bias" in k else v for k, v in s.items()}, "do not fit 'reconstruction'"),
    ],
)
def test_what_does_not_fit_is_refused(layout: str, change: Any, message: str, tmp_path: Path) -> None:
    method = tiny(*SMALL)
    state = change(published(method.trained_state(), layout))
    with pytest.raises(WeightsError, match=message):
        load_trained(method, str(write(state, layout, tmp_path / "generator.pth")))


def test_weights_check_knows_generators(tmp_path: Path) -> None:
    """Compared with the method that is asked about; without it a published file counts for its SPyNet."""
    method, settings = tiny(*SMALL), ["method=basicvsrpp", "size=tiny", *SMALL]
    own = str(tmp_path / "own.safetensors")
    save_file(method.trained_state(), own)
    theirs = str(write(published(method.trained_state(), "mmediting"), "mmediting", tmp_path / "theirs.pth"))
    cfg = compose(settings, verb="weights")
    for file in (own, theirs):
        fits = {fit.part: fit for fit in check_path(file, cfg)}
        assert set(fits) == set(method.parts()) and all(fit.fits for fit in fits.values())
        assert sum(fit.parameters for fit in fits.values()) == count(method)
    (fit,) = check_path(theirs, compose(["method=dgaf"], verb="weights"))
    assert fit.fits and fit.kind == "SPyNet"


def test_own_weights_come_back(tmp_path: Path) -> None:
    one, other = tiny(), latent.method("basicvsrpp")
    save_file(one.trained_state(), tmp_path / "own.safetensors")
    load_trained(other, str(tmp_path / "own.safetensors"))
    assert torch.equal(*(m.upscale(latent.make_clip(2), Noise(0)) for m in (one, other)))


def test_training_can_start_from_spynets_weights(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = SpyNetwork()
    torch.save({"params": network.state_dict()}, tmp_path / "spynet.pth")
    method = latent.method("basicvsrpp", *SMALL, f"method.flow_weights={tmp_path / 'spynet.pth'}")
    for a, b in zip(network.parameters(), method.net.spynet.parameters(), strict=True):
        assert torch.equal(a, b)
