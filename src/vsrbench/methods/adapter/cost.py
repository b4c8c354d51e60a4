"""The adapter method's units of work: the frozen video U-Net at every step is nearly all of it."""

from typing import Any

import torch

from vsrbench.methods.adapter.sampling import enlarged, tokens, windows
from vsrbench.methods.base import Work
from vsrbench.types import Clip


def work(method: Any, clip: Clip) -> dict[str, Work]:
    """What upscaling ``clip`` (B = 1) consists of, by windows of the U-Net and by the VAE's groups of frames.

    Overlapping windows do some frames twice. Left out: noise, the sampler's update, copies between the parts.
    """
    frames, prior = clip.frames, method.prior
    length = min(method.window, frames)
    part = clip.window(0, length)
    count = len(windows(frames, method.window, method.stride))
    run = method.sampling(part)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1, length, *prior.grid(clip.lr)), generator=generator).to(clip.lr.device)
    lr = prior.noised_lr(part.lr, None, 0)
    with torch.no_grad():
        text = tokens(run, part.lr)
        spread = method.vit(part.lr[0]).unsqueeze(0)
    t, few = prior.schedule.length // 2, min(prior.vae.frames, length)
    big = enlarged(part.lr[:, :1])

    def encode() -> object:
        with method.autocast():
            return method.vit(part.lr[0])

    def adapt() -> object:
        with method.autocast():
            return method.adapter(spread)

    def denoise() -> object:
        with method.autocast():
            return prior.predict(x, lr, t, text, method.lr_noise)

    def decode() -> object:
        with method.autocast():
            return prior.vae.decode(x[:, :few], part.lr[:, :few])

    lines = {
        "denoising U-Net": Work(denoise, count * method.sampler.steps / frames),
        "VAE decoder": Work(decode, 1 / few),
        "colour chain": Work(lambda: method.post(big[0], big[0]), 1.0, network=False),
    }
    if method.condition:
        lines = {"ViT": Work(encode, count / frames), "adapter": Work(adapt, count / frames)} | lines
    if method.start != "gaussian":
        lines["VAE encoder"] = Work(lambda: prior.vae.encode(big[0]), 1.0)
    return lines
