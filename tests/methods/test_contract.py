"""What every method promises. A method is tested by being there: each file of conf/method is one."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import latent
from inference_fakes import SETTINGS, Memory
from vsrbench.config import build, compose, home
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import WeightsError
from vsrbench.inference.chunks import upscale_source
from vsrbench.inference.tiles import upscale_padded
from vsrbench.types import Clip

ALL = sorted(file.stem for file in (home() / "conf" / "method").glob("*.yaml"))
COPIES = ["gt"]  # of the ground truth: nothing is computed
UPSCALERS = [name for name in ALL if name not in COPIES]


@cache
def settings(name: str, verb: str = "eval", *overrides: str) -> Any:
    size = ["size=tiny"] if (home() / "conf" / "method" / name / "tiny.yaml").is_file() else []
    return compose([f"method={name}", *size, *overrides], verb=verb)


def method(name: str, *overrides: str) -> Any:
    """At size=tiny with seeded random weights everywhere: zero initialisations would hide what a part does."""
    torch.manual_seed(0)
    built = build(settings(name, "eval", *overrides).method).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            if not parameter.any():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return built


def bare(clip: Clip) -> Clip:
    return Clip(clip.lr, None, clip.name, clip.index, clip.scale)


def upscale(built: Any, clip: Clip) -> Tensor:
    with torch.inference_mode():
        return built.upscale(bare(clip), Noise(0)).float()


def assert_same_frames(frames: Tensor, expected: Tensor) -> None:
    """Equal to rounding. A method that quantises to 8 bits on its way may round a pixel in ten thousand elsewhere."""
    difference = (frames - expected).abs()
    assert difference.max() <= 2.5 / 255 and (difference > 2e-5).double().mean() < 2e-4, difference.max()


def stages() -> list[tuple[str, str]]:
    return [(name, stage) for name in UPSCALERS for stage in build_class(name).stages]


def build_class(name: str) -> Any:
    from hydra.utils import get_class

    return get_class(settings(name).method._target_)


@pytest.mark.parametrize("name", UPSCALERS)
@pytest.mark.parametrize("size", [(17, 23), (16, 40)])
def test_any_size_comes_out_enlarged(name: str, size: tuple[int, int]) -> None:
    clip = latent.make_clip(frames=2, size=size)
    frames = upscale_padded(method(name), bare(clip), Noise(0))
    assert frames.shape == (1, 2, 3, 4 * size[0], 4 * size[1])
    assert frames.dtype == torch.float32 and frames.min() >= 0 and frames.max() <= 1
    assert frames.std() > 0.01


@pytest.mark.parametrize("name", UPSCALERS)
def test_the_same_call_gives_the_same_frames_and_another_seed_only_where_noise_is_drawn(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=3)
    first = upscale(built, clip)
    assert torch.equal(first, upscale(built, clip))
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("name", UPSCALERS)
def test_a_clip_does_not_see_the_others_of_its_batch(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=3, batch=2)
    together = upscale(built, clip)
    for row in range(2):
        assert_same_frames(together[[row]], upscale(built, clip.rows([row])))


@pytest.mark.parametrize("name", UPSCALERS)
def test_frames_do_not_depend_on_how_many_the_networks_take_at_once(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=4)
    built.batch = 4
    whole = upscale(built, clip)
    built.batch = 1
    assert_same_frames(upscale(built, clip), whole)


@pytest.mark.parametrize("name", UPSCALERS)
def test_chunks_with_their_context_are_the_whole_clip(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=7)
    source = Memory(clip.lr[0])
    whole = dict(upscale_source(built, source, Noise(0), {**SETTINGS, "whole": 200, "chunk": 7}))
    chunked = dict(upscale_source(built, source, Noise(0), {**SETTINGS, "whole": 200, "chunk": 2}))
    assert list(chunked) == list(range(7))
    for number, frame in chunked.items():
        assert_same_frames(frame, whole[number])


@pytest.mark.parametrize("name", UPSCALERS)
def test_every_parameter_belongs_to_one_part(name: str) -> None:
    built = method(name)
    of_parts = [id(p) for part in built.parts().values() for p in part.parameters()]
    assert len(of_parts) == len(set(of_parts))
    assert {id(p) for p in built.parameters()} == set(of_parts)


@pytest.mark.parametrize("name", [name for name in UPSCALERS if build_class(name).stages])
def test_weights_that_were_saved_load_and_give_the_same_frames(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=2)
    state = {key: value.clone() for key, value in built.trained_state().items()}
    assert state
    before = upscale(built, clip)
    with torch.no_grad():
        for part in {key.partition(".")[0] for key in state}:
            for parameter in built.parts()[part].parameters():
                parameter.mul_(0.5)
    built.load_trained_state(state)
    assert torch.equal(upscale(built, clip), before)
    key = next(iter(state))
    with pytest.raises(WeightsError, match=key.partition(".")[2].split(".")[0]):
        built.load_trained_state({**state, f"{key}_of_another_network": state[key]})


@pytest.mark.parametrize(("name", "stage"), stages())
def test_a_step_of_training_lowers_the_loss_of_its_batch(name: str, stage: str) -> None:
    """Twenty steps on one batch with the same draws; the mean of the last losses lies below the first."""
    module, clip = training(name, stage)
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for _ in range(20):
        loss = total(module, clip)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(losses[-3:]) / 3 < losses[0]


@pytest.mark.parametrize(("name", "stage"), stages())
def test_a_stage_trains_its_parts_and_nothing_else(name: str, stage: str) -> None:
    module, clip = training(name, stage)
    total(module, clip).backward()
    parts = module.parts()
    moved = {n for n, part in parts.items() if any(p.grad is not None for p in part.parameters())}
    assert moved <= set(module.stages[stage].trainable)
    assert moved


@pytest.mark.parametrize(("name", "stage"), stages())
def test_gradient_checkpointing_changes_no_gradient(name: str, stage: str) -> None:
    if "checkpointing" not in settings(name, "train").module:
        pytest.skip(f"method={name} has no gradient checkpointing")
    gradients = []
    for switch in (False, True):
        module, clip = training(name, stage, f"module.checkpointing={str(switch).lower()}")
        total(module, clip).backward()
        gradients.append([p.grad for p in module.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, atol=1e-6, rtol=1e-4)


def training(name: str, stage: str, *overrides: str) -> tuple[Any, Clip]:
    """The training module at the start of a stage, and one batch as its recipe crops it."""
    cfg = settings(name, "train", f"stage={stage}", *overrides)
    torch.manual_seed(0)
    module = build(cfg.module, method=build(cfg.method))
    module.begin_stage(stage, build(cfg.optimiser, _convert_="all"), Noise(0), None)
    clip = latent.make_clip(frames=int(cfg.train.frames), size=(int(cfg.train.crop),) * 2, batch=1)
    return module.train(), clip


def total(module: Any, clip: Clip) -> Tensor:
    terms = module.losses(clip, Noise(0))
    assert all(torch.isfinite(value) for value in terms.values()), terms
    return torch.stack(list(terms.values())).sum()
