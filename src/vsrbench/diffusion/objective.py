"""Loss terms of latent methods: the prior's own target as printed, and the terms that the miniatures add."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.prior import Prior
from vsrbench.nn.colour import replace_low_band
from vsrbench.nn.functional import charbonnier
from vsrbench.types import Clip

TERMS = ("prediction", "x0", "pixel", "gradient", "agreement")
MARGIN = 3  # latent pixels: how far the end of a decoded part is seen in it (decoder about 8 HR pixels, low band 12)


def objective(
    prior: Prior,
    weights: Mapping[str, float],
    x_t: Tensor,
    output: Tensor,
    t: Tensor,
    latent: Tensor,
    hr: Tensor,
    aligned: Tensor | None = None,
    low_band: float = 0.0,
    eps: Tensor | None = None,
) -> dict[str, Tensor]:
    """Weighted loss terms of a network output (B,4,h,w) at x_t and timesteps t (B,).

    latent: the clean latent (B,4,h,w); hr: its frame (B,3,f·h,f·w) in [0,1]; eps: the noise in x_t where it is known
    (else it follows from x_t and latent). Terms with weight 0 are not computed.
    prediction: squared error against the prior's target (v for SD x4), the target of *this* x_t, so that it
    also holds where the signal in x_t is not the clean latent. x0: squared error of the noise-free
    approximation. pixel: Charbonnier error of the decoded frame. gradient: L1 error of its differences.
    Decoding is the dearest part, so these two look at the central half of each side only (decoded with a margin, lest
    x0 be trained to make up for the end of the part there: a ring in every frame), and without the low band (Gaussian
    of ``low_band`` HR pixels) that sampling takes from the bicubic frame anyway.
    agreement: Charbonnier distance between x0 and the neighbour's aligned x0 (B,4,h,w), where it is not
    zero (outside the neighbour's frame): what differs between frames flickers.
    """
    terms: dict[str, Tensor] = {}
    if weights.get("prediction"):
        eps = prior.schedule.eps(x_t, latent, t) if eps is None else eps
        target = prior.schedule.target(latent, eps, t)
        terms["prediction"] = weights["prediction"] * F.mse_loss(output, target)
    if not any(weights.get(term) for term in ("x0", "pixel", "gradient", "agreement")):
        return terms
    x0 = prior.schedule.x0(x_t, output, t)
    if weights.get("x0"):
        terms["x0"] = weights["x0"] * F.mse_loss(x0, latent)
    if weights.get("agreement") and aligned is not None:
        inside = (aligned != 0).any(dim=1, keepdim=True)
        distance = ((x0 - aligned).square() + 1e-4).sqrt() * inside
        per_sample = distance.mean(dim=(1, 2, 3)) / inside.float().mean(dim=(1, 2, 3)).clamp(min=1e-6)
        terms["agreement"] = weights["agreement"] * per_sample.mean()
    if weights.get("pixel") or weights.get("gradient"):
        error = _central_error(prior, x0, hr, low_band)
        if weights.get("pixel"):
            terms["pixel"] = weights["pixel"] * charbonnier(error)
        if weights.get("gradient"):
            across, down = error.diff(dim=-1).abs().mean(), error.diff(dim=-2).abs().mean()
            terms["gradient"] = weights["gradient"] * (across + down)
    return terms


def _central_error(prior: Prior, x0: Tensor, hr: Tensor, low_band: float) -> Tensor:
    """Decoded x0 less the truth, in the central half of each side (B,3,f·h/2,f·w/2)."""
    sizes, factor = x0.shape[-2:], prior.factor
    margins = [min(MARGIN, size // 4) for size in sizes]
    (top, bottom), (left, right) = [(n // 4 - m, n - n // 4 + m) for n, m in zip(sizes, margins, strict=True)]
    decoded = prior.decode(x0[..., top:bottom, left:right]).float()
    truth = hr[..., factor * top : factor * bottom, factor * left : factor * right]
    error = (decoded if low_band == 0 else replace_low_band(decoded, truth, low_band)) - truth
    down, across = (factor * m for m in margins)
    return error[..., down : error.shape[-2] - down, across : error.shape[-1] - across]


def draw_timesteps(noise: NoiseSource, clip: Clip, limit: int) -> Tensor:
    """One timestep per sample, (B,) long, uniform in [0, limit)."""
    draws = torch.stack([noise.uniform((), "timestep", name) for name in clip.name])
    return (draws * limit).long().to(clip.lr.device)


def draw_choice(noise: NoiseSource, clip: Clip, purpose: str, options: int) -> list[int]:
    """One of ``options`` per sample."""
    return [int(noise.uniform((), purpose, name) * options) for name in clip.name]


def over_steps(
    noise: NoiseSource, clip: Clip, steps: Sequence[int], terms: Callable[[int, Clip], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """ours: loss terms where each sample of a batch draws a step of the sampler; samples of one step go together.

    terms(step, their part of the clip) gives means, which are weighted by the samples' share.
    """
    steps_drawn = [steps[number] for number in draw_choice(noise, clip, "step", len(steps))]
    sums: dict[str, Tensor] = {}
    for step in sorted(set(steps_drawn)):
        rows = [row for row, own in enumerate(steps_drawn) if own == step]
        for name, value in terms(step, clip.rows(rows)).items():
            sums[name] = sums.get(name, 0) + value * len(rows) / len(steps_drawn)
    return sums
