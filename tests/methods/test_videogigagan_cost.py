"""VideoGigaGAN's parameter table and units of work."""

import pytest
import torch

import latent
from vsrbench.benchmarks import params
from vsrbench.benchmarks.flops import flops
from vsrbench.config import build, compose
from vsrbench.diffusion.noise import Noise


def millions(*modules: torch.nn.Module) -> float:
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


@pytest.mark.parametrize(
    ("size", "generator", "discriminator"),
    [("paper", 368.978, 178.868), ("small", 50.144, 29.111), ("mini", 1.991, 1.464)],
)
def test_parameters_of_the_sizes(size: str, generator: float, discriminator: float) -> None:
    """The supplement prints 369 M for the generator and 179 M for the discriminator."""
    with torch.device("meta"):
        cfg = compose(["method=videogigagan", f"size={size}"], verb="bench")
        method = build(cfg.method)
        module = build(cfg.module, method=method)
    assert millions(method.generator) == pytest.approx(generator, abs=0.001)
    assert millions(module.discriminator) == pytest.approx(discriminator, abs=0.001)
    lines = method.parameter_groups()
    assert sum(millions(*part) for part in lines.values()) == pytest.approx(generator, abs=0.002)
    if size == "paper":
        assert (round(millions(method.generator)), round(millions(module.discriminator))) == (369, 179)


def test_the_sum_is_what_upscaling_needs_and_stands_beside_the_printed_size() -> None:
    rows = params.measure(compose(["method=videogigagan", "task=params"], verb="bench")).rows
    lines = {str(row["part"]): row for row in rows}
    assert lines["sum"]["paper"] == pytest.approx(368.978e6, abs=1e3) and lines["sum"]["printed"] == 369
    assert lines["discriminator (training)"]["paper"] == pytest.approx(178.868e6, abs=1e3)
    assert "sum of the reported lines" not in lines


def test_units_add_up_to_the_whole() -> None:
    """What the lines leave out (enlarging pictures, fusion of noise) is a small part."""
    method = latent.method("videogigagan")
    clip = latent.make_clip(frames=4, size=(16, 24))
    work = method.work(clip)
    assert next(iter(work)) == "propagation" and {item.nested_in for item in work.values()} == {None, "U-Net"}
    parts = sum(flops(item.run) * item.per_frame for item in work.values())
    whole = flops(lambda: method.generate(clip, Noise(0), method.chunk)) / clip.frames
    assert parts == pytest.approx(whole, rel=0.02)


def test_units_follow_the_ladder_and_the_chunk() -> None:
    clip = latent.make_clip(frames=4, size=(16, 16))
    assert "propagation" not in latent.method("videogigagan", "method.ladder=temporal").work(clip)
    for chunk, share in ((2, 1 / 2), (100, 1 / 4)):
        work = latent.method("videogigagan", f"method.chunk={chunk}").work(clip)
        assert work["decoder D_0"].per_frame == share and work["propagation"].per_frame == 1 / 4
