"""The adapter method: windows, starts, what is trained, losses, weights, cost."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import latent
from vsrbench import train
from vsrbench.config import build, build_method, compose
from vsrbench.data import trees
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.methods.adapter import AdapterVSR
from vsrbench.methods.adapter.descriptions import Descriptions
from vsrbench.methods.adapter.module import AdapterModule
from vsrbench.methods.adapter.sampling import first_latents, sample, tokens, windows
from vsrbench.methods.adapter.stopping import EarlyStopping
from vsrbench.methods.base import Stage
from vsrbench.methods.module import centre
from vsrbench.nn.imresize import imresize
from vsrbench.training.loggers import read_metrics
from vsrbench.types import FULL_CLIP, Clip

PLAIN = ["method.post.color=none", "method.post.denoise=none", "method.adapter.gain=1.0"]


def method(*overrides: str, size: str = "tiny") -> AdapterVSR:
    return latent.method("adapter", *PLAIN, *overrides, size=size)


def module(*overrides: str, size: str = "tiny") -> AdapterModule:
    return latent.module("adapter", *PLAIN, *overrides, size=size)


def started(stage: str, *overrides: str, size: str = "tiny") -> AdapterModule:
    built = module(*overrides, size=size)
    built.begin_stage(stage, partial(torch.optim.Adam, lr=1e-3), Noise(0))
    built.train()
    return built


# --- sampling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [*range(1, 24), 90])
@pytest.mark.parametrize(("length", "stride"), [(8, 6), (8, 8), (8, 1), (4, 3)])
def test_windows_cover_every_frame_and_end_with_the_clip(frames: int, length: int, stride: int) -> None:
    starts = windows(frames, length, stride)
    covered = {frame for first in starts for frame in range(first, min(first + length, frames))}
    assert covered == set(range(frames)) and starts == sorted(set(starts))
    assert frames <= length or starts[-1] == frames - length


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["method.stride=9"], r"method\.stride=9 leaves frames out: use 1 to 4"),
        (["method.stride=0"], r"method\.stride=0 leaves frames out"),
        (["method.window=0"], r"method\.window=0: use 1 frame or more"),
        (["method.window=9"], r"method\.window=9 is longer than method\.adapter\.frames=4"),
    ],
)
def test_windows_that_cannot_be_are_refused_before_any_work(settings: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        method(*settings)


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_any_length_comes_back_four_times_as_large(frames: int) -> None:
    found = method().upscale(latent.make_clip(frames), Noise(0))
    assert found.shape == (1, frames, 3, 64, 64) and found.isfinite().all()
    assert found.min() >= 0 and found.max() <= 1


def test_overlapping_predictions_are_averaged() -> None:
    built, clip = method("method.stride=2", "sampler.steps=1"), latent.make_clip(6)
    seen: list[dict[str, Tensor]] = []

    class Spy:
        def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
            seen.append(tensors)

    with torch.no_grad():
        run = built.sampling(clip, Spy())
        sample(run, Noise(0))
        x, outputs = first_latents(run, Noise(0)), []
        eps = torch.stack([Noise(0).normal((3, 16, 16), "lr_noise", "clip#0", i) for i in range(6)])[None]
        lr = built.prior.noised_lr(clip.lr, eps, 20)
        t = built.sampler.timesteps(built.prior.schedule)[0]
        for part in (slice(0, 4), slice(2, 6)):
            text = built.adapter(built.vit(clip.lr[0, part])[None])
            outputs.append(built.prior.predict(x[:, part], lr[:, part], t, text, 20))
    output = seen[0]["output"]
    assert torch.allclose(output[:, :2], outputs[0][:, :2], atol=1e-5)
    assert torch.allclose(output[:, 2:4], (outputs[0][:, 2:] + outputs[1][:, :2]) / 2, atol=1e-5)
    assert torch.allclose(output[:, 4:], outputs[1][:, 2:], atol=1e-5)


def test_a_batch_is_its_clips_one_by_one() -> None:
    built, both = method(), latent.make_clip(3, batch=2)
    together = built.upscale(both, Noise(0))
    for row in range(2):
        assert torch.allclose(together[row], built.upscale(both.rows([row]), Noise(0))[0], atol=1e-5)


def test_without_the_condition_the_adapter_is_not_asked() -> None:
    on, off, clip = method(), method("method.condition=false"), latent.make_clip(3)
    off.vit = off.adapter = None  # type: ignore[assignment]
    assert (on.upscale(clip, Noise(0)) - off.upscale(clip, Noise(0))).abs().max() > 1e-6


def test_each_start_begins_elsewhere() -> None:
    clip = latent.make_clip(2)
    found = {
        s: first_latents(method(f"method.start={s}").sampling(clip), Noise(0)) for s in ("gaussian", "encoded_noise")
    }
    assert torch.equal(
        found["gaussian"], torch.stack([Noise(0).normal((4, 16, 16), "initial", "clip#0", i) for i in (0, 1)])[None]
    )
    assert found["encoded_noise"].shape == found["gaussian"].shape
    unit = first_latents(method("method.start=encoded_noise", "method.renorm=true").sampling(clip), Noise(0))
    assert torch.allclose(unit.std((2, 3, 4)), torch.ones(1, 2), atol=1e-5)
    near = method("method.start=encoded_lr", "sampler.start=lr_noised", "sampler.strength=0.01")
    latents = first_latents(near.sampling(clip), Noise(0))
    bicubic = near.prior.vae.encode(torch.nn.functional.interpolate(clip.lr[0], scale_factor=4, mode="bicubic"))
    assert torch.corrcoef(torch.stack([latents.flatten(), bicubic.flatten()]))[0, 1] > 0.3
    assert near.sampler.timesteps(near.prior.schedule)[0] == 10
    with pytest.raises(ConfigError, match=r"method\.start=zeros: use gaussian"):
        method("method.start=zeros")


@pytest.mark.filterwarnings("ignore:prior.unet=ali was trained")
@pytest.mark.parametrize("vae", ["sft", "3d", "sd_f8"])
def test_the_text_to_video_unet_with_every_vae(vae: str) -> None:
    built, clip = method("prior.unet=ali", f"prior.vae={vae}"), latent.make_clip(3)
    assert built.multiple == (2 if vae == "sd_f8" else 1)
    grid = 8 if vae == "sd_f8" else 16
    assert first_latents(built.sampling(clip), Noise(0)).shape == (1, 3, 4, grid, grid)
    assert built.upscale(clip, Noise(0)).shape == (1, 3, 3, 64, 64)
    assert built.prior.schedule.prediction_type == "epsilon"


def test_clips_are_whole_unless_a_context_is_set() -> None:
    assert method().context == FULL_CLIP and method("method.max_context=4").context == 4


# --- training -----------------------------------------------------------------------------------------


def moved(stage: str, *overrides: str, size: str = "tiny") -> Iterator[str]:
    """Names of parameters and buffers that two optimiser steps change."""
    built = started(stage, *overrides, size=size)
    before = {key: value.clone() for key, value in built.state_dict().items()}
    optimiser = built.configure_optimizers()
    for seed in (0, 1):
        optimiser.zero_grad()
        torch.stack(list(built.losses(latent.make_clip(4, seed=seed), Noise(seed)).values())).sum().backward()
        optimiser.step()
    yield from (key for key, value in built.state_dict().items() if not torch.equal(value, before[key]))


def test_the_thesiss_training_moves_the_adapter_and_nothing_else() -> None:
    found = set(moved("adapter", "method.adapter.fusion=crossattention_linear_linear"))
    assert found and all(key.startswith("method.adapter.") for key in found)
    parameters = {
        f"method.adapter.{key}"
        for key, _ in method("method.adapter.fusion=crossattention_linear_linear").adapter.named_parameters()
    }
    assert found == parameters


def test_the_miniatures_own_stages_leave_the_image_networks_alone() -> None:
    objective = "module.objective={prediction: 1.0, pixel: 1.0, gradient: 1.0}"
    prior = set(moved("prior", objective))
    assert any(".attn2." in key for key in prior) and any("temp_block" in key for key in prior)
    assert all(key.startswith(("method.prior.unet.video.", "method.prior.unet.image.")) for key in prior)
    image = {key for key in prior if key.startswith("method.prior.unet.image.")}
    assert all(".attn2." in key or ".norm2." in key for key in image)
    assert not any("freqs" in key for key in prior)
    vae = set(moved("vae", objective))
    assert vae and all(key.startswith("method.prior.vae.video.") for key in vae)


def test_the_loss_is_zero_for_a_unet_that_knows_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the prior's own target: v for upscale, which Eq. 3.4 writes as eps."""
    built, clip = started("adapter"), latent.make_clip(2, batch=2)

    def oracle(x: Tensor, lr: Tensor, t: Tensor, text: Tensor, *others: Any) -> Tensor:
        latents = built.encode(clip)
        eps = built.method.prior.schedule.eps(x, latents, t)
        return built.method.prior.schedule.target(latents, eps, t) + 0 * text.sum()

    monkeypatch.setattr(built.method.prior, "predict", oracle)
    assert built.losses(clip, Noise(0))["prediction"] < 1e-8


@pytest.mark.parametrize(("reading", "calls"), [("uniform", 1), ("from_sampler", 1), ("all", 5)])
def test_thirty_steps_per_iteration_have_three_readings(
    reading: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, asked = started("adapter", f"module.timesteps={reading}", "sampler.steps=5"), []
    predict = built.method.prior.predict

    def spy(x: Tensor, lr: Tensor, t: Tensor, *others: Any) -> Tensor:
        asked.append(int(t[0]))
        return predict(x, lr, t, *others)

    monkeypatch.setattr(built.method.prior, "predict", spy)
    built.losses(latent.make_clip(2), Noise(0))
    assert len(asked) == calls
    visited = built.method.sampler.timesteps(built.method.prior.schedule)
    assert reading == "uniform" or set(asked) <= set(visited)
    assert reading != "all" or asked == visited
    with pytest.raises(ConfigError, match=r"module\.timesteps=some"):
        module("module.timesteps=some")


@pytest.mark.filterwarnings("ignore:prior.unet=ali was trained")
@pytest.mark.parametrize("unet", ["upscale", "ali"])
def test_recomputing_the_frozen_unet_gives_the_same_gradient(unet: str) -> None:
    found = []
    for checkpointing in ("true", "false"):
        built = started("adapter", f"prior.unet={unet}", f"module.checkpointing={checkpointing}")
        sum(built.losses(latent.make_clip(3), Noise(0)).values()).backward()
        found.append(torch.cat([p.grad.flatten() for p in built.method.adapter.parameters() if p.grad is not None]))
    assert found[0].abs().max() > 0 and torch.allclose(*found, atol=1e-6)


def test_lr_noise_levels_are_drawn_by_the_samples_names() -> None:
    built, clip = module("module.train_lr_noise=[3,9]"), latent.make_clip(2, batch=3)
    level, lr = built._lr(clip, Noise(0))
    assert isinstance(level, Tensor) and ((level >= 3) & (level <= 9)).all()
    alone, other = built._lr(clip.rows([1]), Noise(0))
    assert level[1] == alone[0] and torch.equal(lr[1], other[0])
    assert module("module.train_lr_noise=[0,0]")._lr(clip, Noise(0))[0] == 0
    many = latent.make_clip(1, (4, 4), batch=40)
    drawn = module("module.train_lr_noise=[3,4]")._lr(many, Noise(0))[0]
    assert isinstance(drawn, Tensor) and set(drawn.tolist()) == {3, 4}, "both ends"


def test_the_decoder_s_stage_learns_on_sampled_latents_without_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    built, clip, seen = started("vae"), latent.make_clip(4), []
    decode = built.method.decode
    monkeypatch.setattr(built.method, "decode", lambda latents, lr: seen.append(latents) or decode(latents, lr))
    assert clip.hr is not None
    for truth in (clip.hr, 1 - clip.hr):
        built.losses(replace(clip, hr=truth), Noise(0))
    assert torch.equal(*seen)


def test_descriptions_tell_clips_apart_and_never_change() -> None:
    clip = latent.make_clip(2, (32, 32), batch=2)
    assert clip.hr is not None
    found = Descriptions(32)(clip.hr)
    assert found.shape == (2, 64, 32) and 0.5 < found.std() < 2
    assert torch.equal(found, Descriptions(32)(clip.hr)) and not torch.allclose(found[0], found[1])
    assert not list(Descriptions(32).parameters())


def test_the_gain_follows_from_the_networks_and_from_no_batch() -> None:
    trained, sampled = latent.module("adapter"), latent.method("adapter")
    assert trained.method.adapter.gain.isnan()
    trained.begin_stage("adapter", partial(torch.optim.Adam, lr=1e-3), Noise(0))
    sampled.configure_inference("bf16").upscale(latent.make_clip(3, seed=5), Noise(0))
    assert torch.equal(trained.method.adapter.gain, sampled.adapter.gain) and trained.method.adapter.gain > 0
    text = trained.method.adapter(trained.method.vit(latent.make_clip(4).lr[0])[None])
    assert 0.3 < text.std() < 3


def test_the_residual_layer_has_a_stage_that_moves_it_alone() -> None:
    asked = ("method.residual_layer=true", "module.objective={pixel: 1.0, gradient: 1.0}")
    assert set(moved("residual", *asked)) == {"method.residual.conv.weight", "method.residual.conv.bias"}
    built = started("residual", *asked)
    assert {key.partition(".")[0] for key in built.trained_state()} == {"adapter", "residual"}
    assert "residual" not in method().stages and "residual" not in method().parts()


def test_the_residual_layer_comes_before_the_colour_chain() -> None:
    plain, built, clip = method(), method("method.residual_layer=true"), latent.make_clip(3)
    assert torch.equal(plain.upscale(clip, Noise(0)), built.upscale(clip, Noise(0)))
    assert built.residual is not None
    built.residual.conv.bias.data.fill_(0.125)
    frames = plain.decode(torch.zeros(1, 3, 4, 16, 16), clip.lr)
    assert torch.allclose(built.decode(torch.zeros(1, 3, 4, 16, 16), clip.lr), frames + 0.125, atol=1e-6)
    assert (plain.upscale(clip, Noise(0)) - built.upscale(clip, Noise(0))).abs().max() > 0.1


# --- weights ------------------------------------------------------------------------------------------


def test_a_weights_file_holds_the_adapter_alone() -> None:
    built = module()
    assert {key.partition(".")[0] for key in built.trained_state()} == {"adapter"}
    assert {"vit", "denoising_unet", "vae"} <= built.frozen_hashes().keys()


def test_stages_of_the_miniature_hand_everything_on() -> None:
    one, two = started("prior", "method.tuned=true"), module("method.tuned=true", "prior.seed=1", "vit.seed=1")
    state = one.trained_state()
    assert {key.partition(".")[0] for key in state} == {"vit", "adapter", "denoising_unet", "vae"}
    assert not any("freqs" in key or "conv_in.weight" in key for key in state)
    image = two.method.prior.unet.image.conv_in.weight.clone()
    two.load_trained_state(state)
    assert all(torch.equal(value, state[key]) for key, value in two.trained_state().items())
    assert torch.equal(two.method.prior.unet.image.conv_in.weight, image)
    assert one.frozen_hashes() == {}
    lost = next(key for key in state if key.startswith("vae."))
    with pytest.raises(WeightsError, match=r"do not fit the trained pieces of 'vae': 1 missing"):
        two.load_trained_state({key: value for key, value in state.items() if key != lost})


def test_a_trained_vit_belongs_to_the_adapters_stage() -> None:
    built = started("adapter", "method.train_vit=true")
    assert built.stages["adapter"].trainable == ("adapter", "vit")
    assert AdapterVSR.stages["adapter"] == Stage(("adapter",), AdapterVSR.stages["adapter"].losses)
    assert all(p.requires_grad for p in built.method.vit.parameters())


# --- cost ---------------------------------------------------------------------------------------------


def test_units_of_work_count_overlapping_windows() -> None:
    built, clip = method("sampler.steps=5"), latent.make_clip(7)
    lines = built.work(clip)
    assert lines["denoising U-Net"].per_frame == 2 * 5 / 7 and lines["VAE decoder"].per_frame == 1 / 2
    assert lines["ViT"].per_frame == 2 / 7
    for line in lines.values():
        with torch.inference_mode():
            line.run()
    assert "ViT" not in method("method.condition=false").work(clip)


def test_the_shipped_miniature_uses_its_condition_and_beats_bicubic() -> None:
    cfg = compose(["method=adapter", "size=mini", "data=sample", "inference.device=cpu"], verb="eval")
    built, source = build_method(cfg), build(cfg.data).clips("test")[1]
    clip = centre(source.read(0, 3), 40)
    assert isinstance(built, AdapterVSR) and clip.hr is not None
    found = built.upscale(clip, Noise(0))
    built.condition = False
    assert (built.upscale(clip, Noise(0)) - found).abs().max() > 1e-3
    bicubic = imresize(clip.lr, 4).clamp(0, 1)
    assert (found - clip.hr).square().mean() < 0.9 * (bicubic - clip.hr).square().mean()


def test_a_window_longer_than_the_adapter_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.window=5 is longer than method\.adapter\.frames=4"):
        method("method.window=5")


def test_a_clip_keeps_its_noise_whatever_travels_beside_it() -> None:
    built, clip = method("method.lr_noise=20"), latent.make_clip(2)
    later = replace(clip, index=clip.index + 5)
    assert not torch.equal(built.upscale(clip, Noise(0)), built.upscale(later, Noise(0)))
    assert torch.equal(
        built.upscale(clip, Noise(0)), built.upscale(Clip(clip.lr, None, clip.name, clip.index, 4), Noise(0))
    )


def test_the_language_term_compares_a_token_with_its_region_whatever_the_size() -> None:
    built, clip = started("adapter", "module.objective.language=1"), latent.make_clip(4)
    with torch.no_grad():
        text = tokens(built.method.sampling(clip), clip.lr)
    assert text.shape[1] == built.method.vit.tokens == 16
    assert clip.hr is not None
    expected = (text - built.descriptions(clip.hr)).square().mean()
    torch.testing.assert_close(built.losses(clip, Noise(0))["language"], expected)
    with pytest.raises(ConfigError, match=r"language compares tokens by region: it needs vit\.cls=false"):
        module("module.objective.language=1", "+vit.cls=true")


# --- early stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "stops"), [([3, 2, 1], False), ([3, 3], False), ([3, 3, 3], True), ([3, 4, 2, 5, 2], True)]
)
def test_patience_counts_measurements_in_a_row_that_bring_nothing(values: list[float], stops: bool) -> None:
    stopping = EarlyStopping(patience=2)
    for value in values:
        stopping.update(value)
    assert (stopping.waited >= 2) == stops
    again = EarlyStopping(patience=2)
    again.load_state_dict(stopping.state_dict())
    assert (again.best, again.waited) == (min(values), stopping.waited)


def test_a_run_that_learns_nothing_ends_by_itself_and_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured at steps 1 and 2; a run in pieces counts as a whole one does."""
    settings = [
        "method=adapter", "size=tiny", "data=sample", "data.workers=0", "trainer=cpu", "name=run", f"runs={tmp_path}",
        "validation.clips=1", "validation.frames=2", "validation.strips=0", "train.effective_batch=1",
        "optimiser.lr=0.0", "+module.early_stopping={patience: 1, every: 1, crop: 16}",
    ]  # fmt: skip
    for steps in (1, 50):
        train.run(compose([*settings, f"trainer.max_steps={steps}"]))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] == 2 and result["ended"].startswith("early stopping") and result["best"]["step"] == 1
    losses = [row["val/loss"] for row in read_metrics(tmp_path / "run" / "metrics.csv") if row.get("val/loss")]
    assert len(losses) == 2 and len(set(losses)) == 1
    capsys.readouterr()
    train.run(compose([*settings, "trainer.max_steps=50"]))
    assert capsys.readouterr().out.startswith("finished at step 2 by early stopping")


def test_a_run_killed_before_its_measurement_makes_up_for_it() -> None:
    asked: list[int] = []

    class Counting(EarlyStopping):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            asked.append(trainer.global_step)

    run = SimpleNamespace(global_step=266, should_stop=False)
    stopping = Counting()
    stopping.on_train_start(run, SimpleNamespace(ended=""))  # type: ignore[arg-type]
    assert asked == [266] and not run.should_stop
    stopping.load_state_dict({"best": 1.0, "waited": 2, "measured": 266})
    over = SimpleNamespace(ended="")
    stopping.on_train_start(run, over)  # type: ignore[arg-type]
    assert run.should_stop and over.ended


def test_early_stopping_measures_whole_windows_of_eight_frames() -> None:
    spans: list[tuple[int, int]] = []

    def source(frames: int) -> SimpleNamespace:
        def read(start: int, stop: int) -> Any:
            spans.append((start, stop))
            return latent.make_clip(1, (16, 16))

        return SimpleNamespace(frames=frames, read=read)

    loader = SimpleNamespace(dataset=SimpleNamespace(sources=[source(100), source(20), source(6)]))
    trainer: Any = SimpleNamespace(val_dataloaders=loader)
    assert len(EarlyStopping(windows=4)._read(trainer, 8)) == 7
    assert spans == [(0, 8), (8, 16), (16, 24), (24, 32), (0, 8), (8, 16), (0, 6)]


def test_the_validation_loss_draws_nothing_and_sees_the_centre() -> None:
    built, clip = started("adapter"), latent.make_clip(2, (24, 32))
    small = centre(clip, 20)
    assert small.lr.shape[-2:] == (16, 16) and small.hr is not None and clip.hr is not None
    assert torch.equal(small.hr, clip.hr[..., 16:80, 32:96]) and torch.equal(small.lr, clip.lr[..., 4:20, 8:24])
    first = built.validation_loss(small)
    assert first == built.validation_loss(small) and first > 0
    assert built.configure_callbacks() == []
    [callback] = module("module.early_stopping={patience: 3, every: 7, crop: 16}").configure_callbacks()
    assert (callback.patience, callback.every, callback.crop) == (3, 7, 16)


def test_the_printed_recipe_measures_every_epoch_and_all_clips_held_out_in_clips_of_eight_frames() -> None:
    cfg = compose(["method=adapter", "size=paper", "recipe=adapter/printed"])
    root, known = Path("unused"), trees.load_list("reds")
    clips = {key: set(trees.partition_names("reds", known, split.partition, root)[0])
             for key, split in cfg.data.splits.items()}  # fmt: skip
    assert not clips["test"] & (clips["train"] | clips["val"])
    assert EarlyStopping().every == cfg.module.early_stopping.every == len(clips["train"] - clips["val"])
    assert (cfg.validation.clips, cfg.validation.frames, cfg.method.window, cfg.train.frames) == (None, 8, 8, 8)
