"""VideoGigaGAN's generator: its sizes, its start as the image model, chunks, any size, gradients, switches."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import latent
from vsrbench.config import compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.flow.spynet import SpyNetwork
from vsrbench.flow.trained import PyramidFlow
from vsrbench.methods.videogigagan import blocks
from vsrbench.methods.videogigagan.blocks import Block, EncoderLevel, enlarge
from vsrbench.methods.videogigagan.front import Front, Propagated
from vsrbench.methods.videogigagan.generator import Generator
from vsrbench.methods.videogigagan.model import inflated
from vsrbench.methods.videogigagan.unet import padded
from vsrbench.nn.blurpool import low_pass
from vsrbench.nn.imresize import imresize
from vsrbench.nn.modulated import Style

SIMPLE: dict[str, Any] = {
    "attention_at": "out",
    "temporal": 6,
    "temporal_depth": 1,
    "temporal_in": 0,
    "temporal_attention": "dot",
}
TINY: dict[str, Any] = SIMPLE | {
    "z": 8, "mapping_layers": 2, "encoder": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder": (16, 16, 8, 8, 8, 8),
    "decoder_blocks": (1,) * 6, "style": 16, "experts": 2, "attention_depth": 1, "heads": 2, "head_dim": 8,
}  # fmt: skip
MINI: dict[str, Any] = SIMPLE | {
    "encoder": (32, 48, 96), "encoder_blocks": (1, 1, 1), "decoder": (96, 64, 48, 24, 8, 8), "decoder_blocks": (1,) * 6,
    "style": 64, "experts": 2, "attention_depth": 1, "heads": 4, "head_dim": 16, "attention_at": "in", "temporal": 2,
    "up_blur": False, "residual": "bilinear", "z": 64, "mapping_layers": 2,
}  # fmt: skip
SMALL: dict[str, Any] = SIMPLE | {
    "z": 128, "experts": 4, "encoder": (64, 128, 256), "encoder_blocks": (3, 3, 2), "style": 256, "attention_depth": 1,
    "decoder": (256, 256, 128, 64, 32, 16), "decoder_blocks": (2,) * 6,
}  # fmt: skip
PAPER_TABLE = {  # Table 2 of the supplement as it is read here, at 4x, in millions
    "mapping": 1.051, "stem": 0.899, "E_0 blocks": 58.214, "E_0 convolution": 9.702, "E_1 blocks": 29.897,
    "E_1 convolution": 4.983, "E_2 blocks": 15.735, "E_2 convolution": 2.622, "D_0 blocks": 23.602,
    "D_0 attention": 11.553, "D_1 blocks": 44.844, "D_2 blocks": 87.319, "D_3 blocks": 43.684, "D_4 blocks": 17.025,
    "shortcuts": 1.737, "D_0 temporal module at its input": 2.363, "D_0 temporal module": 2.363,
    "D_1 temporal module": 2.363, "D_2 temporal module": 1.575, "ToRGB": 0.991, "flow": 1.440,
    "feature extraction": 0.371, "alignment": 2.039, "backbones": 2.584, "fusion": 0.021,
}  # fmt: skip
WAITING = (
    "front.",
    "norm",
    "to_qkv",
    "to_kv",
    "distance",
)  # parts of the video model without a gradient at the first step


def tiny_front(**settings: Any) -> Front:
    return Front(PyramidFlow(2, (8,)), 8, 1, 1, groups=2, flow_minimum=8, **settings)


def noise(layer: str, height: int, width: int) -> Tensor:
    return Noise(0).normal((1, 1, height, width), layer)


def tiny(front: Front | None = None, *, awake: bool = False, **settings: Any) -> Generator:
    """A tiny generator; awake: zeros of the start replaced, so that every part has an effect."""
    torch.manual_seed(0)
    generator = Generator(front, **{**TINY, **settings})
    if awake:
        with torch.no_grad():
            for parameter in generator.parameters():
                if parameter.abs().max() == 0:
                    parameter.copy_(torch.randn_like(parameter) / 20)
    return generator


def millions(*modules: nn.Module) -> float:
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


# --- sizes ---------------------------------------------------------------------------------------


def test_paper_size_by_part() -> None:
    with torch.device("meta"):
        generator = Generator(Front(SpyNetwork()))
    counts = {line: round(millions(*modules), 3) for line, modules in generator.parameter_groups().items()}
    assert counts == PAPER_TABLE
    assert round(millions(generator)) == 369, "printed in the supplement and in Table 3"
    assert round(millions(generator), 2) == 368.98


def test_other_sizes() -> None:
    with torch.device("meta"):
        assert round(millions(Generator(Front(SpyNetwork()), scale=8)), 2) == 373.43
        assert round(millions(Generator(None, temporal=0)), 2) == 352.97
        everywhere = Generator(Front(SpyNetwork()), temporal=6, temporal_depth=(2, 2, 1, 1, 1, 1))
        small = Generator(Front(SpyNetwork(), 48, 3, 5, groups=8), **SMALL)
        mini = Generator(Front(PyramidFlow(), 24, 1, 2, branches=2, alignment="warp", order=1), **MINI)
    assert round(millions(everywhere), 2) == 369.47, "Sec. 3.2's modules in every D_i count the printed 369 as well"
    assert round(millions(small), 1) == 50.1
    assert millions(mini) < 2


def test_size_paper_is_table_2_of_the_supplement() -> None:
    """Widths, kernels, blocks and depths follow from the printed lists and the levels' resolutions alone."""
    cfg = compose(["method=videogigagan", "size=paper"])
    plan, discriminator = cfg.method.generator, cfg.module.discriminator
    kernels = [1, 1, 1, 1, 1, 2, 4, 8, 16, 16, 16, 16]  # read as one for each of r = 1, 2, 4, ... 2048
    down, up = (64, 32, 16), (16, 32, 64, 128, 256, 512)
    assert (plan.z, plan.style, plan.mapping_layers) == (512, 512, 4)
    assert plan.encoder == [min(32768 // r, 512) for r in down] and plan.decoder == [min(32768 // r, 512) for r in up]
    assert plan.experts == [kernels[r.bit_length() - 1] for r in (*down, *up)]
    blocks = dict(zip((4, 8, 16, 32, 64, 128, 256), (4, 4, 4, 4, 4, 4, 3), strict=True))
    assert plan.decoder_blocks[:5] == [blocks[r] for r in up[:5]]
    depths = dict(zip((8, 16, 32, 64), (2, 2, 2, 1), strict=True))
    assert (plan.attention_at, plan.attention_depth) == ("both", 2), "over space at 8 and 16, which are D_0's"
    assert [plan.temporal_in, *plan.temporal_depth[: plan.temporal]] == list(depths.values())
    front = cfg.method.front
    assert (front.feature_blocks, front.blocks, front.flow_net, front.alignment) == (5, 7, "spynet", "dcn")
    assert discriminator.widths == [min(32768 // r, 512) for r in (4, 8, 16, 32, 64, 128, 256)]
    assert dict(zip(discriminator.attention, discriminator.attention_depth, strict=True)) == {8: 2, 16: 2}
    assert dict(discriminator.temporal_depth) == {8: 2, 16: 2, 32: 1}


def test_the_table_counts_every_parameter_once() -> None:
    generator = tiny(tiny_front())
    listed = [
        id(p) for modules in generator.parameter_groups().values() for module in modules for p in module.parameters()
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in generator.parameters()}


# --- image model and video model -----------------------------------------------------------------


def test_inflated_model_starts_as_the_image_model() -> None:
    image, video = tiny(temporal=0, awake=True), tiny(tiny_front())
    missing, unexpected = video.load_state_dict(image.state_dict(), strict=False)
    assert unexpected == []
    assert all(key.startswith(("front.", "unet.stem_features.")) or ".temporal." in key for key in missing)
    lr, z = torch.rand(2, 3, 3, 16, 16), torch.randn(2, 8)
    with torch.no_grad():
        frames = video(lr, z, noise)
        assert torch.equal(frames, image(lr, z, noise))
        for t in range(3):
            torch.testing.assert_close(frames[:, t : t + 1], image(lr[:, t : t + 1], z, noise), rtol=0, atol=1e-5)


def test_replaced_stem_sees_the_features_alone() -> None:
    generator = tiny(tiny_front(), stem="replace")
    assert generator.unet.stem is None
    assert tiny(stem="replace").unet.stem is not None  # nothing to replace it with
    lr, z = torch.rand(1, 2, 3, 8, 8), torch.randn(1, 8)
    assert generator(lr, z, noise).shape == (1, 2, 3, 32, 32)


def test_every_parameter_moves() -> None:
    """At the first step all but what zeros cut off, and from the third on everything."""
    generator, lr = tiny(tiny_front()), torch.rand(1, 3, 3, 16, 16)
    optimiser = torch.optim.Adam(generator.parameters(), lr=1e-3)
    still: list[set[str]] = []
    for _ in range(3):
        optimiser.zero_grad()
        generator(lr, torch.randn(1, 8), noise).square().sum().backward()
        assert [name for name, p in generator.named_parameters() if p.grad is None] == []
        still.append({name for name, p in generator.named_parameters() if p.grad.abs().max() == 0})
        optimiser.step()
    assert still[0] and all(any(part in name for part in WAITING) for name in still[0])
    assert still[1] and all(name.startswith("front.") for name in still[1])  # offsets and flow start at zero themselves
    assert still[2] == set()


# --- clips, chunks, sizes ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_equal_the_whole_without_temporal_modules(chunk: int) -> None:
    """Propagation sees the whole clip; style and noise are the clip's."""
    generator = tiny(tiny_front(), temporal=0, awake=True)
    lr, z = torch.rand(1, 5, 3, 16, 16), torch.randn(1, 8)
    with torch.no_grad():
        torch.testing.assert_close(generator(lr, z, noise, chunk), generator(lr, z, noise), rtol=0, atol=1e-5)


def test_chunks_cut_only_the_modules_over_time() -> None:
    generator = tiny(tiny_front(), awake=True)
    lr, z = torch.rand(1, 5, 3, 16, 16), torch.randn(1, 8)
    asked = []

    def told(layer: str, height: int, width: int) -> Tensor:
        asked.append((layer, height, width))
        return noise(layer, height, width)

    with torch.no_grad():
        whole, cut = generator(lr, z, noise), generator(lr, z, told, chunk=3)
        assert torch.equal(generator(lr, z, noise, chunk=5), whole)
        assert not torch.allclose(cut, whole, atol=1e-4)
        features = generator.front(lr)
        part = generator.unet(lr[:, 3:], features[:, 3:], Style(generator.mapping(z), noise))
    torch.testing.assert_close(cut[:, 3:], part)
    assert len(asked) == len(set(asked)), "one map per layer for all chunks"


def test_frames_that_go_through_a_level_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = tiny(tiny_front(), awake=True)
    lr, z = torch.rand(1, 3, 3, 16, 16), torch.randn(1, 8)
    whole = generator(lr, z, noise).detach()
    monkeypatch.setattr(blocks, "PIXELS", 1)
    with torch.no_grad():
        torch.testing.assert_close(generator(lr, z, noise), whole, rtol=0, atol=1e-5)


def test_progress_counts_frames() -> None:
    told: list[object] = []

    class Bar:
        def start(self, total: int, what: str) -> None:
            told.append((total, what))

        def advance(self, count: int = 1) -> None:
            told.append(count)

    with torch.no_grad():
        tiny()(torch.rand(1, 5, 3, 8, 8), torch.randn(1, 8), noise, 2, Bar())
    assert told == [(5, "frames"), 2, 2, 1]


def test_clips_of_a_batch_do_not_mix() -> None:
    generator = tiny(tiny_front(), awake=True)
    lr, z = torch.rand(2, 3, 3, 16, 16), torch.randn(2, 8)
    with torch.no_grad():
        together = generator(lr, z, noise)
        for clip in range(2):
            alone = generator(lr[clip : clip + 1], z[clip : clip + 1], noise)
            torch.testing.assert_close(together[clip : clip + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 14), (5, 23), (3, 3)])
def test_any_size_and_a_single_frame(height: int, width: int) -> None:
    generator = tiny(tiny_front(), awake=True)
    with torch.no_grad():
        frames = generator(torch.rand(1, 1, 3, height, width), torch.randn(1, 8), noise)
    assert frames.shape == (1, 1, 3, 4 * height, 4 * width)
    assert torch.isfinite(frames).all()


def test_odd_sizes_are_mirrored_and_cut() -> None:
    generator = tiny(temporal=0, awake=True)
    lr, z = torch.rand(1, 1, 3, 12, 13), torch.randn(1, 8)
    large = padded(lr[0])[None]
    assert large.shape[-2:] == (16, 16)
    with torch.no_grad():
        torch.testing.assert_close(generator(lr, z, noise), generator(large, z, noise)[..., :48, :52])


def test_factor_8() -> None:
    with torch.no_grad():
        assert tiny(scale=8)(torch.rand(1, 2, 3, 8, 8), torch.randn(1, 8), noise).shape == (1, 2, 3, 64, 64)


def test_the_style_ignores_the_length_of_z() -> None:
    mapping, z = tiny().mapping, torch.randn(2, 8)
    torch.testing.assert_close(mapping(z), mapping(3 * z))
    assert not torch.allclose(mapping(z)[0], mapping(z)[1])
    assert torch.isfinite(mapping(torch.zeros(1, 8))).all()


# --- blocks and switches -------------------------------------------------------------------------


def test_ladder_rows_share_their_weights() -> None:
    shapes = []
    for down, shuttle in (("stride", "full"), ("blur", "lf"), ("blur", "hf"), ("blur", "full")):
        generator = tiny(down=down, shuttle=shuttle)
        shapes.append({key: value.shape for key, value in generator.state_dict().items()})
        with torch.no_grad():
            assert torch.isfinite(generator(torch.rand(1, 1, 3, 8, 8), torch.randn(1, 8), noise)).all()
    assert all(a == b for a, b in itertools.pairwise(shapes))


def test_what_goes_down_and_across() -> None:
    torch.manual_seed(0)
    x, style, found = torch.randn(1, 4, 8, 8), Style(torch.randn(1, 8), noise), {}
    level = EncoderLevel(4, 6, 1, 8, 2, "blur", "hf")
    for level.down, level.shuttle in (("blur", "hf"), ("blur", "lf"), ("blur", "full"), ("stride", "full")):
        found[level.down, level.shuttle] = level(x, style)
    inside = level.blocks[0](x, style)
    f = level.conv(inside, style)
    for shuttle in ("hf", "lf", "full"):
        torch.testing.assert_close(found["blur", shuttle][0], low_pass(f)[..., ::2, ::2])
    torch.testing.assert_close(found["blur", "hf"][1], f - low_pass(f))
    torch.testing.assert_close(found["blur", "lf"][1], low_pass(f))
    assert torch.equal(found["blur", "full"][1], inside)
    assert torch.equal(found["stride", "full"][1], inside)
    assert found["stride", "full"][0].shape == (1, 6, 4, 4)


def test_a_block_adds_four_tenths_of_what_it_computes() -> None:
    """GigaGAN App. A; where the width changes there is a plain sum with a 1x1 convolution."""
    torch.manual_seed(0)
    x, style = torch.randn(2, 4, 5, 5), Style(torch.randn(1, 8), noise)
    same, wider = Block(4, 4, 8, 2), Block(4, 6, 8, 2)
    with torch.no_grad():
        torch.testing.assert_close(same(x, style), x + 0.4 * same.second(same.first(x, style), style))
        shortcut = F.conv2d(x, wider.shortcut.weight)
        torch.testing.assert_close(wider(x, style), shortcut + wider.second(wider.first(x, style), style))


@pytest.mark.parametrize(
    ("row", "temporal", "propagation", "down", "shuttle"),
    [
        ("base", False, False, "stride", "full"),
        ("temporal", True, False, "stride", "full"),
        ("propagation", True, True, "stride", "full"),
        ("antialias", True, True, "blur", "lf"),
        ("hf", True, True, "blur", "hf"),
    ],
)
def test_every_row_of_table_1_has_its_switches(
    row: str, temporal: bool, propagation: bool, down: str, shuttle: str
) -> None:
    """In the networks that are built, not in the table that builds them; each row adds one thing to the one above."""
    generator = latent.method("videogigagan", f"method.ladder={row}").generator
    unet = generator.unet
    assert [level.temporal is not None for level in unet.decoder] == [temporal] * 5
    assert (generator.front is not None, unet.stem_features is not None) == (propagation, propagation)
    assert {(level.down, level.shuttle) for level in unet.encoder} == {(down, shuttle)}
    single = {"temporal": temporal, "propagation": propagation, "down": down, "shuttle": shuttle}
    words = [f"method.{key}={str(value).lower()}" for key, value in single.items()]
    alike = latent.method("videogigagan", "method.ladder=hf", *words).generator
    assert alike.state_dict().keys() == generator.state_dict().keys()


def test_order_inside_a_decoder_level() -> None:
    """Space, then time, at the smaller size; enlarged, the skip behind it, blocks, space, then time; each by hand."""
    torch.manual_seed(0)
    plan = {"attention_at": "both", "temporal_in": 1, "temporal_depth": 2, "decoder_blocks": (2,) * 6}
    level = tiny(awake=True, **plan).unet.decoder[0]
    style, clips = Style(torch.randn(2, 16), lambda *place: noise(*place).expand(2, -1, -1, -1)), 2
    x, skip = torch.randn(6, 16, 4, 4), torch.randn(6, 16, 8, 8)

    def over_time(module: nn.Module, x: Tensor) -> Tensor:
        return module(x.unflatten(0, (clips, 3))).flatten(0, 1)

    with torch.no_grad():
        y = over_time(level.temporal_in, level.attention[0](x))
        y = torch.cat([enlarge(y, blur=True), skip], dim=1)
        for block in level.blocks:
            y = block(y, style)
        expected = over_time(level.temporal, level.attention[1](y))
        torch.testing.assert_close(level(x, skip, style, clips), expected)


@pytest.mark.parametrize("kind", ["dot", "l2"])
def test_all_of_table_2_in_a_tiny_network(kind: str) -> None:
    """Kernels by level, attention on both sides of D_0, deep modules over time: inflation and gradients hold."""
    plan: dict[str, Any] = {"attention_at": "both", "experts": (2, 1, 1, 1, 2, 1, 1, 3)}
    image = tiny(temporal=0, awake=True, **plan)
    video = tiny(tiny_front(), temporal=3, temporal_depth=(2, 2, 1), temporal_in=2, temporal_attention=kind, **plan)
    banks = [len(level.blocks[0].first.conv.bank) for level in [*video.unet.encoder, *video.unet.decoder]]
    assert banks == [2, 1, 1, 1, 2, 1, 1, 3]
    video.load_state_dict(inflated(image.state_dict(), video.state_dict()))
    lr, z = torch.rand(1, 3, 3, 16, 16), torch.randn(1, 8)
    with torch.no_grad():
        assert torch.equal(video(lr, z, noise), image(lr, z, noise))
    video(lr, z, noise).square().sum().backward()
    assert [name for name, p in video.named_parameters() if p.grad is None] == []


def test_enlarging_is_zero_insertion_and_a_filter() -> None:
    x = torch.randn(1, 1, 6, 7).double()
    taps = torch.tensor([1.0, 3, 3, 1]).double() / 4
    expected = F.conv_transpose2d(x, (taps * taps[:, None])[None, None], stride=2, padding=1)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(enlarge(x, blur=False)[inner], expected[inner])
    torch.testing.assert_close(enlarge(x, blur=True), low_pass(enlarge(x, blur=False), (1, 2, 1)))


@pytest.mark.parametrize("residual", ["bilinear", "bicubic"])
def test_zero_start_is_the_enlarged_input(residual: str) -> None:
    generator, lr = tiny(residual=residual, zero_start=True), torch.rand(1, 2, 3, 16, 16)
    frames = generator(lr, torch.randn(1, 8), noise)
    expected = imresize(lr, 4)
    if residual == "bilinear":
        expected = F.interpolate(lr[0], scale_factor=4, mode="bilinear", align_corners=False)[None]
    torch.testing.assert_close(frames, expected)


def test_the_pyramid_adds_what_every_level_paints() -> None:
    generator = tiny(zero_start=True)
    for i, level in enumerate(generator.unet.decoder):
        nn.init.constant_(level.to_rgb.bias, 2.0**-i)
    with torch.no_grad():
        frames = generator(torch.rand(1, 1, 3, 8, 8), torch.randn(1, 8), noise)
    torch.testing.assert_close(frames, torch.full_like(frames, 0.5 + 0.5 * 1.9375))


def test_checkpointing_changes_no_gradient() -> None:
    lr, z, slopes = torch.rand(2, 2, 3, 8, 8), torch.randn(2, 8), []
    for checkpointing in (False, True):
        generator = tiny(awake=True, checkpointing=checkpointing)
        generator(lr, z, noise).square().sum().backward()
        slopes.append(torch.cat([p.grad.flatten() for p in generator.parameters()]))
    torch.testing.assert_close(slopes[0], slopes[1])


def test_sixteen_bits_stay_close() -> None:
    generator, lr, z = tiny(awake=True), torch.rand(1, 2, 3, 16, 16), torch.randn(1, 8)
    with torch.no_grad():
        exact = generator(lr, z, noise)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = generator(lr, z, noise)
    assert rough.dtype == torch.float32  # the pictures of the pyramid are added in it
    assert (rough - exact).square().mean() < 1e-3 * exact.var()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 3}, "upscales by 4 or 8"),
        ({"down": "stride"}, "use method.shuttle=full"),
        ({"shuttle": "all"}, "shuttle=all: use full, lf or hf"),
        ({"attention_at": "top"}, "method.generator.attention_at=top: use out, in or both"),
        ({"experts": (2, 2)}, "method.generator.experts=.*one for each of .*: 8"),
        ({"temporal_depth": (1,), "temporal": 2}, "method.generator.temporal_depth=.*: 2"),
        ({"encoder": (8, 8)}, "one for each of E_0, E_1, E_2"),
        ({"scale": 8, "decoder": (8, 8, 8, 8, 8)}, "at least 6 numbers for scale=8"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**settings)


# --- propagation before the U-Net ----------------------------------------------------------------


def test_neighbours_are_warped_onto_each_frame() -> None:
    """Features that move one pixel to the right per frame lie on each other after warping."""
    scene = torch.randn(1, 8, 6, 20)
    features = torch.stack([scene[..., 8 - t : 18 - t] for t in range(4)], dim=1)
    flow = torch.zeros(1, 3, 2, 6, 10)
    flow[:, :, 0] = 1
    clip = Propagated(features, flow, -flow)
    front = tiny_front()
    own, before, after = front.around(clip, 0, 4).chunk(3, dim=2)
    assert torch.equal(own, features)
    torch.testing.assert_close(before[:, 1:, ..., 1:], own[:, 1:, ..., 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(after[:, :-1, ..., :-1], own[:, :-1, ..., :-1], rtol=0, atol=1e-5)
    assert torch.equal(before[:, 0], own[:, 0]) and torch.equal(after[:, -1], own[:, -1])
    parts = [front.around(clip, 0, 3), front.around(clip, 3, 4)]
    assert torch.equal(torch.cat(parts, dim=1), front.around(clip, 0, 4))


@pytest.mark.parametrize("frames", [1, 4])
def test_front_gives_its_channels_and_offloading_changes_nothing(frames: int) -> None:
    lr = torch.rand(2, frames, 3, 9, 12)
    torch.manual_seed(1)
    front = tiny_front().eval()
    with torch.no_grad():
        features = front(lr)
        assert features.shape == (2, frames, front.channels, 9, 12)
        front.propagation.offload = True
        assert torch.equal(front(lr), features)
    if frames == 1:
        assert torch.equal(features[:, :, :8], features[:, :, 8:16])


def test_the_propagation_starts_from_a_basicvsrpp(tmp_path: Path) -> None:
    """All that both have: flow network, features, and those branches that are here."""
    file = tmp_path / "basicvsrpp.safetensors"
    donor = Front(PyramidFlow(2, (8,)), 8, 1, 1, groups=2, flow_minimum=8)
    names = {key: value + 1.0 for key, value in donor.state_dict().items() if not key.startswith("fusion.")}
    stored = {key.replace("flow.", "spynet.", 1) if key.startswith("flow.") else key: v for key, v in names.items()}
    save_file({**stored, "reconstruction.conv_last.weight": torch.zeros(1)}, file)
    for branches in (2, 4):
        front = tiny_front(branches=branches)
        fusion = front.fusion.weight.clone()
        front.start_from(str(file))
        kept = {key: value for key, value in front.state_dict().items() if not key.startswith("fusion.")}
        assert kept.keys() <= names.keys() and all(torch.equal(value, names[key]) for key, value in kept.items())
        assert torch.equal(front.fusion.weight, fusion)
    with pytest.raises(WeightsError, match=r"method\.front\.weights=.*does not hold BasicVSR\+\+'s propagation"):
        Front(PyramidFlow(2, (8,)), 16, 1, 1, groups=2, flow_minimum=8).start_from(str(file))
    with pytest.raises(WeightsError, match=r"method\.front\.weights=.*no such file"):
        tiny_front().start_from(str(tmp_path / "absent.pth"))
