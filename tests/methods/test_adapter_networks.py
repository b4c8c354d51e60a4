"""The adapter method's networks: published shapes, what starts as nothing, time, tokens, colour."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import latent
from vsrbench.config import build, compose
from vsrbench.errors import ConfigError, VsrbenchError, WeightsError
from vsrbench.methods.adapter.backbone import Backbone, load_backbone
from vsrbench.methods.adapter.colour import PostProcessing, _per_frame_8_bit
from vsrbench.methods.adapter.networks import Adapter, time_code
from vsrbench.methods.adapter.temporal import (
    Rotary,
    TemporalAttention,
    TemporalResBlock,
    bucket,
    fold,
    over_time,
    unfold,
)
from vsrbench.methods.adapter.vae import Residual3D, ResidualLayer
from vsrbench.methods.adapter.vit import load_vit


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def settings(*overrides: str, size: str = "tiny") -> Any:
    return compose(["method=adapter", f"size={size}", *overrides], verb="eval")


def backbone(*overrides: str, size: str = "tiny") -> Backbone:
    return build(settings(*overrides, size=size).prior)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- counts: Table 4.6 --------------------------------------------------------------------------------


def test_the_printed_parts_of_upscale_to_the_last_digit() -> None:
    with torch.device("meta"):
        method = build(settings("prior.random=true", size="paper").method)
    parts = {name: count(part) for name, part in method.parts().items()}
    assert parts == {"vit": 86_567_656, "adapter": 2_144_580, "denoising_unet": 691_036_436, "vae": 113_776_365}
    assert sum(parts.values()) == 893_525_037  # printed: 0.892 B
    assert len(method.prior.unet.published_state()) == 1158 and len(method.prior.vae.published_state()) == 296
    assert count(method.prior.unet.image) == 473_398_020 and count(method.prior.vae.image) == 55_325_927


@pytest.mark.filterwarnings("ignore:prior.unet=ali was trained")
def test_the_printed_parts_of_ali() -> None:
    with torch.device("meta"):
        found = backbone("prior.random=true", "prior.unet=ali", "prior.vae=3d", size="paper")
    assert count(found.unet) == 1_411_233_860 and count(found.vae) == 55_325_927


@pytest.mark.parametrize(
    ("fusion", "parameters"),
    [
        ("linear_linear", 2_144_580),
        ("crossattention_linear_linear", 4_508_484),
        ("crossattention_transformer_linear", 17_327_104),
        ("mean_linear", 1_837_056),
    ],
)
def test_sizes_of_the_adapters_of_table_4_5(fusion: str, parameters: int) -> None:
    with torch.device("meta"):
        assert count(Adapter(fusion=fusion)) == parameters


# --- what starts as nothing ---------------------------------------------------------------------------


def test_an_inflated_unet_is_the_image_unet_frame_by_frame() -> None:
    found, image = backbone(size="mini"), latent.prior("mini")
    x, lr = random(2, 3, 4, 16, 24), random(2, 3, 3, 16, 24, seed=1).sigmoid()
    ours = found.predict(x, found.noised_lr(lr, None, 0), 300, found.prompt.expand(2, -1, -1))
    theirs = image.predict(x.flatten(0, 1), lr.flatten(0, 1), 300).view_as(ours)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_one_frame_under_clip_norms_is_the_image_unet() -> None:
    """A clip of one frame has the statistics of that frame, and nobody to attend to."""
    found = backbone()
    for name, parameter in found.unet.video.named_parameters():
        if ".conv2." in name or "to_out" in name:
            parameter.data.zero_()
    x, text = random(1, 1, 7, 16, 16), random(1, 5, 8, seed=1)
    theirs = found.unet.image(x[:, 0], 7, text, class_labels=torch.tensor([3])).sample
    assert torch.allclose(found.unet(x, 7, text, torch.tensor([3]))[:, 0], theirs, atol=1e-5)


def test_clip_norms_let_frames_see_each_other_and_frame_norms_do_not() -> None:
    for whole, reached in ((True, True), (False, False)):
        found = backbone(f"+prior.video.whole_clip={str(whole).lower()}", "+prior.video.inflate=false")
        for name, parameter in found.unet.video.named_parameters():
            if ".conv2." in name or "to_out" in name:
                parameter.data.zero_()
        x, text = random(1, 2, 7, 16, 16), random(1, 5, 8, seed=1)
        changed = x.clone()
        changed[:, 1] *= 3
        gap = found.unet(changed, 7, text, torch.tensor([0])) - found.unet(x, 7, text, torch.tensor([0]))
        assert (gap[:, 0].abs().max() > 1e-6) == reached


def test_an_inflated_decoder_is_the_plain_one() -> None:
    found = backbone(size="mini")
    z, lr = random(1, 3, 4, 8, 12), random(1, 3, 3, 8, 12, seed=1).sigmoid()
    plain = found.vae.decode_frames(z[0])
    assert torch.allclose(found.vae.decode(z, lr)[0], plain, atol=1e-5)


def test_the_decoder_reads_lr_frames_of_the_latents_size() -> None:
    found = backbone()
    z, lr = random(1, 3, 4, 8, 8), random(1, 3, 3, 8, 8, seed=1).sigmoid()
    assert (found.vae.decode(z, lr) - found.vae.decode(z, 1 - lr)).abs().max() > 1e-6
    with pytest.raises(
        ConfigError, match=r"prior\.vae=sft reads LR frames of the latent's size, \(8, 8\), not \(4, 4\)"
    ):
        found.vae.decode(z, lr[..., ::2, ::2])


# --- time ---------------------------------------------------------------------------------------------


def test_convolution_over_time_is_conv3d() -> None:
    conv, x = nn.Conv3d(4, 6, (5, 1, 1), padding=(2, 0, 0)), random(6, 4, 3, 5)  # two clips of three frames
    wanted = conv(x.unflatten(0, (2, 3)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)
    assert torch.allclose(fold(over_time(conv, unfold(x, 3)), x), wanted, atol=1e-6)


@pytest.mark.parametrize("kernel", [(3, 1, 1), (3, 3, 3)])
def test_a_residual_over_space_and_time(kernel: tuple[int, int, int]) -> None:
    block, x = Residual3D(4, 2, kernel), random(6, 4, 5, 3)
    assert torch.equal(block(x, 3, True), x)
    block.conv_3d.weight.data = random(*block.conv_3d.weight.shape)
    clips = x.unflatten(0, (2, 3)).transpose(1, 2)
    wanted = clips + block.conv_3d(F.silu(block.norm_3d(clips)))
    assert torch.allclose(block(x, 3, True), wanted.transpose(1, 2).flatten(0, 1), atol=1e-5)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    rotary, q, k = Rotary(6), random(8), random(8, seed=1)  # two channels stay as they are
    turned_q, turned_k = rotary(q.expand(9, 8)), rotary(k.expand(9, 8))
    scores = turned_q @ turned_k.T
    for distance in (-2, 0, 3):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-5)
    assert torch.equal(turned_q[:, 6:], q[6:].expand(9, 2))


def test_buckets_of_distances() -> None:
    near = bucket(torch.arange(-7, 8))
    assert near.tolist() == [7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23]
    assert bucket(torch.tensor([-8, -16, -31, -32, -90, 90])).tolist() == [8, 12, 15, 15, 15, 31]


def test_temporal_attention_starts_at_zero_and_keeps_clips_apart() -> None:
    attention = TemporalAttention(8, 2, Rotary(4))
    x = random(5, 3, 8)
    assert torch.equal(attention(x), torch.zeros_like(x))
    attention.to_out[0].weight.data = random(8, 8)
    changed = x.clone()
    changed[0, 2] += 1
    gap = (attention(changed) - attention(x)).abs().amax(-1)
    assert (gap[0] > 1e-6).all() and gap[1:].max() == 0


def test_a_temporal_block_reaches_two_frames() -> None:
    block = TemporalResBlock(4, groups=2)
    x = random(7, 4, 2, 2)
    changed = x.clone()
    changed[3] = changed[3].flip(-1)  # norms would take a constant away
    gap = (block(changed, 7, whole=False) - block(x, 7, whole=False)).abs().amax((1, 2, 3)) > 1e-7
    assert gap.tolist() == [False, True, True, True, True, True, False]


# --- tokens -------------------------------------------------------------------------------------------


def test_linear_fusion_starts_as_the_mean_over_frames() -> None:
    tokens = random(2, 4, 6, 8)
    adapter, mean = Adapter(6, 8, 10, 4, gain=1.0), Adapter(6, 8, 10, 4, "mean_linear", gain=1.0)
    mean.project.load_state_dict(adapter.project.state_dict())
    assert torch.allclose(adapter(tokens), mean(tokens), atol=1e-6)


@pytest.mark.parametrize(
    "fusion", ["linear_linear", "crossattention_transformer_linear", "crossattention_linear_linear"]
)
def test_adapters_make_one_sequence_and_repeat_the_last_frame(fusion: str) -> None:
    adapter, tokens = Adapter(6, 8, 10, 4, fusion, heads=2, gain=1.0).eval(), random(2, 3, 6, 8)
    found = adapter(tokens)
    assert found.shape == (2, 6, 10)
    assert torch.equal(found, adapter(torch.cat([tokens, tokens[:, -1:]], dim=1)))
    assert (found - adapter(tokens.flip(1))).abs().max() > 0 or fusion == "mean_linear"
    with pytest.raises(ConfigError, match="a window of 5 frames is longer than the adapter's 4"):
        adapter(random(1, 5, 6, 8))


def test_the_gain_is_measured_once_and_kept() -> None:
    adapter, tokens = Adapter(16, 8, 32, 2), random(4, 2, 16, 8)
    adapter.measure(tokens)
    assert abs(adapter(tokens).std().item() - 1) < 1e-3
    gain = adapter.gain.clone()
    adapter.measure(10 * tokens)
    assert torch.equal(adapter.gain, gain) and "gain" in adapter.state_dict()
    set_by_hand = Adapter(16, 8, 32, 2, gain=0.5)
    set_by_hand.measure(tokens)
    assert set_by_hand.gain == 0.5


def test_unknown_fusions_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.adapter\.fusion=sum: use linear_linear"):
        Adapter(fusion="sum")


VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32}


def test_a_vit_from_a_folder(tmp_path: Path) -> None:
    made = load_vit(random=True, config={**VIT, "patch_size": 8}, seed=3)
    made.net.save_pretrained(tmp_path / "vit")
    read = load_vit(str(tmp_path / "vit"))
    lr = random(2, 3, 20, 28).sigmoid()
    assert read.tokens == 16 and read(lr).shape == (2, 16, 16)
    assert torch.equal(read(lr), made(lr))
    assert load_vit(str(tmp_path / "vit"), cls=True)(lr).shape == (2, 17, 16)
    with pytest.raises(WeightsError, match=r"vit\.path=DIR"):
        load_vit()
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ConfigError, match="holds a clip, not a vit"):
        load_vit(str(tmp_path / "vit"))


# --- weights ------------------------------------------------------------------------------------------


def test_published_files_load_by_path_and_a_lost_key_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    made = backbone("prior.seed=5")
    for name in ("unet", "vae"):
        (tmp_path / name).mkdir()
    torch.save(made.unet.published_state(), tmp_path / "unet" / "unet_video.bin")
    torch.save(made.vae.published_state(), tmp_path / "vae" / "vae_video.bin")
    save_file({"prompt_embeds": random(1, 4, 8)}, tmp_path / "prompt_embeds.safetensors")
    read = backbone("prior.random=false", f"prior.path={tmp_path}")
    x, lr, text = random(1, 3, 4, 8, 8), random(1, 3, 3, 8, 8, seed=1), random(1, 4, 8, seed=2)
    assert torch.equal(read.predict(x, lr, 5, text, 3), made.predict(x, lr, 5, text, 3))
    assert torch.equal(read.vae.decode(x, lr), made.vae.decode(x, lr)) and count(read) == count(made)
    assert torch.equal(read.prompt, random(1, 4, 8))
    state = made.unet.published_state()
    del state["mid_temp_block.shift_conv.weight"]
    torch.save(state, tmp_path / "unet" / "unet_video.bin")
    with pytest.raises(WeightsError, match=r"1 missing \['mid_temp_block\.shift_conv\.weight'\]"):
        backbone("prior.random=false", f"prior.path={tmp_path}")


def test_absent_weights_and_pairs_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"set prior\.path=DIR.*unet_video\.bin.*vae_video\.bin"):
        load_backbone()
    with pytest.raises(WeightsError, match=r"holds none of unet_video\.bin"):
        backbone("prior.random=false", f"prior.path={tmp_path}")
    with pytest.raises(ConfigError, match=r"prior\.unet=upscale reads LR frames.*not prior\.vae=sd_f8"):
        backbone("prior.vae=sd_f8")
    with pytest.raises(ConfigError, match=r"prior\.unet=wan"):
        backbone("prior.unet=wan", "prior.unet_config={}", "prior.scheduler={}")


def test_a_unet_beside_another_vae_than_its_own_is_said(recwarn: pytest.WarningsRecorder) -> None:
    backbone("prior.unet=ali", "prior.vae=sd_f8")
    backbone()
    assert not [w for w in recwarn if "was trained on the latents" in str(w.message)]
    with pytest.warns(UserWarning, match=r"prior\.unet=ali was trained on the latents of Stable Diffusion's VAE"):
        backbone("prior.unet=ali")


# --- colour -------------------------------------------------------------------------------------------


def test_the_vit_sees_colours_from_minus_one_to_one() -> None:
    """google/vit-base-patch16-224: mean and deviation 0.5."""
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    encoder, frames = load_vit(random=True, config={**small, "image_size": 16, "patch_size": 8}), random(2, 3, 16, 16)
    expected = encoder.net.vit((frames - 0.5) / 0.5).last_hidden_state[:, 1:]
    torch.testing.assert_close(encoder(frames), expected)


def test_opencv_gets_frames_rounded_to_8_bits_as_bgr() -> None:
    frames, seen = torch.rand(2, 3, 5, 7), []

    def same(frame: Any) -> Any:
        seen.append(frame)
        return frame

    torch.testing.assert_close(_per_frame_8_bit(frames, same), (255 * frames).round() / 255)
    assert (seen[1][..., 0] == (255 * frames[1, 2]).round().numpy()).all()


@pytest.mark.parametrize("denoise", ["nlm", "bilateral", "gaussian"])
def test_denoisers_bring_noise_down(denoise: str) -> None:
    flat = torch.full((1, 3, 40, 40), 0.5)
    noisy = flat + 0.02 * random(1, 3, 40, 40)
    found = PostProcessing("none", denoise, strength=10.0)(noisy, flat)
    assert (found - flat).std() < 0.8 * (noisy - flat).std()


def test_the_order_is_colour_then_denoising() -> None:
    frames, reference = random(1, 3, 32, 32).sigmoid(), random(1, 3, 32, 32, seed=1).sigmoid()
    both = PostProcessing("wavelet", "gaussian")(frames, reference)
    coloured = PostProcessing("wavelet", "none")(frames, reference)
    assert torch.equal(both, PostProcessing("none", "gaussian")(coloured, reference))
    assert not torch.equal(PostProcessing("equalise", "none")(frames, reference), frames)


def test_post_processing_refuses_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ConfigError, match=r"method\.post\.color=lab: use wavelet"):
        PostProcessing("lab")
    with pytest.raises(VsrbenchError, match="two RGB clips of one size"):
        PostProcessing()(frames, frames[..., :8])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package PyWavelets"):
        PostProcessing("none", "wavelet")(frames, frames)


# --- order in time and the residual layer -------------------------------------------------------------


@pytest.mark.parametrize(
    ("fusion", "position", "knows"),
    [
        ("crossattention_transformer_linear", "none", False),
        ("crossattention_transformer_linear", "sine", True),
        ("crossattention_linear_linear", "none", False),
        ("crossattention_linear_linear", "sine", True),
    ],
)
def test_attention_knows_the_order_of_frames_by_its_position_code(fusion: str, position: str, knows: bool) -> None:
    """A fresh linear fusion is a mean, so that it knows no order either."""
    torch.manual_seed(0)
    adapter = Adapter(6, 8, 10, 4, fusion, heads=2, gain=1.0, position=position).eval()
    tokens = random(2, 4, 6, 8)
    gap = (adapter(tokens) - adapter(tokens.flip(1))).abs().max()
    assert gap > 1e-3 if knows else gap < 1e-5


def test_the_position_code_is_the_printed_one() -> None:
    code = time_code(5, 6)
    assert code.shape == (5, 6) and code[0].tolist() == [0, 1, 0, 1, 0, 1]
    for frame in range(5):
        for pair in range(3):
            angle = frame / 10000 ** (2 * pair / 6)
            assert code[frame, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert code[frame, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert not [key for key in Adapter(6, 8, 10, 4, position="sine").state_dict() if "code" in key]


def test_the_residual_layer_starts_as_nothing_and_adds() -> None:
    layer, frames = ResidualLayer(), random(2, 3, 3, 5, 6)
    assert torch.equal(layer(frames), frames) and count(layer) == 84
    layer.conv.weight.data = random(3, 3, 3, 3)
    expected = frames + torch.stack([layer.conv(clip) for clip in frames])
    assert torch.allclose(layer(frames), expected, atol=1e-6)


def test_relative_positions_count_from_the_query_to_the_key() -> None:
    """T5: a key of the future has the upper half of the buckets."""
    from vsrbench.methods.adapter.temporal import BUCKETS, RelativePositions

    positions = RelativePositions(1)
    with torch.no_grad():
        positions.relative_attention_bias.weight[:, 0] = torch.arange(BUCKETS).float()
    bias = positions(4)[0]
    assert bias.diagonal().tolist() == [0, 0, 0, 0]
    assert bias[0].tolist() == [0, *(BUCKETS // 2 + n for n in (1, 2, 3))] and bias[3].tolist() == [3, 2, 1, 0]
