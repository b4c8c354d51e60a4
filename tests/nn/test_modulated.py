"""Adaptive, modulated, demodulated convolutions, their noise and their kernels by clip."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.nn.modulated import GAIN, AdaptiveConv, EqualLinear, Style, StyledConv, convolve_clips, pointwise


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_demodulation_gives_unit_variance_for_any_style() -> None:
    conv = AdaptiveConv(32, 64, style=16)
    for strength in (0.1, 1.0, 50.0):
        kernel = conv.kernel(strength * torch.randn(3, 16))
        torch.testing.assert_close(kernel.square().sum((2, 3, 4)), torch.ones(3, 64), rtol=1e-3, atol=0)
    y = F.conv2d(torch.randn(4, 32, 24, 24), kernel[0])
    assert y.var().item() == pytest.approx(1, abs=0.05)


def test_kernels_are_mixed_and_scaled_over_the_inputs() -> None:
    conv, w = AdaptiveConv(3, 5, style=4, experts=2, demodulate=False), torch.randn(1, 4)
    share = conv.select(w).softmax(1)[0]
    mixed = share[0] * conv.bank[0] + share[1] * conv.bank[1]
    style = conv.modulate(w)[0] / math.sqrt(3 * 9)
    torch.testing.assert_close(conv.kernel(w)[0], mixed * style[None, :, None, None])


def test_styles_are_one_on_average_at_the_start() -> None:
    torch.testing.assert_close(AdaptiveConv(6, 4, style=8).modulate(torch.zeros(1, 8)), torch.ones(1, 6))


def test_kernels_stay_in_full_precision_under_autocast() -> None:
    conv, w = AdaptiveConv(4, 4, style=8), torch.randn(1, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kernel = conv.kernel(w)
        y = conv(torch.randn(1, 4, 5, 5), Style(w), torch.zeros(4))
    assert torch.equal(kernel, conv.kernel(w))
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize(("clips", "frames"), [(1, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_each_clip_has_its_own_kernel(clips: int, frames: int, size: int, stride: int) -> None:
    x = torch.randn(clips, frames, 4, 6, 7).double()
    kernels, bias = torch.randn(clips, 5, 4, size, size).double(), torch.randn(5).double()
    y = convolve_clips(x.flatten(0, 1), kernels, bias, stride, size // 2).unflatten(0, (clips, frames))
    for clip in range(clips):
        torch.testing.assert_close(y[clip], F.conv2d(x[clip], kernels[clip], bias, stride, size // 2))


def test_pointwise_is_a_convolution() -> None:
    x, kernel = torch.randn(2, 3, 4, 5), torch.randn(6, 3, 1, 1)
    torch.testing.assert_close(pointwise(x, kernel), F.conv2d(x, kernel))


def test_layer_is_the_textbook_one() -> None:
    """The gain of the activation sits in the kernel, the bias and the noise: the result is the same."""
    layer, x, w = StyledConv(4, 6, style=8).double(), torch.randn(2, 4, 5, 5).double(), torch.randn(1, 8).double()
    torch.nn.init.normal_(layer.bias)
    torch.nn.init.constant_(layer.strength, 0.7)
    noise = torch.randn(1, 1, 5, 5).double()
    kernel = layer.conv.kernel(w)[0] / GAIN
    before = F.conv2d(x, kernel, layer.bias, padding=1) + 0.7 * noise
    torch.testing.assert_close(layer(x, Style(w, lambda *_: noise)), F.leaky_relu(before, 0.2) * GAIN)


def test_noise_is_that_of_the_layer_and_clip_in_every_frame() -> None:
    layer = StyledConv(2, 3, style=4)
    torch.nn.init.constant_(layer.strength, 1.0)
    layer.name = "third"
    asked = []

    def noise(name: str, height: int, width: int) -> Tensor:
        asked.append((name, height, width))
        return torch.randn(2, 1, height, width)

    frame = torch.randn(2, 1, 2, 6, 4)
    with torch.no_grad():
        style = Style(torch.randn(2, 4), noise)
        y = layer(frame.expand(-1, 3, -1, -1, -1).flatten(0, 1), style).unflatten(0, (2, 3))
        layer(frame.flatten(0, 1), style)
    assert asked == [("third", 6, 4)]
    assert torch.equal(y[:, 0], y[:, 1]) and torch.equal(y[:, 0], y[:, 2])


def test_kernels_are_built_once_where_nothing_is_trained() -> None:
    layer, w = StyledConv(2, 3, style=4), torch.randn(1, 4)
    trained = Style(w)
    assert trained.kernel(layer.conv) is not trained.kernel(layer.conv)
    with torch.no_grad():
        kept = Style(w)
        assert kept.kernel(layer.conv) is kept.kernel(layer.conv)


def test_every_parameter_has_a_gradient() -> None:
    layer = StyledConv(2, 3, style=4, experts=2)
    layer(torch.randn(1, 2, 5, 5), Style(torch.randn(1, 4), lambda _, h, w: torch.randn(1, 1, h, w))).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_learning_rate_multiplier_leaves_the_start_alone() -> None:
    slow = EqualLinear(200, 300, bias=0.5, multiplier=0.01)
    y = slow(torch.randn(50, 200))
    assert y.std().item() == pytest.approx(1, abs=0.05)
    assert y.mean().item() == pytest.approx(0.5, abs=0.05)
    assert slow.weight.std().item() == pytest.approx(100, rel=0.05)
