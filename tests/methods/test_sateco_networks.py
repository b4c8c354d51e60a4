"""SATeCo's own networks: the upscaler against recorded values, SFA, TFA and refiner against their equations, counts."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vsrbench  # noqa: F401  # isort: skip
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.config import build, build_method, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError
from vsrbench.methods.sateco.adapters import SFA, TFA, Guidance, TubeletAttention
from vsrbench.methods.sateco.networks import LatentEncoder, Networks, Refiner
from vsrbench.methods.sateco.upscaler import TMSA, make_upscaler
from vsrbench.types import Clip

CONF = Path(__file__).resolve().parents[2] / "conf"


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def randomised(module: Any, seed: int = 0) -> Any:
    """The module with all its zero weights (and the others) drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.eval()


# --- upscaler --------------------------------------------------------------------------------------------------------


def filled(shift: tuple[int, int, int]) -> TMSA:
    """A block whose every weight is a wave over its own flat index."""
    block = TMSA(8, 2, (2, 4, 4), shift, mask_padding=False).double()
    sin, cos = torch.sin, torch.cos
    waves: list[tuple[Tensor, Callable[[Tensor], Tensor], float]] = [
        (block.table, sin, 1.0), (block.qkv_self.weight, sin, 0.37), (block.qkv_mutual.weight, cos, 0.23),
        (block.project.weight, sin, 0.11), (block.gate.weight, sin, 0.19), (block.value.weight, cos, 0.29),
        (block.out.weight, sin, 0.41),
    ]  # fmt: skip
    with torch.no_grad():
        for parameter, wave, rate in waves:
            parameter.copy_(0.5 * wave(rate * torch.arange(parameter.numel()).double()).view_as(parameter))
        for layer in (block.qkv_self, block.qkv_mutual, block.project, block.gate, block.value, block.out):
            layer.bias.zero_()
    return block


VRT = {  # mean and deviation after each of two blocks, last three values of the last position after the second
    (4, 8, 8): ((-0.042296863, 0.804021714), (-0.048920698, 1.018497980), (-0.0485297, 0.3055790, -0.866051)),
    (5, 6, 10): ((-0.005147745, 0.896277089), (-0.003823682, 1.186123807), (-0.0348286, -0.124295, 1.620527)),
}  # fmt: skip


@pytest.mark.parametrize("size", VRT)
def test_two_blocks_give_the_values_of_vrt(size: tuple[int, int, int]) -> None:
    """Recorded from the published class in float64; the second block is shifted, the second size is padded."""
    x = torch.sin(0.7 * torch.arange(math.prod(size) * 8).double()).view(1, *size, 8)
    *blocks, last = VRT[size]
    for shift, (mean, deviation) in zip(((0, 0, 0), (1, 2, 2)), blocks, strict=True):
        x = filled(shift)(x)
        assert (x.mean().item(), x.std(unbiased=False).item()) == pytest.approx((mean, deviation), abs=1e-5)
    assert x[0, -1, -1, -1, -3:].tolist() == pytest.approx(last, abs=1e-5)


def test_windows_of_the_upscaler_in_chunks() -> None:
    whole = randomised(TMSA(8, 2, (2, 4, 4), (1, 2, 2)))
    x = torch.randn(2, 5, 7, 10, 8)
    expected = whole(x)
    whole.chunk = 3
    assert torch.allclose(whole(x), expected, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(whole(x), expected, atol=1e-5)


def test_padding_is_no_key_of_the_upscaler() -> None:
    """In a frame smaller than a window, a block whose windows have just that size gives the same."""
    block, small = randomised(TMSA(8, 2, (2, 8, 8), (0, 0, 0))), TMSA(8, 2, (2, 6, 6), (0, 0, 0))
    state = block.state_dict()
    table = state["table"].view(3, 15, 15, 2)
    small.load_state_dict({**state, "table": table[:, 2:13, 2:13].reshape(-1, 2)})
    small.position = block.position.view(8, 8, 8)[:6, :6].reshape(36, 8)
    x = torch.randn(1, 4, 6, 6, 8)
    assert torch.allclose(block(x), small(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["tmsa", "pixelshuffle", "bicubic"])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_upscalers_take_any_clip(kind: str, frames: int) -> None:
    settings = {"width": 8, "heads": 2, "features": 8, "window": (2, 4, 4)} if kind == "tmsa" else {}
    upscaler = make_upscaler({"kind": kind, **settings})
    lr = torch.rand(2, frames, 3, 6, 9)
    found = upscaler(lr)
    assert found.shape == (2, frames, 3, 24, 36) and found.isfinite().all()
    assert torch.allclose(torch.cat([upscaler(lr[:1]), upscaler(lr[1:])]), found, atol=1e-6)


def test_the_upscaler_adds_to_the_bilinear_frame() -> None:
    upscaler: Any = make_upscaler({"width": 8, "heads": 2, "features": 8, "window": (2, 4, 4)})
    nn.init.zeros_(upscaler.enlarge[-1].weight)
    nn.init.zeros_(upscaler.enlarge[-1].bias)
    lr = torch.rand(1, 2, 3, 6, 8)
    assert torch.equal(upscaler(lr)[0], F.interpolate(lr[0], scale_factor=4, mode="bilinear"))


def test_frames_reach_each_other_through_two_blocks() -> None:
    """Pairs (0,1)(2,3)(4,5), then (1,2)(3,4): what frame 2 holds reaches frames 1 to 4, no others."""
    torch.manual_seed(0)
    upscaler = make_upscaler({"width": 8, "heads": 2, "features": 8, "window": (2, 4, 4)}).eval()
    lr = torch.rand(1, 6, 3, 8, 8)
    other = lr.clone()
    other[:, 2] = 1 - other[:, 2]
    changed = (upscaler(other) - upscaler(lr)).abs().amax((0, 2, 3, 4)) > 0
    assert changed.tolist() == [False, True, True, True, True, False]


def test_unknown_upscalers() -> None:
    with pytest.raises(ConfigError, match="kind=esrgan: use one of"):
        make_upscaler({"kind": "esrgan"})
    with pytest.raises(ConfigError, match=r"use \[2,h,w\]"):
        make_upscaler({"window": (6, 8, 8)})
    with pytest.raises(ConfigError, match="heads=7"):
        make_upscaler({"heads": 7})
    with pytest.raises(ConfigError, match="scale=3"):
        make_upscaler({}, scale=3)


# --- SFA, TFA --------------------------------------------------------------------------------------------------------


def constant(layer: nn.Conv2d, value: Tensor) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.copy_(value)


def test_sfa_as_printed_gives_back_what_it_normalises() -> None:
    """Eq. 2 with S = sigma and M = mu."""
    f, g = torch.randn(1, 4, 6, 5, dtype=torch.double), torch.randn(1, 4, 6, 5, dtype=torch.double)
    sfa = SFA(4, init="paper").double()
    constant(sfa.scale, f[0].std((1, 2), unbiased=False))
    constant(sfa.shift, f[0].mean((1, 2)))
    assert torch.allclose(sfa(f, g), f, atol=1e-4)


@pytest.mark.parametrize("norm", ["instance", "layer"])
def test_sfa_is_equation_2(norm: str) -> None:
    f, g = torch.randn(2, 4, 6, 5), torch.randn(2, 4, 6, 5)
    sfa = randomised(SFA(4, norm=norm, init="paper"))
    axes = (2, 3) if norm == "instance" else (1, 2, 3)
    normal = (f - f.mean(axes, keepdim=True)) / f.std(axes, keepdim=True, unbiased=False)
    printed = sfa.scale(g) * normal + sfa.shift(g)
    assert torch.allclose(sfa(f, g), printed, atol=1e-3)
    ours = randomised(SFA(4, norm=norm))
    assert torch.allclose(ours(f, g), f + printed, atol=1e-3)


def tfa(channels: int = 8, **settings: Any) -> TFA:
    return randomised(TFA(channels, **{"window": 4, "head_dim": 4, **settings}))


@pytest.mark.parametrize("init", ["identity", "paper"])
@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3)])
def test_windows_that_do_not_divide_equal_windows_of_true_size(init: str, kernel: tuple[int, int, int]) -> None:
    network = tfa(init=init, kernel=kernel).double()
    x, g = torch.randn(2, 6, 8, 7, 10).double()
    expected = torch.empty_like(x)
    for top in (0, 4):
        for left in (0, 4, 8):
            place = (..., slice(top, top + 4), slice(left, left + 4))
            part, guide = x[place], g[place]
            tubes, context = (t.unflatten(0, (2, 3)).permute(0, 1, 3, 4, 2) for t in (part, guide))
            found = network.self_attention(tubes, tubes)
            found = network.cross_attention(found, context)
            expected[place] = found.permute(0, 1, 4, 2, 3).flatten(0, 1)
    assert torch.allclose(network(x, g, 3), expected, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 3, 5])
@pytest.mark.parametrize("grad", [True, False])
def test_windows_in_chunks_equal_all_at_once(chunk: int, grad: bool) -> None:
    network = tfa()
    x, g = torch.randn(4, 8, 14, 9), torch.randn(4, 8, 14, 9)
    with torch.set_grad_enabled(grad):
        expected = network(x, g, 2)
        network.chunk = chunk
        assert torch.allclose(network(x, g, 2), expected, atol=1e-6)


def test_overwriting_changes_the_place_not_the_values() -> None:
    network, g = tfa(), torch.randn(4, 8, 6, 9)
    x = torch.randn(4, 8, 6, 9)
    with torch.no_grad():
        expected, kept = network(x, g, 2), x.clone()
        assert torch.equal(x, kept)
        assert torch.equal(network(x, g, 2, overwrite=True), expected)
        assert torch.equal(x, expected)


def test_tfa_does_not_know_the_frames_order() -> None:
    """As printed, with kernel 1: frames may be exchanged before or after it."""
    network, order = tfa(), torch.tensor([2, 0, 3, 1])
    x, g = torch.randn(4, 8, 6, 9), torch.randn(4, 8, 6, 9)
    assert torch.allclose(network(x[order], g[order], 4), network(x, g, 4)[order], atol=1e-5)


def test_tfa_sees_its_window_in_all_frames_of_its_clip() -> None:
    network = tfa()
    x, g = torch.randn(6, 8, 8, 8), torch.randn(6, 8, 8, 8)
    other = g.clone()
    other[1, :, 5, 2] += 1  # first clip, lower left window
    changed = (network(x, other, 3) - network(x, g, 3)).abs().amax(1) > 1e-7
    expected = torch.zeros_like(changed)
    expected[:3, 4:, :4] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize(("channels", "heads"), [(320, 5), (1280, 20), (128, 2), (40, 1), (72, 2), (80, 2)])
def test_heads(channels: int, heads: int) -> None:
    assert TFA(channels).self_attention.heads == heads


def test_equations_3_and_4() -> None:
    attention = randomised(TubeletAttention(4, 1, init="paper"))
    x, context = torch.randn(1, 2, 3, 3, 4), torch.randn(1, 2, 3, 3, 4)
    q, k, v = (
        layer(t.movedim(-1, 1)).flatten(2).transpose(1, 2)
        for layer, t in ((attention.to_query, x), (attention.to_key, context), (attention.to_value, context))
    )
    printed = (q @ k.transpose(1, 2) / 2).softmax(-1) @ v
    assert torch.allclose(attention(x, context).flatten(1, 3), printed, atol=1e-5)


def test_what_guidance_is_not() -> None:
    for settings, message in (
        ({"kind": "spade"}, "guidance.unet=spade: use zero_conv, sfa or sfa_tfa"),
        ({"init": "zero"}, "init=zero"),
        ({"norm": "batch"}, "norm=batch"),
        ({"kernel": 2}, "2 is no odd kernel"),
        ({"tfa_kernel": (1, 4, 1)}, "4 is no odd kernel"),
        ({"window": 0}, "window=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            Guidance([8], **settings)  # type: ignore[arg-type]


# --- E_z, refiner, counts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(90, 160), (72, 90), (72, 88), (60, 90), (9, 11)])
def test_the_latent_encoder_rounds_as_the_unet_does(size: tuple[int, int]) -> None:
    found = LatentEncoder(4, (4, 4, 8, 8), groups=2)(torch.randn(1, 4, *size))
    sizes = [size]
    for _ in range(3):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    assert [tuple(g.shape[1:]) for g in found] == [(c, *s) for c, s in zip((4, 4, 8, 8), sizes, strict=True)]


def test_refiner_is_equation_5() -> None:
    upscaled, decoded = torch.rand(2, 3, 3, 8, 8), torch.rand(2, 3, 3, 8, 8)
    refiner = Refiner(8)
    assert refiner.w == 0.5
    assert torch.equal(refiner(upscaled, decoded, w=1.0), upscaled)  # at its start it learned nothing
    assert torch.equal(refiner(upscaled, decoded, w=0.0), decoded)
    assert torch.allclose(refiner(upscaled, decoded), (upscaled + decoded) / 2)
    refiner = randomised(refiner)
    learned = refiner(upscaled, decoded, w=0.0) - decoded
    assert learned.abs().max() > 0.1
    for w in (0.3, 1.0):
        refiner.w = w
        expected = w * upscaled + (1 - w) * decoded + learned
        assert torch.allclose(refiner(upscaled, decoded), expected, atol=1e-5)


COUNTS = {
    "video upscaler": 914_799,
    "latent encoder E_z": 79_395_200,
    "SFA (UNet)": 68_205_440,
    "TFA (UNet)": 30_338_560,
    "SFA (VAE)": 10_914_560,
    "TFA (VAE)": 4_860_928,
    "video refiner": 21_123,
}


def test_counts_at_the_papers_size() -> None:
    with torch.device("meta"):
        prior = build(DictConfig(OmegaConf.load(CONF / "prior/sd21.yaml")), random=True, path=None)
        networks = Networks(prior)
        plain = Networks(prior, {"kind": "bicubic"}, guidance={"unet": "zero_conv", "vae": "zero_conv"})
    assert {line: parameters(*parts) for line, parts in networks.parameter_groups().items()} == COUNTS
    assert parameters(networks) == 194_650_610
    assert (parameters(prior.unet), parameters(prior.vae)) == (865_910_724, 83_653_863)
    counts = {line: parameters(*parts) for line, parts in plain.parameter_groups().items()}
    assert (counts["zero convolutions (UNet)"], counts["zero convolutions (VAE)"]) == (3_792_320, 607_616)
    assert "video upscaler" not in counts and "SFA (UNet)" not in counts
    assert prior.schedule.config["beta_schedule"] == "scaled_linear"


@pytest.mark.parametrize("colour", [(0, 1, 0), (1, 0, 1)])
def test_the_colour_fixes_keep_frames_of_one_saturated_colour(colour: tuple[int, int, int]) -> None:
    """Without one the shipped miniature moves these means by more than 30 8-bit levels."""
    lr = torch.tensor(colour).float().view(1, 1, 3, 1, 1).expand(1, 1, 3, 16, 16)
    clip = Clip(lr, None, ["flat"], torch.zeros(1, 1).long(), 4)
    for fix, levels in (("wavelet", 4), ("adain", 1)):
        cfg = compose(["method=sateco", "size=mini", f"method.colour={fix}", "inference.device=cpu"], verb="eval")
        frames = build_method(cfg).upscale(clip, Noise(0))
        assert 255 * (frames.mean((0, 1, 3, 4)) - torch.tensor(colour)).abs().max() < levels
