"""Loss terms of each stage: the adapter's noise prediction (Eq. 3.4), and what the miniature's frozen parts learn."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.diffusion.frames import frame_noise
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import draw_choice, draw_timesteps, objective
from vsrbench.methods.adapter.sampling import sample, tokens
from vsrbench.types import Clip

if TYPE_CHECKING:
    from vsrbench.methods.adapter.module import AdapterVSR

# Which timesteps a training sample visits: any (Eq. 3.4), one of the sampler's, or all of the sampler's.
TIMESTEPS = ("uniform", "from_sampler", "all")


def adapter_losses(method: "AdapterVSR", clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
    """stage=adapter: the frozen U-Net's error with the pseudo text tokens, in the prior's own target (v or eps).

    Eq. 3.1 noises x_HR itself; meant is its latent. Eq. 3.4 is written for eps, upscale predicts v.
    """
    text = tokens(method.sampling(clip), clip.lr)
    terms = denoising_losses(method, clip, noise, text)
    if method.objective.get("language"):
        with torch.no_grad():
            wanted = method.descriptions(_hr(clip))
        terms["language"] = method.objective["language"] * F.mse_loss(text, wanted)
    return terms


def prior_losses(method: "AdapterVSR", clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
    """stage=prior (ours, the miniature): temporal parts and cross-attention learn to use descriptions of the truth.

    Every tenth sample gets the empty prompt, so that the U-Net works without a condition too.
    """
    text = method.descriptions(_hr(clip))
    for row, drawn in enumerate(draw_choice(noise, clip, "prompt", 10)):
        if drawn == 0:
            text[row] = 0
    return denoising_losses(method, clip, noise, text)


def denoising_losses(method: "AdapterVSR", clip: Clip, noise: NoiseSource, text: Tensor) -> dict[str, Tensor]:
    """Terms of the U-Net's output at noised latents of the truth, or at what the sampler visits (trajectory)."""
    if method.trajectory:
        return _on_trajectory(method, clip, noise, text)
    prior, schedule = method.prior, method.prior.schedule
    with torch.no_grad():
        latent = encode(method, clip)
        eps = frame_noise(noise, clip, tuple(latent.shape[2:]), "eps")
        level, lr = _lr(method, clip, noise)
    sums: dict[str, Tensor] = {}
    draws = timesteps(method, clip, noise)
    for t in draws:
        x_t = schedule.add_noise(latent, eps, t)
        output = prior.predict(x_t, lr, t, text, level, method.checkpointing)
        _add(sums, _terms(method, clip, x_t, output, t, latent, eps), 1 / len(draws))
    return sums


def timesteps(method: "AdapterVSR", clip: Clip, noise: NoiseSource) -> list[Tensor]:
    """Timesteps (B,) of the U-Net calls of one training sample.

    "30 denoising steps per iteration" (4.1.1) may mean three things: any timestep with 30 steps in sampling alone
    (uniform), one of the 30 (from_sampler), or all 30, one call each (all).
    """
    if method.timesteps == "uniform":
        return [draw_timesteps(noise, clip, method.prior.schedule.length)]
    visited = torch.tensor(method.sampler.timesteps(method.prior.schedule), device=clip.lr.device)
    if method.timesteps == "from_sampler":
        return [visited[draw_choice(noise, clip, "step", len(visited))]]
    return [step.expand(len(clip.name)) for step in visited]


def vae_losses(method: "AdapterVSR", clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
    """stage=vae (ours, the miniature): the decoder's LR and temporal parts learn on latents that the sampler makes.

    Charbonnier error and L1 error of the differences, of the decoded clip.
    """
    with torch.no_grad():
        run = replace(method.sampling(clip), condition=False)
        latents, _ = sample(run, noise)
    truth = _hr(clip)
    error = method.prior.vae.decode(latents, clip.lr).float() - truth
    return {
        "pixel": method.objective["pixel"] * (error.square() + 1e-6).sqrt().mean(),
        "gradient": method.objective["gradient"] * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()),
    }


def _on_trajectory(method: "AdapterVSR", clip: Clip, noise: NoiseSource, text: Tensor) -> dict[str, Tensor]:
    """ours: sample without gradients up to a random step, then learn that step's target."""
    steps = draw_choice(noise, clip, "step", method.sampler.steps)
    sums: dict[str, Tensor] = {}
    for step in sorted(set(steps)):
        rows = [b for b, drawn in enumerate(steps) if drawn == step]
        part = clip.rows(rows)
        with torch.no_grad():
            x, _ = sample(replace(method.sampling(part), text=text[rows].detach()), noise, stop=step)
            latent = encode(method, part)
            lr = method.prior.noised_lr(part.lr, None, 0)
        t = torch.full((len(rows),), method.sampler.timesteps(method.prior.schedule)[step], device=x.device)
        output = method.prior.predict(x, lr, t, text[rows], 0, method.checkpointing)
        _add(sums, _terms(method, part, x, output, t, latent, None), len(rows) / len(steps))
    return sums


def _terms(
    method: "AdapterVSR", clip: Clip, x_t: Tensor, output: Tensor, t: Tensor, latent: Tensor, eps: Tensor | None
) -> dict[str, Tensor]:
    """The shared objective on folded frames."""
    prior: Any = method.prior
    fold = [None if value is None else value.flatten(0, 1) for value in (x_t, output.float(), latent, eps)]
    folded_x, folded_output, folded_latent, folded_eps = fold
    assert folded_x is not None and folded_output is not None and folded_latent is not None
    steps = t.repeat_interleave(clip.frames)
    hr = _hr(clip).flatten(0, 1)
    return objective(
        prior, method.objective, folded_x, folded_output, steps, folded_latent, hr, None, method.low_band, folded_eps
    )


def encode(method: "AdapterVSR", clip: Clip) -> Tensor:
    """Latents (B,T,4,h,w) of the ground truth."""
    return method.prior.vae.encode(_hr(clip).flatten(0, 1)).float().unflatten(0, clip.lr.shape[:2])


def _lr(method: "AdapterVSR", clip: Clip, noise: NoiseSource) -> tuple[Tensor | int, Tensor]:
    """Noise levels (B,) and the LR frames noised with them; ours: uniform in ``train_lr_noise``, none is printed."""
    low, high = method.train_lr_noise
    if high == 0:
        return 0, method.prior.noised_lr(clip.lr, None, 0)
    level = low + torch.tensor(draw_choice(noise, clip, "lr_level", high - low + 1), device=clip.lr.device)
    eps = frame_noise(noise, clip, tuple(clip.lr.shape[2:]), "lr_noise")
    return level, method.prior.noised_lr(clip.lr, eps, level)


def _add(sums: dict[str, Tensor], terms: dict[str, Tensor], share: float) -> None:
    for name, value in terms.items():
        sums[name] = sums.get(name, 0) + share * value


def _hr(clip: Clip) -> Tensor:
    assert clip.hr is not None
    return clip.hr
