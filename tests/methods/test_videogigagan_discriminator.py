"""The discriminator: its plan, one logit per frame, no look over time at the start, and R1's second derivative."""

import math

import pytest
import torch
from torch import Tensor, nn

from vsrbench.errors import ConfigError
from vsrbench.methods.videogigagan.discriminator import BLUR, Discriminator, EqualConv2d, Residual, deviation
from vsrbench.methods.videogigagan.losses import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)
from vsrbench.nn.blurpool import low_pass


def tiny(**settings: object) -> Discriminator:
    torch.manual_seed(0)
    plan = {"widths": (16, 16, 8, 8), "blocks": 1, "attention": (8,), "heads": 2, **settings}
    return Discriminator(32, **plan)


def awake(network: Discriminator) -> Discriminator:
    """With modules over time that do something."""
    with torch.no_grad():
        for parameter in network.temporal.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return network


def clips(count: int = 2, frames: int = 3, size: int = 32) -> Tensor:
    return torch.rand(count, frames, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def millions(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


# --- plan ------------------------------------------------------------------------------------------


def test_parameters_of_the_sizes() -> None:
    """The supplement prints 179 M; 29.1 M at small, 1.47 M at mini."""
    deep = dict.fromkeys((64, 32, 16, 8), 8)
    plan = {"deep": deep, "attention_depth": (2, 2), "temporal_depth": {8: 2, 16: 2, 32: 1}, "temporal_attention": "l2"}
    with torch.device("meta"):
        paper = Discriminator(256, **plan)
        small = Discriminator(256, (512, 512, 512, 256, 128, 64, 32))
        mini = Discriminator(256, (128, 128, 96, 64, 32, 16, 8), attention=(8,), heads=4)
        larger = Discriminator(512, **plan)
    assert millions(paper) == pytest.approx(178.87, abs=0.01)
    assert millions(paper.temporal) == pytest.approx(6.30, abs=0.01)
    assert millions(small) == pytest.approx(29.11, abs=0.01)
    assert millions(mini) == pytest.approx(1.467, abs=0.001)
    assert list(larger.image.levels) == ["512", "256", "128", "64", "32", "16", "8"]
    assert larger.image.entry.weight.shape[0] == 64, "beyond the list each width is half of the one before"


def test_layers_of_attention_over_space_and_time_where_they_are_set() -> None:
    network = tiny(attention=(8, 16), attention_depth=(2, 1), temporal_depth={8: 2, 16: 1}, temporal_attention="l2")
    levels = network.image.levels
    depths = {size: (level.attention is not None) + len(level.deeper) for size, level in levels.items()}
    assert depths == {"32": 0, "16": 1, "8": 2}
    assert {size: 1 + len(module.deeper) for size, module in network.temporal.items()} == {"16": 1, "8": 2}
    x = clips()
    assert torch.equal(network(x), network(x, over_time=False))
    layers = [levels["8"].attention, *levels["8"].deeper]
    before = network(x)
    for layer in layers:
        with torch.no_grad():
            layer.to_out.weight.zero_()
        after = network(x)
        assert not torch.equal(after, before), "every layer acts"
        before = after
    with pytest.raises(ConfigError, match=r"attention_depth=\(1, 1\): give one number, or one for each"):
        tiny(attention_depth=(1, 1))


@pytest.mark.parametrize("size", [4, 24, 100, 0])
def test_sizes_that_cannot_be_halved_to_four_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"8, 16, 32, .* not {size}: set train\.crop"):
        Discriminator(size)


def test_halving_keeps_both_ways_on_one_grid() -> None:
    """Of a map that grows along a row, shortcut and convolution pick samples at the same places."""
    block = Residual(1, 1, down=True)
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    assert block(ramp).shape == (1, 1, 8, 8)
    with torch.no_grad():
        block.second.weight.zero_()[0, 0, 1, 1] = 1 / block.second.scale
        block.second.slope = None
    blurred = low_pass(ramp, BLUR)
    assert torch.allclose(block.second(blurred)[..., 1:-1], low_pass(ramp, BLUR, stride=2)[..., 1:-1], atol=1e-5)


def test_equalised_layers_keep_the_second_moment() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 64, 16, 16)
    assert EqualConv2d(64, 64, 3)(x).square().mean().item() == pytest.approx(1, abs=0.15)


# --- clips -----------------------------------------------------------------------------------------


def test_at_the_start_a_clip_is_judged_frame_by_frame() -> None:
    network = tiny()
    x = clips(count=1)
    frames = x.transpose(0, 1)
    assert network(x).shape == (1, 3)
    assert torch.equal(network(x), network(x, over_time=False))
    alone = torch.cat([network(frame[None]) for frame in frames])
    assert torch.allclose(network(x)[0], alone[:, 0], atol=1e-5)
    plain = tiny(temporal=False)
    plain.image.load_state_dict(network.image.state_dict())
    assert torch.equal(network(x), plain(x))


def test_modules_over_time_see_other_frames() -> None:
    network, x = awake(tiny()), clips()
    other = x.clone()
    other[:, 2] = -other[:, 2]
    assert not torch.allclose(network(x)[:, 0], network(other)[:, 0], atol=1e-4)
    assert torch.allclose(network(x, over_time=False)[:, 0], network(other, over_time=False)[:, 0], atol=1e-5)


def test_deviation_is_over_clips_at_equal_time() -> None:
    x = torch.randn(4, 3, 5, 4, 4)
    spread = deviation(x)
    assert spread.shape == (4, 3, 1, 4, 4)
    expected = x.std(0, unbiased=False).mean((1, 2, 3))
    assert torch.allclose(spread[..., 0, 0, 0], expected.expand(4, 3), atol=1e-5)
    assert torch.equal(deviation(x[:1]), torch.zeros(1, 3, 1, 4, 4)), "a single clip has none"
    still = x[:, :1].expand(-1, 3, -1, -1, -1)
    assert torch.allclose(deviation(still)[:, 0], deviation(still)[:, 2]), "frames of one clip are not compared"


@pytest.mark.parametrize(("count", "group"), [(2, 2), (3, 3), (6, 3), (8, 4), (5, 1)])
def test_groups_divide_the_batch(count: int, group: int) -> None:
    x = torch.randn(count, 1, 2, 4, 4)
    assert torch.allclose(deviation(x)[0], deviation(x.unflatten(0, (group, -1))[:, 0])[0], atol=1e-6)


def test_condition_sees_the_low_resolution_frames() -> None:
    network, x, lr = tiny(condition=True), clips(), clips(size=8)
    assert not torch.equal(network(x, lr), network(x, -lr))
    assert torch.equal(tiny()(x, lr), tiny()(x, -lr))


def test_checkpointing_changes_nothing() -> None:
    network, x = awake(tiny()), clips()
    grads = []
    for checkpointing in (False, True):
        network.zero_grad()
        network(x, checkpointing=checkpointing).sum().backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads, strict=True))


# --- losses ----------------------------------------------------------------------------------------


def test_penalty_of_a_linear_discriminator_is_its_weights_squared() -> None:
    weight = torch.randn(3, 8, 8)

    def judge(frames: Tensor) -> Tensor:
        return (frames * weight).flatten(2).sum(2)

    for shape in ((2, 3, 3, 8, 8), (1, 1, 3, 8, 8)):
        assert float(gradient_penalty(judge, torch.rand(shape))) == pytest.approx(
            float(weight.square().sum()), rel=1e-5
        )


def test_penalty_has_a_finite_gradient_that_differences_confirm() -> None:
    network = awake(tiny()).double()
    x = clips().double()

    def penalty() -> Tensor:
        # the penalty itself runs in float32; its gradient is checked in float64
        frames = x.clone().requires_grad_(True)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            (slope,) = torch.autograd.grad(network(frames).sum(), frames, create_graph=True)
        return slope.square().flatten(2).sum(2).mean()

    weight = network.image.entry.weight
    (found,) = torch.autograd.grad(penalty(), weight)
    step, direction = 1e-7, torch.randn_like(weight)
    with torch.no_grad():
        weight += step * direction
    above = penalty()
    with torch.no_grad():
        weight -= 2 * step * direction
    difference = (above - penalty()) / (2 * step)
    assert (found * direction).sum().item() == pytest.approx(difference.item(), rel=1e-3)


def test_penalty_reaches_every_parameter_in_float32_under_autocast() -> None:
    network = awake(tiny())
    with torch.autocast("cpu", torch.bfloat16):
        penalty = gradient_penalty(network, clips())
    assert penalty.dtype == torch.float32
    assert torch.allclose(penalty, gradient_penalty(network, clips()), rtol=1e-4)
    penalty.backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    missed = {name for name, _ in network.named_parameters()} - reached
    assert all(name.startswith("image.epilogue") and name.endswith("bias") for name in missed), (
        "no slope depends on them"
    )
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_penalty_through_the_attention_of_size_paper() -> None:
    """Distances over space and time, several layers deep, can be differentiated twice."""
    plan = {"attention": (8, 16), "attention_depth": (2, 2), "temporal_depth": {8: 2, 16: 2}}
    network = awake(tiny(temporal_attention="l2", **plan))
    gradient_penalty(network, clips()).backward()
    inner = [p for name, p in network.named_parameters() if "to_kv" in name or "to_key" in name]
    assert len(inner) == 8 and all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in inner)


def test_adversarial_losses_at_undecided_and_sure_logits() -> None:
    zero, sure = torch.zeros(2, 3), torch.full((2, 3), 30.0)
    assert float(discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(discriminator_loss(sure, -sure)) == pytest.approx(0, abs=1e-6)
    assert float(generator_loss(zero)) == pytest.approx(math.log(2))
    assert float(generator_loss(-sure)) == pytest.approx(30, rel=1e-6)
