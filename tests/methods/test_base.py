"""What the base class promises, shown on the prior alone (``ldm``) at size tiny."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import latent
from vsrbench.config import build_method, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import TrainingError, WeightsError
from vsrbench.methods.base import Method
from vsrbench.methods.bicubic import Bicubic
from vsrbench.methods.module import MethodModule
from vsrbench.nn.ema import EMA
from vsrbench.nn.functional import native_precision
from vsrbench.weights.trained import load_trained


@pytest.fixture
def method() -> Method:
    return latent.method("ldm")


@pytest.fixture
def module() -> MethodModule:
    return latent.module("ldm")


def moved(method: Method | MethodModule, by: float) -> dict[str, torch.Tensor]:
    return {key: value + by for key, value in method.trained_state().items()}


def same(one: dict, other: dict, tolerance: float = 0) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(v, other[k], atol=tolerance, rtol=0) for k, v in one.items()
    )


# --- weights -------------------------------------------------------------------------------------


def test_trained_state_round_trip(method: Method) -> None:
    state = moved(method, 0.25)
    method.load_trained_state(state)
    assert same(method.trained_state(), state)


def test_trained_state_holds_the_stages_parts(module: MethodModule) -> None:
    def parts() -> set[str]:
        return {key.split(".")[0] for key in module.trained_state()}

    assert parts() == {"denoising_unet", "vae"}, "before a stage begins: what any stage trains"
    module.begin_stage("vae", torch.optim.SGD, Noise(0))
    assert parts() == {"vae"}


def test_weights_that_do_not_fit_are_refused(method: Method) -> None:
    state = method.trained_state()
    key = "vae.quant_conv.bias"
    missing = {k: v for k, v in state.items() if k != key}
    with pytest.raises(WeightsError, match=r"do not fit 'vae'.* 1 missing \['quant_conv.bias'\]"):
        method.load_trained_state(missing)
    with pytest.raises(WeightsError, match=r"1 unexpected \['surplus'\]"):
        method.load_trained_state({**state, "vae.surplus": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"another method.*1 of wrong shape \['quant_conv.bias \(3,\) for \(8,\)'\]"):
        method.load_trained_state({**state, key: torch.zeros(3)})
    with pytest.raises(WeightsError, match=r"weights hold a part 'guide'; this method has denoising_unet, vae"):
        method.load_trained_state({"guide.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="the weights are empty"):
        method.load_trained_state({})


def checkpoint(module: MethodModule, file: Path, **more: object) -> dict:
    content: dict = {"state_dict": {}, **more}
    module.on_save_checkpoint(content)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return content


def test_weights_from_a_file_a_checkpoint_and_a_run(module: MethodModule, tmp_path: Path) -> None:
    best, last = latent.module("ldm"), latent.module("ldm")
    best.load_trained_state(moved(module, 0.5))
    last.load_trained_state(moved(module, 0.125))
    run = tmp_path / "run"
    checkpoint(last, run / "checkpoints" / "last.ckpt")
    load_trained(module, str(run))
    assert same(module.trained_state(), last.trained_state())
    checkpoint(best, run / "checkpoints" / "best.ckpt")
    for source in (run, run / "checkpoints", run / "checkpoints" / "best.ckpt"):
        load_trained(module, str(source))
        assert same(module.trained_state(), best.trained_state())
        module.load_trained_state(last.trained_state())
    save_file({k: v.half() for k, v in best.trained_state().items()}, tmp_path / "best.safetensors")
    load_trained(module, str(tmp_path / "best.safetensors"))
    assert same(module.trained_state(), best.trained_state(), 2e-3)


def test_the_averaged_weights_are_preferred(module: MethodModule, tmp_path: Path) -> None:
    module.begin_stage("vae", torch.optim.SGD, Noise(0))
    average = EMA(0.9, module.trained_state())
    average.shadow = moved(module, 0.25)
    expected = dict(average.shadow)
    checkpoint(module, tmp_path / "last.ckpt", ema=average.state_dict())
    load_trained(module, str(tmp_path / "last.ckpt"))
    assert same(module.trained_state(), expected)


def test_files_that_cannot_be_used_are_named(module: MethodModule, tmp_path: Path) -> None:
    def told(name: str) -> str:
        with pytest.raises(WeightsError) as caught:
            load_trained(module, str(tmp_path / name))
        return str(caught.value)

    assert "no weights at" in told("nowhere") and "run folder with checkpoints" in told("nowhere")
    checkpoint(module, tmp_path / "cut.ckpt")
    whole = (tmp_path / "cut.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "cut.ckpt cannot be read" in told("cut.ckpt") and "truncated" in told("cut.ckpt")
    (tmp_path / "empty.ckpt").touch()
    assert "empty.ckpt cannot be read" in told("empty.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    assert "text.ckpt cannot be read" in told("text.ckpt")
    save_file(module.trained_state(), tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-50])
    assert "cut.safetensors cannot be read" in told("cut.safetensors")
    torch.save({"weights": 1}, tmp_path / "foreign.ckpt")
    assert "foreign.ckpt holds no state dict" in told("foreign.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert "list.ckpt holds a list and no state dict" in told("list.ckpt")


def test_the_configuration_names_the_weights(method: Method, tmp_path: Path) -> None:
    method.load_trained_state(moved(method, 0.25))
    save_file(method.trained_state(), tmp_path / "moved.safetensors")
    settings = ["method=ldm", "size=tiny", "inference.device=cpu", "inference.batch=3"]
    built = build_method(compose([*settings, f"ckpt_path={tmp_path}/moved.safetensors"], verb="eval"))
    assert same(built.trained_state(), method.trained_state())
    assert (built.training, built.batch, built.precision) == (False, 3, torch.float32)
    shipped = build_method(compose([*settings, f"weights={tmp_path}/moved.safetensors"], verb="eval"))
    assert same(shipped.trained_state(), method.trained_state())


def test_checkpoints_hold_no_frozen_part(module: MethodModule) -> None:
    module.begin_stage("unet", torch.optim.SGD, Noise(0))
    content: dict = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    assert content["stage"] == "unet"
    assert {key.split(".")[0] for key in content["state_dict"]} == {"denoising_unet"}
    other = latent.module("ldm")
    content["state_dict"] = {key: value + 1 for key, value in content["state_dict"].items()}
    expected = dict(content["state_dict"])
    other.on_load_checkpoint(content)
    other.load_state_dict(content["state_dict"], strict=other.strict_loading)
    assert all(torch.equal(v, expected[f"denoising_unet.{k}"]) for k, v in other.method.prior.unet.state_dict().items())


# --- stages --------------------------------------------------------------------------------------


def test_a_stage_frees_its_parts_alone(module: MethodModule) -> None:
    for stage, trained in (("unet", "denoising_unet"), ("vae", "vae")):
        module.begin_stage(stage, torch.optim.SGD, Noise(0))
        free = {id(p) for p in module.parameters() if p.requires_grad}
        assert free == {id(p) for p in module.parts()[trained].parameters()}
        module.train()
        assert {name: part.training for name, part in module.parts().items()} == {
            name: name == trained for name in module.parts()
        }
        assert not module.eval().parts()[trained].training


def test_the_first_stage_is_the_default(module: MethodModule) -> None:
    module.begin_stage("default", torch.optim.SGD, Noise(0))
    assert module.stage == "unet"


def test_unknown_stage_and_forgotten_stage(module: MethodModule) -> None:
    with pytest.raises(TrainingError, match="begin_stage"):
        module.configure_optimizers()
    with pytest.raises(TrainingError, match="unknown stage 'guide': use one of unet, vae"):
        module.begin_stage("guide", torch.optim.SGD, Noise(0))


def test_optimiser_and_schedule(module: MethodModule) -> None:
    module.begin_stage("vae", lambda p: torch.optim.SGD(p, lr=0.5), Noise(0))
    optimiser = module.configure_optimizers()
    assert {id(p) for g in optimiser.param_groups for p in g["params"]} == {
        id(p) for p in module.method.prior.vae.parameters()
    }
    module.begin_stage(
        "vae",
        lambda p: torch.optim.SGD(p, lr=0.5),
        Noise(0),
        lambda o: torch.optim.lr_scheduler.StepLR(o, 1),
    )
    both = module.configure_optimizers()
    assert both["lr_scheduler"]["interval"] == "step"
    assert both["lr_scheduler"]["scheduler"].optimizer is both["optimizer"]


def test_training_step_sums_the_terms_and_keeps_them(module: MethodModule, monkeypatch: pytest.MonkeyPatch) -> None:
    module.begin_stage("vae", torch.optim.SGD, Noise(0))
    loss = module.training_step(latent.make_clip(1, (8, 8)), 0)
    assert module.terms.keys() == set(module.stages["vae"].losses)
    assert torch.allclose(loss, sum(module.terms.values()))
    assert loss.requires_grad and not any(term.requires_grad for term in module.terms.values())
    monkeypatch.setattr(module, "losses", lambda *_: {"pixel": torch.tensor(1.0), "kl": torch.tensor(float("nan"))})
    with pytest.raises(TrainingError, match=r"loss term 'kl' is nan at step 0 \(clips clip#0\)"):
        module.training_step(latent.make_clip(1, (8, 8)), 0)


def test_precision_is_bf16_where_asked(method: Method) -> None:
    def dtype() -> torch.dtype:
        with method.autocast():
            return torch.nn.functional.conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)).dtype

    assert dtype() == torch.float32
    method.configure_inference("bf16", 2)
    assert dtype() == torch.bfloat16
    assert method.batch == 2 and not method.exact
    method.configure_inference("fp16")
    assert dtype() == torch.float16
    method.configure_inference("fp32")
    assert dtype() == torch.float32 and method.exact


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_precision_auto_is_what_the_processor_computes_natively(
    features: dict, expected: torch.dtype, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    assert method.configure_inference("auto").precision == expected and not method.exact
    monkeypatch.setattr(method, "tolerates_half", False)
    assert method.configure_inference("auto").precision == torch.float32


@pytest.mark.parametrize(
    ("bf16", "capability", "expected"),
    [(True, (9, 0), torch.bfloat16), (False, (7, 5), torch.float16), (False, (6, 1), torch.float32)],
)
def test_precision_auto_on_a_gpu(
    bf16: bool, capability: tuple[int, int], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert native_precision(torch.device("cuda")) == expected
    assert native_precision(torch.device("mps")) == torch.float32


def test_the_vae_does_not_run_in_fp16() -> None:
    prior = latent.method("ldm").prior
    seen: list[torch.dtype] = []
    for part in (prior.vae.encoder, prior.vae.decoder):
        part.conv_out.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    for precision in (torch.float16, torch.bfloat16):
        with torch.inference_mode(), torch.autocast("cpu", dtype=precision):
            prior.decode(prior.encode(torch.rand(1, 3, 32, 32)))
    assert seen == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16]


def test_bicubic_of_pictures_is_within_rounding_of_the_exact_one() -> None:
    clip, method = latent.make_clip(3, (6, 7), batch=2), Bicubic()
    exact = method.upscale(clip, Noise(0))
    quick = method.configure_inference("auto").upscale(clip, Noise(0))
    assert quick.shape == exact.shape and 0 < (quick - exact).abs().max() < 1e-6
    assert torch.equal(method.configure_inference("fp32").upscale(clip, Noise(0)), exact)


# --- bicubic -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4, 8, 16])
def test_bicubic_enlarges_by_any_scale(scale: int) -> None:
    clip = latent.make_clip(2, (5, 6), batch=2)
    output = Bicubic(scale).upscale(replace(clip, hr=None, scale=scale), Noise(0))
    assert output.shape == (2, 2, 3, 5 * scale, 6 * scale)
    assert output.dtype == torch.float32
    assert output.min() >= 0 and output.max() <= 1


def test_bicubic_keeps_flat_colour_and_frames_apart() -> None:
    clip = latent.make_clip(3, (6, 6))
    flat = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 6, 6)
    output = Bicubic().upscale(replace(clip, lr=flat, hr=None), Noise(0))
    assert torch.allclose(output, flat[..., :1, :1].expand_as(output), atol=1e-6)
    whole = Bicubic().upscale(clip, Noise(0))
    assert torch.equal(whole[:, 1:2], Bicubic().upscale(clip.window(1, 2), Noise(1)))
    assert Bicubic().context == 0 and Bicubic().parts() == {} and Bicubic().stages == {}


def test_weights_refuse_another_frozen_part(tmp_path: Path) -> None:
    trained = latent.module("dgaf")
    trained.begin_stage("guide", None, Noise(0))
    checkpoint: dict = {}
    trained.on_save_checkpoint(checkpoint)
    assert set(checkpoint["frozen"]) == {"denoising_unet", "vae"}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    load_trained(latent.method("dgaf"), str(tmp_path / "a.ckpt"))
    other = latent.module("dgaf", "+prior.seed=1")
    with pytest.raises(WeightsError, match="another denoising_unet"):
        load_trained(other, str(tmp_path / "a.ckpt"))
    other.begin_stage("guide", None, Noise(0))
    with pytest.raises(WeightsError, match="another denoising_unet"):
        other.on_load_checkpoint(checkpoint)
