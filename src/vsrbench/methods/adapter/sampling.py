"""Sampling: pseudo text tokens once per window, windows of a clip denoised together, decoding, colour chain."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from vsrbench.diffusion.frames import Steps, folded, frame_noise
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.samplers import Sampler
from vsrbench.errors import ConfigError
from vsrbench.methods.adapter.backbone import Backbone
from vsrbench.methods.adapter.colour import PostProcessing
from vsrbench.methods.adapter.networks import Adapter
from vsrbench.methods.adapter.vit import FrameEncoder
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip, Progress, Trace

Start = Literal["gaussian", "encoded_noise", "encoded_lr"]


def windows(frames: int, length: int, stride: int) -> list[int]:
    """First frames of windows of ``length`` that cover a clip; the last one is shifted back to end with it.

    Raises ConfigError for a stride that leaves frames out.
    """
    if length < 1:
        raise ConfigError(f"method.window={length}: use 1 frame or more")
    if not 1 <= stride <= length:
        raise ConfigError(f"method.stride={stride} leaves frames out: use 1 to {length}, which is method.window")
    if frames <= length:
        return [0]
    starts = list(range(0, frames - length, stride))
    return [*starts, frames - length]


@dataclass(frozen=True)
class Sampling:
    """The networks and settings over one clip.

    start: "gaussian" (3.2), "encoded_noise" (4.1.3: an image of noise through the VAE's encoder, whose latent has not
    quite unit deviation; renorm brings it there, ours), or "encoded_lr" (ours: the noised latent of the bicubic frame).
    window, stride: frames that the U-Net takes at once, and from one window to the next; where windows overlap, their
    predictions are averaged at every step. lr_noise: noise level of the LR frames that the U-Net sees.
    condition: False samples with the empty prompt instead of the pseudo text tokens.
    text: tokens of the only window, where they are known already. batch: frames that the VAE's encoder takes at once.
    """

    prior: Backbone
    vit: FrameEncoder
    adapter: Adapter
    sampler: Sampler
    clip: Clip
    start: Start = "gaussian"
    renorm: bool = False
    window: int = 8
    stride: int = 6
    lr_noise: int = 0
    condition: bool = True
    text: Tensor | None = None
    batch: int = 4
    trace: Trace | None = None


def tokens(run: Sampling, lr: Tensor) -> Tensor:
    """Tokens (B,n,d) for the frames of a window (B,T,3,h,w) in [0,1] (Eq. 3.2)."""
    if run.text is not None:
        return run.text
    if not run.condition:
        return run.prior.prompt.expand(len(lr), -1, -1)
    return run.adapter(torch.stack([run.vit(frames) for frames in lr]))


def sample(
    run: Sampling, noise: NoiseSource, stop: int | None = None, progress: Progress | None = None
) -> tuple[Tensor, Tensor | None]:
    """x (B,T,4,h,w) after the last step, or before step ``stop``, and the last x0."""
    prior, clip, schedule = run.prior, run.clip, run.prior.schedule
    starts = windows(clip.frames, run.window, run.stride)
    parts = [slice(first, first + min(run.window, clip.frames)) for first in starts]
    texts = [tokens(run, clip.lr[:, part]) for part in parts]
    eps = frame_noise(noise, clip, tuple(clip.lr.shape[2:]), "lr_noise") if run.lr_noise else None
    lr = prior.noised_lr(clip.lr, eps, run.lr_noise)
    x, x0 = first_latents(run, noise), None
    steps = Steps(schedule, run.sampler, clip, noise, stop, run.trace, progress)
    for step, t in steps:
        output, count = torch.zeros_like(x), x.new_zeros(1, clip.frames, 1, 1, 1)
        for part, text in zip(parts, texts, strict=True):  # windows of frames; where they overlap, a mean
            output[:, part] += prior.predict(x[:, part], lr[:, part], t, text, run.lr_noise).float()
            count[:, part] += 1
        output = output / count
        if run.trace is not None:
            run.trace.on_step(step, None, output=output)
        last, x0 = x0, schedule.x0(x, output, t)
        x = steps.update(step, x, x0, last)
    return x, x0


def first_latents(run: Sampling, noise: NoiseSource) -> Tensor:
    """x (B,T,4,h,w) at the first visited timestep."""
    prior, clip = run.prior, run.clip
    shape = prior.grid(clip.lr)
    if run.start == "encoded_noise":
        height, width = 4 * clip.lr.shape[-2], 4 * clip.lr.shape[-1]
        image = frame_noise(noise, clip, (3, height, width), "initial")
        # N(0,1) is what the encoder gets, so [0,1] is undone
        latents = torch.cat([prior.vae.encode(frames / 2 + 0.5) for frames in folded(image).split(run.batch)]).float()
        latents = rearrange(latents, "(b t) c h w -> b t c h w", t=clip.frames)
        return latents / latents.std(dim=(2, 3, 4), keepdim=True) if run.renorm else latents
    eps = frame_noise(noise, clip, shape, "initial")
    if run.start == "gaussian":
        return eps
    frames = folded(enlarged(clip.lr))
    latent = torch.cat([prior.vae.encode(part) for part in frames.split(run.batch)]).float().view_as(eps)
    return prior.schedule.add_noise(latent, eps, run.sampler.timesteps(prior.schedule)[0])


def enlarged(lr: Tensor) -> Tensor:
    """LR frames (B,T,3,h,w) enlarged by MATLAB's bicubic to (B,T,3,4h,4w) in [0,1]."""
    return imresize(lr, 4).clamp(0, 1).to(lr.dtype)


def finish(post: PostProcessing, lr: Tensor, decoded: Tensor) -> Tensor:
    """The colour chain on decoded frames (B,T,3,4h,4w), about [0,1], of LR frames (B,T,3,h,w): [0,1]."""
    return torch.stack([post(frames, big) for frames, big in zip(decoded, enlarged(lr).float(), strict=True)])


def sampler_for(start: Start, sampler: Sampler) -> Sampler:
    """The sampler that visits the timesteps of a start."""
    if start == "encoded_lr":
        return replace(sampler, start="lr_noised")
    return replace(sampler, start="noise", strength=1.0)
