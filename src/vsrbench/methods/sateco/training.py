"""Losses of the four stages (Sec. 3.5): what is frozen runs without gradients unless they must pass through it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.diffusion.frames import frame_noise
from vsrbench.diffusion.noise import NoiseSource, stable_seed
from vsrbench.diffusion.objective import TERMS, draw_timesteps, objective
from vsrbench.errors import ConfigError
from vsrbench.methods.sateco.guidance import decode, encode, predict
from vsrbench.methods.sateco.sampling import generate
from vsrbench.types import Clip
from vsrbench.weights.trained import weights_hash

if TYPE_CHECKING:
    from vsrbench.methods.sateco.module import SATeCo

CHARBONNIER = 1e-3  # ours: the loss is named without its constant; 1e-3 is the common one
WEIGHTS: dict[str, dict[str, float]] = {
    "unet": {"prediction": 1.0},  # "the standard setting in [36]"
    "vae": {"pixel": 1.0, "features": 0.1},  # ours: the paper says "similarity" and no more
}


def objectives(settings: Mapping[str, Mapping[str, float]] | None) -> dict[str, dict[str, float]]:
    """Weights of the terms by stage. Raises ConfigError for stages and terms that there are not."""
    known = {"unet": TERMS[:-1], "vae": ("pixel", "features")}
    found = {}
    for stage, terms in known.items():
        given = dict((settings or {}).get(stage) or WEIGHTS[stage])
        unknown = sorted(given.keys() - set(terms))
        if unknown:
            raise ConfigError(f"method.objective.{stage} has no {', '.join(unknown)}; it has {', '.join(terms)}")
        found[stage] = {term: given.get(term, 0.0) for term in terms}
    extra = sorted((settings or {}).keys() - known.keys())
    if extra:
        raise ConfigError(f"method.objective has no {', '.join(extra)}; it has {', '.join(known)}")
    return found


def charbonnier(output: Tensor, truth: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + eps^2) (Charbonnier et al. 1994; ours: the mean rather than the sum)."""
    return ((output.float() - truth).square() + CHARBONNIER**2).sqrt().mean()


def upscaler_losses(method: "SATeCo", clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
    """Stage 1: X_u against the ground truth."""
    return {"charbonnier": charbonnier(method.networks.upscaler(clip.lr), _truth(clip))}


def unet_losses(method: "SATeCo", clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
    """Stage 2: the prior's own target at uniform timesteps, one per clip; noise is drawn for every frame by itself.

    The latent encoder is trained here, for its maps are what SFA and TFA read (ours: the text names only the modules).
    """
    prior, networks, hr = method.prior, method.networks, _truth(clip)
    limit = max(1, round(method.timesteps * prior.schedule.length))
    t = draw_timesteps(noise, clip, limit)
    with torch.no_grad():
        lr_latent, _ = _upscaled_latent(method, clip)
        latent = _latents(method, hr)
        signal = _between(latent, lr_latent, _left(method, t)) if method.bridge else latent
        eps = frame_noise(noise, clip, tuple(latent.shape[2:]), "eps")
        x_t = prior.schedule.add_noise(signal, eps, t)
    guides = networks.latent_encoder(lr_latent.flatten(0, 1))
    output = predict(prior, networks.unet_guidance, x_t, t, guides, clip.lr, method.checkpointing).float()
    frames = t.repeat_interleave(clip.frames)
    known = None if method.bridge else eps.flatten(0, 1)  # with the bridge: what takes the HR latent to this x_t
    terms = objective(
        prior, method.objective["unet"], x_t.flatten(0, 1), output.flatten(0, 1), frames, latent.flatten(0, 1),
        hr.flatten(0, 1), eps=known, low_band=method.sampler.low_band,
    )  # fmt: skip
    return terms


def vae_losses(method: "SATeCo", clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
    """Stage 3: latents of the ground truth, decoded under the guidance of X_u's features, against the ground truth.

    When upscaling the decoder meets denoised latents, which are not quite these: see ``latent_noise``.
    """
    hr, weights = _truth(clip), method.objective["vae"]
    with torch.no_grad():
        _, features = _upscaled_latent(method, clip)
        latent = _latents(method, hr)
        if method.latent_noise:
            latent = latent + method.latent_noise * frame_noise(noise, clip, tuple(latent.shape[2:]), "latent")
    decoded = decode(
        method.prior, method.networks.vae_guidance, latent, features, method.batch, method.checkpointing
    ).float()
    terms = {"pixel": weights["pixel"] * F.l1_loss(decoded, hr)}
    if method.feature_loss is not None:
        terms["features"] = weights["features"] * method.feature_loss(decoded.flatten(0, 1), hr.flatten(0, 1))
    return terms


def refiner_losses(method: "SATeCo", clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
    """Stage 4: the refined clip against the ground truth.

    X_d is sampled as it will be when upscaling, once for every sample and set of weights (``Method.keep``); X_u costs
    little beside it. ``train.pool`` says how many samples there are.
    """
    with torch.no_grad():
        upscaled = method.networks.upscaler(clip.lr).float()
        maker = made_by(method)
        decoded = torch.cat([_sampled(method, clip.rows([b]), noise, maker) for b in range(len(clip.name))])
    refined = method.networks.refiner(upscaled, decoded.to(upscaled))
    return {"charbonnier": charbonnier(refined, _truth(clip))}


STAGES: dict[str, Callable[["SATeCo", Clip, NoiseSource], dict[str, Tensor]]] = {
    "upscaler": upscaler_losses,
    "unet": unet_losses,
    "vae": vae_losses,
    "refiner": refiner_losses,
}


def made_by(method: "SATeCo") -> str:
    """Hash of what X_d of a given LR clip depends on: weights and settings of all other parts, sampler, windows."""
    if method.maker is None:
        weights = {name: weights_hash(part) for name, part in method.parts().items() if name != "refiner"}
        run = method.run
        key = sorted(weights.items()), method.settings, method.sampler, run.length, run.overlap
        method.maker = f"{stable_seed(*key):016x}"
    return method.maker


def _sampled(method: "SATeCo", clip: Clip, noise: NoiseSource, maker: str) -> Tensor:
    """X_d (1,T,3,H,W) of one sample; its key holds the sample's own pixels, for names do not say how it was cut."""
    pixels = clip.lr.detach().cpu().contiguous().numpy().tobytes().hex()
    key = f"sateco/{maker}/{stable_seed(clip.name[0], clip.index.tolist(), pixels):016x}"

    def make() -> Tensor:
        training = method.training
        method.eval()
        found = generate(replace(method.run, batch=method.batch), clip, noise)[1]
        method.train(training)
        return found

    return method.keep(key, make).to(clip.lr.device)


def _truth(clip: Clip) -> Tensor:
    assert clip.hr is not None
    return clip.hr


def _latents(method: "SATeCo", frames: Tensor) -> Tensor:
    """Latents (B,T,4,h,w) of frames (B,T,3,H,W) in [0,1], a few at a time."""
    found = [method.prior.encode(part) for part in frames.flatten(0, 1).split(method.batch)]
    return torch.cat(found).float().unflatten(0, frames.shape[:2])


def _upscaled_latent(method: "SATeCo", clip: Clip) -> tuple[Tensor, list[Tensor]]:
    """Z (B,T,4,h,w) of X_u, and the VAE encoder's features of it."""
    upscaled = method.networks.upscaler(clip.lr).float()
    latent, features = encode(method.prior, upscaled.flatten(0, 1), method.batch)
    return latent.float().unflatten(0, upscaled.shape[:2]), features


def _left(method: "SATeCo", t: Tensor) -> Tensor:
    """How much of Z the signal in x_t (B,) still is where a DDIM run that started at Z knew x0 from its first step on.

    Such a step keeps (x_t - sqrt(abar) x0) / sqrt(1-abar), so what is left of Z - x0 falls as noise falls to signal.
    """
    schedule = method.prior.schedule
    noise = ((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod).sqrt()
    return (noise[t] / noise[method.sampler.timesteps(schedule)[0]]).clamp(max=1)


def _between(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Part of the way from a to b (B,...), for each sample its own (B,)."""
    return a + share.view(-1, *[1] * (a.ndim - 1)) * (b - a)
