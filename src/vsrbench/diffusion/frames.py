"""From LR frames to the first latent, through the steps, and back to RGB frames: shared by all latent methods."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.diffusion.schedule import Schedule
from vsrbench.errors import ConfigError
from vsrbench.flow.warp import resize_flow
from vsrbench.nn.colour import replace_low_band
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip, Progress, Trace


def frame_noise(noise: NoiseSource, clip: Clip, shape: tuple[int, ...], purpose: str, step: int = 0) -> Tensor:
    """Standard normal (B,T,*shape) on the clip's device, each frame's draw keyed by its own name and number."""
    rows = [
        torch.stack([noise.normal(shape, purpose, name, number, step) for number in numbers])
        for name, numbers in zip(clip.name, clip.index.tolist(), strict=True)  # read from the device once
    ]
    return torch.stack(rows).to(clip.lr.device)


def bicubic_latent(prior: Prior, lr: Tensor) -> Tensor:
    """Latent (N,4,h,w) of LR frames (N,3,h,w) enlarged by MATLAB's bicubic: where sampling may start."""
    return prior.encode(imresize(lr, 4).clamp(0, 1).to(lr.dtype))


def initial_latents(prior: Prior, sampler: Sampler, clip: Clip, noise: NoiseSource, batch: int) -> Tensor:
    """x at the first visited timestep, (B,T,4,h,w): pure noise, or the noised latent of the bicubic frame."""
    height, width = clip.lr.shape[-2:]
    eps = frame_noise(noise, clip, (prior.latent_channels, height, width), "initial")
    if sampler.start == "noise":
        return eps
    latents = [bicubic_latent(prior, lr) for lr in folded(clip.lr).split(batch)]
    first = sampler.timesteps(prior.schedule)[0]
    return prior.schedule.add_noise(torch.cat(latents), folded(eps), first).view_as(eps)


def noised_lr(prior: Prior, clip: Clip, noise: NoiseSource) -> Clip:
    """The clip as the prior's U-Net is to see it: LR frames with the noise that the prior's level names, if it has one.

    A frame's noise is the same at every step, as its authors draw it once. Flow and colour look at the clip itself.
    """
    if not prior.noise_level:
        return clip
    eps = frame_noise(noise, clip, tuple(clip.lr.shape[2:]), "lr_noise")
    return replace(clip, lr=prior.noise_lr(folded(clip.lr), folded(eps)).view_as(clip.lr))


@dataclass(frozen=True)
class Steps:
    """The diffusion steps of a clip: iterating gives (step, timestep), ``update`` takes x over a step.

    stop: end before this step (training looks inside). The trace sees every step's x0 and x.
    """

    schedule: Schedule
    sampler: Sampler
    clip: Clip
    noise: NoiseSource
    stop: int | None = None
    trace: Trace | None = None
    progress: Progress | None = None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        timesteps = self.sampler.timesteps(self.schedule)[: self.stop]
        if self.progress is not None:
            self.progress.start(len(timesteps) * self.clip.lr.shape[0] * self.clip.frames, "frame steps")
        yield from enumerate(timesteps)

    def update(self, step: int, x: Tensor, x0: Tensor, last: Tensor | None) -> Tensor:
        """x (B,T,4,h,w) after the step from x before it and its noise-free x0. last: x0 of the step before."""
        sampler, fresh = self.sampler, None
        if sampler.kind == "ddpm" or sampler.eta > 0:
            fresh = frame_noise(self.noise, self.clip, tuple(x.shape[2:]), "step", step)
        x = sampler.update(self.schedule, x, x0, step, fresh, last)
        if self.trace is not None:
            self.trace.on_step(step, None, x0=x0, x=x)
        if self.progress is not None:
            self.progress.advance(self.clip.lr.shape[0] * self.clip.frames)
        return x


def unguided(prior: Prior, clip: Clip, x: Tensor, t: int, batch: int, guidance_scale: float = 1.0) -> Tensor:
    """x0 (B,T,4,h,w) of all frames at timestep t by the prior alone, ``batch`` frames at a time.

    guidance_scale: of classifier-free guidance, see ``Prior.predict``.
    """
    parts = []
    for part, lr in zip(folded(x).split(batch), folded(clip.lr).split(batch), strict=True):
        output = prior.predict(part, lr, t, guidance_scale=guidance_scale)
        parts.append(prior.schedule.x0(part, output.float(), t))
    return torch.cat(parts).view_as(x)


def visits(frames: int, direction: int) -> Iterable[int]:
    """Frame numbers in visiting order; direction -1: guided by the previous frame, so from front to back."""
    return range(frames) if direction == -1 else reversed(range(frames))


def folded(frames: Tensor) -> Tensor:
    """(B,T,...) to (B·T,...)."""
    return rearrange(frames, "b t ... -> (b t) ...")


def finish(prior: Prior, sampler: Sampler, clip: Clip, latents: Tensor, batch: int) -> Tensor:
    """Decode (B,T,4,h,w) to RGB (B,T,3,4h,4w) in [0,1], a few frames at a time, with the low-band colour fix."""
    frames = []
    for latent, lr in zip(folded(latents).split(batch), folded(clip.lr).split(batch), strict=True):
        rgb = prior.decode(latent).float()
        if sampler.low_band > 0:
            rgb = replace_low_band(rgb, imresize(lr, 4).to(rgb.dtype), sampler.low_band)
        frames.append(rgb.clamp(0, 1))
    return rearrange(torch.cat(frames), "(b t) ... -> b t ...", b=len(latents))


def on_prior_grid(clip: Clip, mode: str = "bicubic") -> Clip:
    """The clip as a x4 prior takes it: LR frames of scale 8 or 16 enlarged 2 or 4 times, flows along.

    ours: the papers' x8 and x16 results name no way; the released DGAF-VSR configuration reads LR folders called
    X8BI2 and X16BI4, so frames that were reduced by 8 (16) and enlarged by bicubic x2 (x4) before the network.
    mode: bicubic (MATLAB's) or nearest. Raises ConfigError for a scale that is no multiple of 4.
    """
    factor, rest = divmod(clip.scale, 4)
    if rest or mode not in ("bicubic", "nearest"):
        raise ConfigError(f"scale={clip.scale}, method.lr_enlargement={mode}: use 4, 8 or 16, and bicubic or nearest")
    if factor == 1:
        return clip
    height, width = factor * clip.lr.shape[-2], factor * clip.lr.shape[-1]

    def enlarge(values: Tensor | None, change: Callable[[Tensor], Tensor]) -> Tensor | None:
        return None if values is None else rearrange(change(folded(values)), "(b t) ... -> b t ...", b=len(values))

    def frames(lr: Tensor) -> Tensor:
        if mode == "nearest":
            return _repeat(lr, factor)
        return imresize(lr, factor).clamp(0, 1).to(lr.dtype)

    def flow(values: Tensor) -> Tensor:
        return resize_flow(values, (height, width))

    lr = enlarge(clip.lr, frames)
    assert lr is not None
    return replace(
        clip,
        lr=lr,
        scale=4,
        flow_forward=enlarge(clip.flow_forward, flow),
        flow_backward=enlarge(clip.flow_backward, flow),
        occlusion=None if clip.occlusion is None else _repeat(clip.occlusion, factor),
    )


def _repeat(values: Tensor, factor: int) -> Tensor:
    return values.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
