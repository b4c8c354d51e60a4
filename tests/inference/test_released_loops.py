"""Sizes that are no multiple of 8: the released loops over diffusers' own classes against ``upscale`` and ``eval``.

The loops are written here from the description of the released code and share nothing with ours but weights, flow
estimator and draws of noise.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers import scheduling_ddpm
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import latent
from inference_fakes import SETTINGS, Memory
from vsrbench import eval as evaluate
from vsrbench import upscale
from vsrbench.config import compose
from vsrbench.diffusion.noise import Noise
from vsrbench.inference.chunks import upscale_source

HEIGHT, WIDTH, FRAMES, STEPS = 21, 30, 3, 3  # 21 = 2 * 10 + 1, 11 = 2 * 5 + 1, 30 and 15 likewise: odd at every level
WORDS = ["size=tiny", "variant=released", "sampler.kind=ddpm", f"sampler.steps={STEPS}"]


def warped(image: Tensor, flow: Tensor) -> Tensor:
    """As released: positions normalised by W-1, sampled with half-pixel corners, zeros outside."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x = 2 * (x + flow[:, 0]) / (width - 1) - 1
    y = 2 * (y + flow[:, 1]) / (height - 1) - 1
    return F.grid_sample(image, torch.stack([x, y], dim=-1), align_corners=False)


def released(method: Any, lr: Tensor, noise: Noise, predict: Callable[..., Tensor]) -> Tensor:
    """The released sampling of frames (T,3,h,w): one after the other, in turned order at every other step.

    predict(x, lr, t, x0 of the frame before or None, flow to it): the networks.
    """
    scheduler: Any = DDPMScheduler.from_config({**method.prior.schedule.config, "timestep_spacing": "leading"})
    scheduler.set_timesteps(STEPS)
    large = F.interpolate(lr, scale_factor=4, mode="bicubic")
    size = lr.shape[-2:]
    x = [noise.normal((4, *size), "initial", "a", n)[None] for n in range(len(lr))]
    for step, t in enumerate(scheduler.timesteps):
        order = list(range(len(lr)))[:: -1 if step % 2 else 1]
        x0: Tensor | None = None
        for before, n in zip([None, *order[:-1]], order, strict=True):
            flow = None if before is None else method.flow(large[[n]], large[[before]])
            v = predict(x[n], 2 * lr[[n]] - 1, t, x0, flow)
            with patch.object(scheduling_ddpm, "randn_tensor", lambda *_, k=(n, step), **__: draw(noise, size, *k)):
                after = scheduler.step(v, t, x[n])
            x[n], x0 = after.prev_sample, after.pred_original_sample
    rgb = torch.cat([method.prior.vae.decode(latent / 0.08333).sample for latent in x])
    return (rgb / 2 + 0.5).clamp(0, 1)


def draw(noise: Noise, size: tuple[int, ...], frame: int, step: int) -> Tensor:
    return noise.normal((4, *size), "step", "a", frame, step)[None]


def stablevsr_networks(method: Any) -> Callable[..., Tensor]:
    """UNet and ControlNet as ``StableVSRPipeline`` calls them."""
    unet, tcm, vae, prompt = method.prior.unet, method.tcm.net, method.prior.vae, method.prior.prompt
    label = torch.tensor([method.prior.noise_level])

    def predict(x: Tensor, lr: Tensor, t: Tensor, x0: Tensor | None, flow: Tensor | None) -> Tensor:
        joined, added = torch.cat([x, lr], dim=1), {}
        if x0 is not None:
            guide = warped(vae.decode(x0 / 0.08333).sample, flow)
            down, middle = tcm(joined, t, prompt, guide, class_labels=label, return_dict=False)
            added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return unet(joined, t, prompt, class_labels=label, **added).sample

    return predict


def units(net: Any) -> list[tuple[str, Any]]:
    """The modules of a UNet behind which the released DGAF-VSR adds features, in the order of running."""
    found = [("first", net.conv_in)]
    for block in net.down_blocks:
        found += [("unit", m) for m in (getattr(block, "attentions", None) or block.resnets)]
        found += [("unit", m) for m in block.downsamplers or []]
    found.append(("unit", net.mid_block))
    for block in net.up_blocks:
        found += [("unit", m) for m in (getattr(block, "attentions", None) or block.resnets)]
        found += [("unit", m) for m in block.upsamplers or []]
    return found


def dgaf_networks(method: Any) -> Callable[..., Tensor]:
    """Both U-Nets run diffusers' own forward, with its own sizes of skips; hooks read the guide and add."""
    unet, guide, prompt = method.prior.unet, method.guide, method.prior.prompt
    label = torch.tensor([method.prior.noise_level])
    convs = [*guide.zero_encoder, guide.zero_middle, *guide.zero_decoder]
    maps: list[Tensor] = []
    # the guide has no output head, which diffusers' forward wants
    guide.net.conv_norm_out, guide.net.conv_out = None, torch.nn.Identity()

    def read(module: Any, inputs: Any, output: Any) -> None:
        maps.append(convs[len(maps)](output[0] if isinstance(output, tuple) else output))

    def first(module: Any, inputs: Any) -> Any:
        return (inputs[0] + maps.pop(0), *inputs[1:])  # in the stream alone: the stored skip stays as it is

    def add(module: Any, inputs: Any, output: Any) -> Any:
        return (output[0] + maps.pop(0), *output[1:]) if isinstance(output, tuple) else output + maps.pop(0)

    def predict(x: Tensor, lr: Tensor, t: Tensor, x0: Tensor | None, flow: Tensor | None) -> Tensor:
        joined, hooks = torch.cat([x, lr], dim=1), []
        if x0 is not None:
            aligned = F.interpolate(warped(F.interpolate(x0, scale_factor=4), flow), scale_factor=0.25)
            reading = [m.register_forward_hook(read) for _, m in units(guide.net)]
            guide.net(torch.cat([joined, aligned], dim=1), t, prompt, class_labels=label)
            for hook in reading:
                hook.remove()
            assert len(maps) == len(convs)
            hooks = [unet.down_blocks[0].resnets[0].register_forward_pre_hook(first)]
            hooks += [m.register_forward_hook(add) for kind, m in units(unet) if kind == "unit"]
        v = unet(joined, t, prompt, class_labels=label).sample
        for hook in hooks:
            hook.remove()
        assert not maps
        return v

    return predict


NETWORKS = {"stablevsr": stablevsr_networks, "dgaf": dgaf_networks}


def awake(name: str) -> Any:
    method = latent.method(name, *WORDS[1:])
    part = method.guide if name == "dgaf" else method.tcm
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in part.named_parameters():
            zero = "zero_" in key or "controlnet_down" in key or "controlnet_mid" in key or "conv_out" in key
            parameter += (0.2 if zero else 0.0) * torch.randn(parameter.shape, generator=generator)
    return method


def grey_levels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.rglob("*.png"))]).astype(int)


@pytest.mark.parametrize("name", ["stablevsr", "dgaf"])
@torch.no_grad()
def test_odd_sizes_are_upscaled_and_evaluated_as_the_released_loop_does(
    name: str, make_tree: Any, tmp_path: Path
) -> None:
    root = make_tree({"GT/a": FRAMES}, size=(4 * HEIGHT, 4 * WIDTH))
    make_tree({"BIx4/a": FRAMES}, size=(HEIGHT, WIDTH))
    lr = torch.from_numpy(grey_levels(root / "BIx4" / "a")).permute(0, 3, 1, 2).float() / 255
    method = awake(name)
    settings = {**SETTINGS, "whole": FRAMES}
    ours = torch.stack([frame for _, frame in upscale_source(method, Named(lr), Noise(42), settings)])
    method.export_released(tmp_path / "weights", torch.float32)
    expected = released(method, lr, Noise(42), NETWORKS[name](method))
    assert (ours - expected).abs().max() < 2e-5
    unguided = latent.method(name, *WORDS[1:])  # zero convolutions: what the guide adds is seen
    assert (next(iter(upscale_source(unguided, Named(lr[:1]), Noise(42), settings)))[1] - ours[0]).abs().max() > 1e-3

    words = [f"method={name}", *WORDS, f"ckpt_path={tmp_path / 'weights'}", "seed=42", "inference.device=cpu"]
    words.append("inference.precision=fp32")
    upscale.run(compose([str(root / "BIx4" / "a"), str(tmp_path / "out"), *words], verb="upscale"))
    data = ["data=folder", f"data.root={root}", "protocol.metrics=[psnr_y]", f"runs={tmp_path}", "name=run"]
    evaluate.run(compose([*words, *data], verb="eval"))
    wanted = (expected * 255).round().permute(0, 2, 3, 1).numpy().astype(int)
    for folder in (tmp_path / "out", tmp_path / "run" / "frames"):
        assert np.abs(grey_levels(folder) - wanted).max() <= 1


class Named(Memory):
    """Frames of the clip ``a``."""

    def read(self, start: int, stop: int) -> Any:
        clip = super().read(start, stop)
        clip.name[:] = ["a"]
        return clip
