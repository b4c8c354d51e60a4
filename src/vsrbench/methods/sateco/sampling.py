"""SATeCo's inference (Fig. 2) for clips of any length: windows of a few frames that overlap and are blended.

Legend: X_u = upscaled clip, Z = its latent, G and V = guidance for UNet and VAE, X_d = decoded, X_H = refined clip.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor

from vsrbench.annotations import check_fields
from vsrbench.diffusion.frames import Steps, folded, frame_noise, noised_lr
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.errors import ConfigError
from vsrbench.methods.sateco.guidance import decode, encode, predict
from vsrbench.methods.sateco.networks import Networks
from vsrbench.nn.colour import adain_color, replace_low_band, wavelet_color
from vsrbench.types import Clip, Progress, Trace

Colour = Literal["none", "wavelet", "adain"]
Result = Literal["refined", "decoded", "upscaled"]  # X_H, X_d, X_u


@dataclass(frozen=True)
class Sampling:
    """What stays the same over the clips.

    sampler: start="lr_noised" begins at Z with the noise of the first timestep (Fig. 2), at a later one where strength
    is below 1; "noise" at pure noise; low_band: X_d takes that band from X_u (ours). length: frames that see each
    other (6, Sec. 4.1). overlap: frames that neighbouring windows share, blended linearly (ours). batch: frames per
    call of what works frame by frame.
    colour: none | wavelet | adain, from X_u, after the refiner, which is the paper's own colour fix (ours).
    result: what comes out: refined (X_H) | decoded (X_d) | upscaled (X_u).
    Raises ConfigError for settings that cannot work.
    """

    prior: Prior
    networks: Networks
    sampler: Sampler
    length: Annotated[int, Ge(1)] = 6
    overlap: Annotated[int, Ge(0)] = 2
    batch: int = 4
    colour: Colour = "none"
    result: Result = "refined"

    def __post_init__(self) -> None:
        check_fields(self, "method")
        if self.overlap >= self.length:
            raise ConfigError(f"method.overlap={self.overlap}: use less than method.length={self.length}")

    @property
    def context(self) -> int:
        """Frames that temporal chunks must overlap by so that their windows are those of the whole clip."""
        return self.length


def multiple(prior: Prior, scale: int) -> int:
    """What LR sizes must be divisible by: HR frames reach the VAE in whole latent pixels (2 at factor 8, scale 4)."""
    return max(1, prior.factor // scale)


@torch.no_grad()
def restore(
    run: Sampling, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
) -> Tensor:
    """RGB (B,T,3,s·h,s·w) in [0,1]. ours: clips longer than a window, sample by sample, in windows that are blended."""
    rows = [clip] if clip.frames <= run.length else [clip.rows([b]) for b in range(len(clip.lr))]
    spans = [placed(clip.frames, run.length, run.overlap, int(row.index[0, 0])) for row in rows]
    if progress is not None:
        frames = sum((last - first) * len(row.lr) for row, own in zip(rows, spans, strict=True) for first, last in own)
        progress.start(frames * run.sampler.steps, "frame steps")
        progress = _Started(progress)
    clips = [_blended(run, row, own, noise, trace, progress) for row, own in zip(rows, spans, strict=True)]
    return torch.cat(clips).clamp(0, 1)


def _blended(
    run: Sampling,
    clip: Clip,
    spans: list[tuple[int, int]],
    noise: NoiseSource,
    trace: Trace | None,
    progress: Progress | None,
) -> Tensor:
    if len(spans) == 1:
        return window_result(run, clip, noise, trace, progress)
    total, weight = None, torch.zeros(clip.frames)
    for first, last in spans:
        share = ramp(last - first, run.overlap)
        weight[first:last] += share
        part = window_result(run, clip.window(first, last), noise, trace, progress)
        if total is None:
            total = part.new_zeros(len(part), clip.frames, *part.shape[2:])
        total[:, first:last] += part * rearrange(share.to(part), "t -> t 1 1 1")
    assert total is not None
    return total / rearrange(weight.to(total), "t -> t 1 1 1")


def window_result(
    run: Sampling, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
) -> Tensor:
    """``run.result`` of one window: X_H, X_d or X_u (B,T,3,s·h,s·w), not clamped."""
    if run.result == "upscaled":
        if progress is not None:
            progress.advance(clip.frames * len(clip.lr) * run.sampler.steps)
        return run.networks.upscaler(clip.lr).float()
    upscaled, decoded = generate(run, clip, noise, trace, progress)
    return decoded if run.result == "decoded" else refine(run, upscaled, decoded)


def generate(
    run: Sampling, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
) -> tuple[Tensor, Tensor]:
    """X_u and X_d (B,T,3,s·h,s·w), not clamped, of one window: what the refiner is given, and is trained on."""
    upscaled = run.networks.upscaler(clip.lr).float()
    latent, features = encode(run.prior, folded(upscaled), run.batch)
    latents = sample(run, clip, latent, noise, trace, progress)
    decoded = decode(run.prior, run.networks.vae_guidance, latents, features, run.batch).float()
    if run.sampler.low_band > 0:
        frames = replace_low_band(folded(decoded), folded(upscaled), run.sampler.low_band)
        decoded = rearrange(frames, "(b t) c h w -> b t c h w", b=len(decoded))
    return upscaled, decoded


def sample(
    run: Sampling,
    clip: Clip,
    latent: Tensor,
    noise: NoiseSource,
    trace: Trace | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Z_0 (B,T,4,h,w): the frames of Z (B·T,4,h,w), noised and restored together; E_z looks at Z once."""
    guides = run.networks.latent_encoder(latent)
    x = frame_noise(noise, clip, tuple(latent.shape[1:]), "initial")  # each frame has its own
    if run.sampler.start == "lr_noised":
        first = run.sampler.timesteps(run.prior.schedule)[0]
        noised = run.prior.schedule.add_noise(latent.float(), folded(x), first)
        x = rearrange(noised, "(b t) c h w -> b t c h w", b=len(x))

    x0: Tensor | None = None
    steps = Steps(run.prior.schedule, run.sampler, clip, noise, trace=trace, progress=progress)
    lr = noised_lr(run.prior, clip, noise).lr
    for step, t in steps:
        output = predict(run.prior, run.networks.unet_guidance, x, t, guides, lr)
        last, x0 = x0, run.prior.schedule.x0(x, output.float(), t)
        x = steps.update(step, x, x0, last)
    return x


def refine(run: Sampling, upscaled: Tensor, decoded: Tensor) -> Tensor:
    """X_H (B,T,3,H,W) by Eq. 5, not clamped, with the colour fix where one is set."""
    refined = run.networks.refiner(upscaled, decoded).float()
    if run.colour == "none":
        return refined
    fix = wavelet_color if run.colour == "wavelet" else adain_color
    return rearrange(fix(folded(refined), folded(upscaled)), "(b t) c h w -> b t c h w", b=len(refined))


def placed(frames: int, length: int, overlap: int, start: int = 0) -> list[tuple[int, int]]:
    """First and last + 1 of the windows that cover ``frames`` frames, of which the first has number ``start``.

    Windows begin at multiples of length - overlap of the frames' own numbers, so that a chunk has the windows of the
    whole clip; what these leave out at either end gets a window of full length of its own (ours).
    """
    if frames <= length:
        return [(0, frames)]
    stride = length - overlap
    begins = list(range(-start % stride, frames - length + 1, stride))
    if not begins or begins[0] > 0:
        begins = [0, *begins]
    if begins[-1] + length < frames:
        begins.append(frames - length)
    return [(begin, begin + length) for begin in begins]


def ramp(length: int, overlap: int) -> Tensor:
    """Weights (length,) of a window's frames: up over the overlap, one, down again; neighbours sum to one."""
    place = torch.arange(1, length + 1)
    return torch.minimum(place, place.flip(0)).clamp(max=overlap + 1) / (overlap + 1)


@dataclass(frozen=True)
class _Started:
    """Progress of a whole clip, told of each window's steps alone."""

    whole: Progress

    def start(self, total: int, what: str) -> None:
        pass

    def advance(self, count: int = 1) -> None:
        self.whole.advance(count)
