"""BasicVSR: equal to the published class, both layouts of its weights, any length, training."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import latent
from vsrbench.config import build, build_method, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.inference.chunks import upscale_source
from vsrbench.methods.basicvsr import BasicVSR
from vsrbench.methods.module import MethodModule
from vsrbench.types import Clip
from vsrbench.weights.choice import choose, trained_source
from vsrbench.weights.trained import load_trained

GOLDEN = Path(__file__).parents[1] / "golden" / "basicvsr" / "trace.safetensors"
State = dict[str, Tensor]


def spread(shape: torch.Size, start: float) -> Tensor:
    """Values in [-1,1] that any machine can make again; the recording was made with them."""
    i = torch.arange(shape.numel(), dtype=torch.float64)
    fraction = torch.frac(torch.frac(torch.sin(12.9898 * (i + 1) + start) * 43758.5453) + 1)
    return (2 * fraction - 1).view(shape).float()


def published_name(own: str) -> str:
    """A parameter of ours under BasicSR's name."""
    bare = own.removeprefix("propagation.").removeprefix("reconstruction.")
    return re.sub(r"upsample(\d)\.upsample_conv", r"upconv\1", bare)


def published_state(method: BasicVSR) -> State:
    """The recording's weights under BasicSR's names."""
    shapes = {published_name(name): parameter.shape for name, parameter in method.net.named_parameters()}
    state = {}
    for number, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        gain = (3 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.05
        gain *= 0.8 if ".8." in name and name.startswith("spynet") else 1.0
        state[name] = gain * spread(shape, float(number))
    return state


def recorded_method() -> BasicVSR:
    method = BasicVSR(mid_channels=4, num_blocks=1, flow_minimum=1)
    method.load_trained_state(published_state(method))
    return method.eval()


def recorded_frames() -> Tensor:
    """LR (1,5,3,64,68)."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(68.0), indexing="ij")

    def colour(c: int, t: int) -> Tensor:
        return 0.5 + 0.25 * torch.sin(0.31 * (x + 1.5 * t) + c) + 0.2 * torch.cos(0.23 * (y - t) + 0.11 * x * c)

    clip = [[colour(c, t) for c in range(3)] for t in range(5)]
    return torch.stack([torch.stack(frame) for frame in clip])[None]


# --- the published class ---


def test_equal_to_the_published_class() -> None:
    """Its output with these weights, at every eighth pixel of the middle frames of clips of 1, 2, 3 and 5 frames."""
    stored, method, lr = load_file(GOLDEN), recorded_method(), recorded_frames()
    with torch.inference_mode():
        to_next, to_previous = method.net.flows(lr)
        for name, flow in (("to_next", to_next), ("to_previous", to_previous)):
            torch.testing.assert_close(flow[0, :, :, 2::8, 1::8], stored[name], atol=1e-5, rtol=0)
        for name in (name for name in stored if name.startswith("frame_")):
            t, frames = map(int, re.findall(r"\d+", name))
            rgb = method.net(lr[:, :frames])[0][0, t, :, 3::8, 5::8]
            torch.testing.assert_close(rgb, stored[name], atol=1e-5, rtol=0)
    assert stored["to_next"].std() > 0.1, "the recording has motion"


def test_parameters_of_the_paper_to_the_last_one() -> None:
    with torch.device("meta"):
        method = build(compose(["method=basicvsr"], verb="eval").method)
    count = sum(p.numel() for p in method.parameters())
    assert count + 6 == 6_291_317, "the published file also holds SPyNet's mean and deviation"
    assert (
        sum(p.numel() for group in method.parameter_groups().values() for m in group for p in m.parameters()) == count
    )


def test_both_public_layouts(tmp_path: Path) -> None:
    method = recorded_method()
    state = published_state(method)
    openmmlab = {}
    for name, value in state.items():
        name = name.replace("_trunk.", "_resblocks.")
        name = re.sub(r"upconv(\d)", r"upsample\1.upsample_conv", name)
        match = re.fullmatch(r"spynet\.basic_module\.(\d)\.basic_module\.(\d)\.(\w+)", name)
        if match:
            level, layer, kind = match.groups()
            name = f"spynet.basic_module.{level}.basic_module.{int(layer) // 2}.conv.{kind}"
        openmmlab[f"generator.{name}"] = value
    torch.save({"state_dict": {**openmmlab, "step_counter": torch.zeros(1)}}, tmp_path / "openmmlab.pth")
    torch.save({"params": state}, tmp_path / "basicsr.pth")
    save_file(method.trained_state(), tmp_path / "ours.safetensors")
    expected = method.trained_state()
    for file in ("openmmlab.pth", "basicsr.pth", "ours.safetensors"):
        other = BasicVSR(mid_channels=4, num_blocks=1, flow_minimum=1)
        load_trained(other, str(tmp_path / file))
        found = other.trained_state()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), file


def test_a_state_that_is_not_whole() -> None:
    method = recorded_method()
    state = published_state(method)
    with pytest.raises(WeightsError, match=r"hold 'extra.weight', which is nothing of BasicVSR's generator"):
        method.load_trained_state({**state, "extra.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="lack spynet: give a whole generator of BasicVSR"):
        method.load_trained_state({key: value for key, value in state.items() if not key.startswith("spynet")})


# --- any length ---


class Stored:
    """A clip as ``inference`` reads it; without a length, as from a pipe, if ``known`` is False."""

    def __init__(self, lr: Tensor, known: bool = True) -> None:
        self.lr, self.frames = lr, lr.shape[1] if known else None

    def read(self, start: int, stop: int) -> Clip:
        lr = self.lr[:, start:stop]
        return Clip(lr, None, ["a"], torch.arange(start, start + lr.shape[1])[None], 4)


def streamed(method: BasicVSR, source: Stored, chunk: int, whole: int) -> Tensor:
    settings = {"chunk": chunk, "batch": 4, "max_frames": None, "tile": None, "overlap": 0, "whole": whole}
    return torch.stack([frame for _, frame in upscale_source(method, source, Noise(0), settings)])


def test_a_clip_that_is_too_long_is_cut_with_the_long_context() -> None:
    method = recorded_method()
    lr = recorded_frames().repeat(1, 2, 1, 1, 1)[..., :24, :28]
    whole = method.upscale(Stored(lr).read(0, 10), Noise(0))[0]
    assert torch.allclose(streamed(method, Stored(lr), 3, whole=10), whole, atol=1e-6)
    method.long_context = 2
    cut = streamed(method, Stored(lr), 3, whole=9)
    alone = method.upscale(Stored(lr).read(1, 8), Noise(0))[0, 2:5]  # frames 3..5 with two neighbours on either side
    assert torch.allclose(cut[3:6], alone, atol=1e-6) and not torch.allclose(cut, whole, atol=1e-4)
    assert torch.equal(streamed(method, Stored(lr, known=False), 3, whole=9), cut), "nobody knows a pipe's length"
    method.long_context = None
    with pytest.raises(ConfigError, match="one of 10 frames may not fit"):
        streamed(method, Stored(lr), 3, whole=9)


def test_the_cut_of_a_longer_overlap_is_nearer_to_the_whole() -> None:
    method, lr = recorded_method(), recorded_frames().repeat(1, 3, 1, 1, 1)[..., :24, :28]
    whole = method.upscale(Stored(lr).read(0, 15), Noise(0))[0]
    errors = []
    for overlap in (0, 2, 4):
        method.long_context = overlap
        errors.append((streamed(method, Stored(lr), 5, whole=9) - whole).abs().max().item())
    assert errors[0] > errors[1] > errors[2]


# --- weights by word ---


def chosen(*words: str, verb: str = "eval") -> tuple[str, str]:
    return choose(compose(["method=basicvsr", *words], verb=verb))


def test_weights_follow_the_degradation() -> None:
    assert chosen("data=vid4") == ("vimeo_bi", "data=vid4")
    assert chosen("data=vid4", "degradation=blur_down") == ("vimeo_bd", "degradation=blur_down")
    assert chosen("data=reds")[0] == "reds4"
    assert chosen(verb="upscale") == ("reds4", "footage whose degradation is not known")
    assert chosen("data=reds", "weights=vimeo_bi") == ("vimeo_bi", "")


def test_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VSRBENCH_WEIGHTS", str(tmp_path))
    cfg = compose(["method=basicvsr", "data=vid4", "inference.device=cpu"], verb="eval")
    assert cfg.size == "paper" and trained_source(cfg) == "basicvsr_vimeo_bi"
    with pytest.raises(WeightsError, match=r"basicvsr_vimeo_bi .* is not on this disk: `vsrbench weights fetch"):
        build_method(cfg)
    with pytest.raises(ConfigError, match="weights=reds: use reds4, vimeo_bi, vimeo_bd, auto, or a file"):
        compose(["method=basicvsr", "weights=reds"], verb="eval")
    tiny = recorded_method()
    save_file(tiny.trained_state(), tmp_path / "mine.safetensors")
    overrides = ["method.mid_channels=4", "method.num_blocks=1", f"weights={tmp_path / 'mine.safetensors'}"]
    loaded = build_method(compose(["method=basicvsr", "inference.device=cpu", *overrides], verb="upscale"))
    assert torch.equal(loaded.net.reconstruction.fusion.weight, tiny.net.reconstruction.fusion.weight)
    assert "chosen for" not in capsys.readouterr().err


def test_a_size_that_was_named_stays() -> None:
    assert compose(["method=basicvsr", "size=tiny"], verb="eval").size == "tiny"
    assert compose(["method=bicubic"], verb="eval").size == "mini"


# --- training ---


def test_the_flow_network_waits_and_then_learns_at_an_eighth() -> None:
    cfg = compose(["method=basicvsr"], verb="train")
    assert (cfg.module.flow_lr, cfg.module.flow_hold, cfg.optimiser.lr) == (0.125, 5000, 2e-4)
    assert cfg.trainer.max_steps == 300000 and cfg.train.frames == 15
    module: Any = build(compose(["method=basicvsr", "size=tiny", "module.flow_hold=1"], verb="train").module,
                        method=latent.method("basicvsr"))  # fmt: skip
    assert isinstance(module, MethodModule)
    others, flow = module.parameter_groups()
    assert {id(p) for p in flow["params"]} == {id(p) for p in module.method.net.spynet.parameters()}
    assert len(others["params"]) + len(flow["params"]) == len(list(module.parameters()))
