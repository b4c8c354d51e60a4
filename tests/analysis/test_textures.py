import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vsrbench import analyse
from vsrbench.analysis.session import Session
from vsrbench.analysis.strength import Strength
from vsrbench.analysis.textures import Measures, Recorder, Run, centre, pictured, sampled, textures
from vsrbench.config import compose
from vsrbench.data.sources import Source
from vsrbench.errors import ConfigError, DataError
from vsrbench.methods.padding import enlarge
from vsrbench.progress import Bars

FIXED = ["task=textures", "size=tiny", "data=sample", "analysis.frames=3", "analysis.clips=[coffee_zoom]"]


def configuration(runs: Path, *overrides: str) -> Any:
    settings = [*FIXED, "method=stablevsr", "analysis.textures.crop=24", f"runs={runs}", "name=x"]
    return compose([*settings, "inference.device=cpu", *overrides], verb="analyse")


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    return partial(configuration, tmp_path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return analyse.run(configuration(tmp_path_factory.mktemp("runs"), "sampler.steps=3"))


def table(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "table.json").read_text())


def session(cfg: Any) -> Session:
    with Bars() as bars:
        return Session(cfg, True, bars.row(), bars.row())


# --- what is recorded ----------------------------------------------------------------------------


class PerFrame:
    """Trace of what a step of one frame starts from."""

    def __init__(self, frame: int) -> None:
        self.frame, self.x, self.x0 = frame, [], []

    def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
        if frame == self.frame:
            self.x.append(tensors["x"].float())
            self.x0.append(tensors["x0"].float())


@pytest.mark.parametrize("settings", [["sampler=ddpm"], ["sampler.start=lr_noised", "sampler.strength=0.4"]])
def test_x_is_what_each_step_started_from(configured: Any, settings: list[str]) -> None:
    """Also at the first step, which nobody reports: its draws are made again."""
    run = session(configured("sampler.steps=3", *settings))
    source = run.sources[0]
    kept = sampled(run, source, 2)
    trace, method = PerFrame(2), run.method
    method.upscale(enlarge(source.read(0, 3), method.multiple, method.minimum), run.noise, trace=trace)
    assert len(kept.x) == len(kept.x0) == len(kept.timesteps) == 3
    for step in range(3):
        assert torch.equal(kept.x[step][1:], trace.x[step])
        assert torch.equal(kept.x0[step][1:], trace.x0[step])


def test_the_recorder_keeps_two_frames_of_whole_clips() -> None:
    trace, x = Recorder([0, 1]), torch.rand(1, 4, 4, 3, 3)
    trace.on_step(0, 1, x0=x[:, 1], x=x[:, 1])
    trace.on_step(0, None, aligned=x)
    assert trace.x0 == []
    trace.on_step(0, None, x0=x, x=2 * x)
    assert torch.equal(trace.x0[0], x[0, :2]) and torch.equal(trace.following[0], 2 * x[0, :2])


@pytest.mark.parametrize("method", ["dgaf", "stablevsr method.strategy=single_frame", "stablevsr variant=released"])
def test_methods_that_take_steps_on_all_frames(configured: Any, method: str) -> None:
    run = session(configured("analysis.frames=2", *f"method={method}".split()))
    assert len(sampled(run, run.sources[0], 1).x0) == 2


# --- what is measured ----------------------------------------------------------------------------


class Repeating(nn.Module):
    """A decoder without any context: each latent becomes 4x4 equal pixels."""

    def decode(self, latents: Tensor) -> Tensor:
        return nn.functional.interpolate(latents[:, :3], scale_factor=4, mode="nearest")


def measures(shift: float, size: tuple[int, int] = (32, 32)) -> Measures:
    """A neighbour whose content lies ``shift`` HR pixels further to the right than the frame's."""
    x0 = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(1, 2, 32, 32)
    flow[:, 0] = shift
    method = SimpleNamespace(prior=Repeating(), autocast=lambda: torch.autocast("cpu", enabled=False))
    return Measures(method, Run("a", [1], [x0], [x0], flow, size, None), Strength(), "exact", "border")


def test_both_ways_are_the_same_for_whole_latents() -> None:
    for shift in (0, 4, 8):
        given = measures(shift)
        ways = given.compensated(0)
        assert torch.allclose(ways["latent"], ways["pixel"], atol=1e-3)
        texture = 255 * Repeating().decode(given.run.x0[0][:1])[0]
        assert torch.allclose(ways["pixel"][..., : 32 - shift], texture[..., shift:], atol=1e-3)


def test_half_a_latent_blurs_only_before_decoding() -> None:
    given = measures(2)
    ways = given.compensated(0)
    texture = 255 * Repeating().decode(given.run.x0[0][:1])[0]
    assert torch.allclose(ways["pixel"][..., :30], texture[..., 2:], atol=1e-3)
    assert (ways["latent"] - ways["pixel"]).abs().mean() > 5
    assert given.energy(ways["latent"]) < given.energy(ways["pixel"])


def test_padding_is_left_out_and_values_are_those_of_output() -> None:
    given = measures(0, size=(20, 28))
    frame = given.frame(torch.full((3, 32, 32), 300.0))
    assert frame.shape == (3, 20, 28) and frame.max() == 255
    assert given.compensated(0)["pixel"].shape == (3, 20, 28)


def test_detail_is_what_the_lr_frame_cannot_hold() -> None:
    """Waves of 4 pixels are finer than the threshold of 6, waves of 8 (LR's finest) are coarser."""
    given, x = measures(0), torch.arange(48.0)
    fine, coarse = (
        (127 + 100 * torch.cos(2 * torch.pi * x / length)).expand(3, 48, 48) for length in (4, 8)
    )  # fmt: skip
    assert given.energy(coarse) < 1e-6 < given.energy(fine)
    assert given.energy(fine) == pytest.approx((100 * 219 / 255) ** 2 / 2, rel=1e-3)  # luma in studio range
    assert given.detail(coarse).abs().max() < 1e-3 < given.detail(fine).abs().max()


def test_steps_and_pixels_to_picture() -> None:
    assert pictured(50, 4) == [0, 16, 33, 49] and pictured(2, 4) == [0, 1] and pictured(5, 1) == [4]
    rows, columns = centre((40, 100), 60)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (0, 40, 20, 80)
    assert centre((40, 100), None) == (slice(0, 40), slice(0, 100))


# --- the command ---------------------------------------------------------------------------------


def test_a_table_over_t_and_a_figure(found: Path) -> None:
    result = table(found)
    values, steps = result["values"], result["values"]["steps"]
    assert list(steps) == [str(t) for t in sorted((int(t) for t in steps), reverse=True)] and len(steps) == 3
    last = list(steps.values())[-1]
    assert last["distance"] == 0 and all(v["distance"] > 0 for v in list(steps.values())[:-1])
    assert values["clip"] == "coffee_zoom" and values["frame"] == 1 and values["reference"] == "the ground truth"
    assert [len(t["rows"]) for t in result["tables"]] == [3, 3]
    assert "StableVSR" in result["paper"]["reference"]
    text = (found / "table.md").read_text()
    assert "frame 1 of one clip sampled with 3 frames, 3 steps" in text and "feature groups" not in text
    with Image.open(found / "figure.png") as figure:
        assert min(figure.size) > 800
    assert (found / "figure.svg").read_bytes().startswith(b"<?xml")


def test_psnr_and_mae_belong_together(found: Path) -> None:
    for step in table(found)["values"]["steps"].values():
        for way in step["warp"].values():
            rms = 255 * 10 ** (-way["psnr"] / 20)
            assert 0 < way["mae"] <= rms


def test_without_ground_truth_the_frames_own_x0_is_the_reference(
    configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Source.read
    monkeypatch.setattr(Source, "read", lambda self, start, stop: replace(read(self, start, stop), hr=None))
    assert textures(session(configured("analysis.frames=2"))).values["reference"] == "the last x0"


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["method=ldm"], ConfigError, "task=textures needs .* optical flow"),
        (["method=bicubic"], ConfigError, "task=textures needs a method with latent features"),
        (["method.strategy=auto_regressive"], ConfigError, "takes each step on all frames before the next"),
        (["analysis.textures.frame=3"], DataError, r"analysis\.textures\.frame=3: coffee_zoom gives frames 1 to 2"),
        (["analysis.textures.frame=0"], DataError, "frame 0 has no previous frame"),
        (["analysis.textures.steps=0"], ConfigError, r"analysis\.textures\.steps=0: give a whole number from 1"),
    ],
)
def test_what_is_refused(configured: Any, overrides: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        analyse.run(configured(*overrides))
