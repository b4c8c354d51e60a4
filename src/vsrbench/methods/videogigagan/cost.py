"""VideoGigaGAN's work by part, as the channel plan counts it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import Noise
from vsrbench.methods.base import Work
from vsrbench.nn.modulated import Style
from vsrbench.types import Clip


def work(method: Any, clip: Clip) -> dict[str, Work]:
    """Upscaling ``clip`` (B = 1): the propagation over it, and every level of the U-Net over one chunk of it.

    The levels' inputs are those of a real pass. Left out: enlarging and adding up the pictures, and copies between the
    parts.
    """
    noise, generator = Noise(0), method.generator
    frames = min(method.chunk or clip.frames, clip.frames)
    chunk = clip.window(0, frames)
    style = Style(generator.mapping(method.styles(clip, noise)), method.noise_maps(clip, noise))
    lines = {}
    if generator.front is not None:
        front = generator.front

        def propagate() -> object:
            with method.autocast():
                return front(clip.lr)

        lines["propagation"] = Work(propagate, 1 / clip.frames)
    with torch.no_grad(), method.autocast():
        features = None if generator.front is None else generator.front(chunk.lr)
        calls = recorded(generator.unet, (chunk.lr, features, style))
    for name, call in calls.items():
        lines[name] = Work(_within(method, call), 1 / frames, "U-Net")
    return lines


def _within(method: Any, call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with method.autocast():
            return call()

    return run


def recorded(unet: Any, inputs: tuple[Tensor, Tensor | None, Style]) -> dict[str, Callable[[], object]]:
    """Calls that do again, on the same inputs, what stem and levels did in one pass."""
    calls: dict[str, Callable[[], object]] = {}
    hooks = []

    def remember(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, args: tuple[Any, ...], output: object) -> None:
            calls[name] = lambda: module.forward(*args)

        hooks.append(module.register_forward_hook(hook))

    for name, module in (("stem", unet.stem), ("stem of features", unet.stem_features)):
        if module is not None:
            remember(name, module)
    for i, level in enumerate(unet.encoder):
        remember(f"encoder E_{i}", level)
    for i, level in enumerate(unet.decoder):
        remember(f"decoder D_{i}", level)
        remember(f"D_{i} to RGB", level.to_rgb)
    try:
        unet(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
