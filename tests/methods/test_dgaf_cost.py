"""Units of work: together they are what upscaling does."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import latent
from vsrbench.benchmarks.flops import flops
from vsrbench.diffusion.noise import Noise
from vsrbench.methods.dgaf import cost

VARIANTS = {
    "printed": [],
    "released": ["variant=released"],
    "raft": ["flow=raft", "flow.random=true", "flow.updates=2"],
    "from the LR frame": ["sampler.start=lr_noised", "sampler.strength=0.5"],
    "encoder only": ["method.guidance=encoder"],
    "small rescaling": ["method.rescale=1.6", "method.rescale_mode=bicubic"],
    "no rescaling": ["method.rescale_mode=none"],
    "x8": ["scale=8", "method.rescale=8"],
}


def method(name: str, steps: int = 3) -> Any:
    return latent.method("dgaf", *VARIANTS[name], f"sampler.steps={steps}")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_parts_add_up_to_upscaling(name: str) -> None:
    """FLOPs of a real call, to the last one: same calls, same sizes, nothing left out that the counter sees."""
    built = method(name)
    clip = replace(latent.make_clip(frames=3, size=(16, 24)), hr=None, scale=built.scale)
    parts = sum(flops(item.run) * item.per_frame for item in cost.work(built, clip).values())
    whole = flops(lambda: built.upscale(clip, Noise(0)))
    assert 3 * parts == pytest.approx(whole, rel=1e-12)


def test_how_often() -> None:
    """4 frames, 3 steps: 6 flows; 3 guided frames in each of 2 guided steps; as released in all 3."""
    clip = latent.make_clip(frames=4)
    found = {name: item.per_frame for name, item in cost.work(method("printed"), clip).items()}
    assert found["FM"] == 6 / 4 and found["OGWM warping"] == found["guiding U-Net"] == 6 / 4
    assert found["denoising U-Net"] == 3 and found["VAE decoder"] == 1
    assert cost.work(method("released"), clip)["guiding U-Net"].per_frame == 9 / 4


def test_a_single_frame_and_a_single_step_have_nothing_to_guide() -> None:
    alone = cost.work(method("printed"), latent.make_clip(frames=1))
    assert set(alone) == {"denoising U-Net", "VAE decoder"}
    single = cost.work(method("printed", steps=1), latent.make_clip(frames=2))
    assert "guiding U-Net" not in single and "OGWM warping" not in single


def test_ogwm_in_three_parts_is_ogwm() -> None:
    built = method("printed")
    work = cost.work(built, latent.make_clip(frames=2))
    x0 = cost.latent(built, latent.make_clip(frames=2).lr[0, :1])
    brought = built.guidance.align_neighbour(x0, x0.new_zeros(1, 2, 64, 64))
    assert torch.equal(work["OGWM downscaling"].run(), brought)
    assert work["OGWM warping"].run().shape == work["OGWM upscaling"].run().shape == (1, 4, 64, 64)
    assert set(cost.work(method("no rescaling"), latent.make_clip(frames=2))) & {
        "OGWM upscaling", "OGWM warping", "OGWM downscaling",
    } == {"OGWM warping"}  # fmt: skip


def test_only_networks_are_counted() -> None:
    work = cost.work(method("printed"), latent.make_clip(frames=2))
    assert not work["FM"].network  # DIS
    assert cost.work(method("raft"), latent.make_clip(frames=2))["FM"].network
    assert {name for name, item in work.items() if item.nested_in == "OGWM"} == {
        "OGWM upscaling", "OGWM warping", "OGWM downscaling",
    }  # fmt: skip
