"""Losses of the four stages (Sec. 3.5): what is frozen runs without gradients unless they must pass through it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.frames import folded, frame_noise, noised_lr
from vsrbench.diffusion.noise import Noise, NoiseSource, stable_seed
from vsrbench.diffusion.objective import TERMS, draw_timesteps, objective
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.methods.module import MethodModule, say
from vsrbench.methods.sateco.guidance import decode, encode, predict
from vsrbench.methods.sateco.model import SATeCo
from vsrbench.methods.sateco.sampling import Result, generate
from vsrbench.nn.functional import charbonnier
from vsrbench.nn.perceptual import Features, check_lpips, feature_loss
from vsrbench.types import Clip, Progress
from vsrbench.weights.trained import weights_hash

WEIGHTS: dict[str, dict[str, float]] = {
    "unet": {"prediction": 1.0},  # "the standard setting in [36]"
    "vae": {"pixel": 1.0, "features": 0.1},  # ours: the paper says "similarity" and no more
}
# What a stage is validated by.
STAGE_RESULTS: dict[str, Result] = {"upscaler": "upscaled", "unet": "decoded", "vae": "decoded"}


class SATeCoModule(MethodModule):
    """stage=upscaler, unet, vae, refiner (Sec. 3.5), each from the run of the one before.

    objective: weights of the terms of stage=unet (``diffusion.objective``), of stage=vae (``pixel``, ``features``).
    features: network of the perceptual term, see ``feature_loss``. bridge: in stage=unet x_t holds the latent of the
    upscaled frame as far as the sampler's does (ours, for few steps).
    latent_noise: standard deviation of noise on the latents of stage=vae (ours). timesteps: those below this share of
    all are drawn in stage=unet. checkpointing: of UNet and VAE.

    What is validated is what the stage makes: X_u in the first, X_d in the two after it.
    """

    method: SATeCo
    draws = 8

    @check_arguments("module")
    def __init__(
        self,
        method: SATeCo,
        objective: Mapping[str, Mapping[str, float]] | None = None,
        features: Features = "lpips_vgg",
        bridge: bool = False,
        latent_noise: Annotated[float, Ge(0)] = 0.0,
        timesteps: Annotated[float, Gt(0), Le(1)] = 1.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(method)
        self.objective = objectives(objective)
        self.features, self.bridge, self.latent_noise = features, bridge, latent_noise
        self.timesteps, self.checkpointing = timesteps, checkpointing
        self.feature_loss: nn.Module | None = None
        self.maker: str | None = None  # see maker_hash; computed when it is needed

    def begin_stage(self, name: str, optimiser: Any, noise: Noise, schedule: Any = None) -> None:
        """See ``MethodModule.begin_stage``; what earlier ones left behind is forgotten. Raises ConfigError where no
        term of the stage has a weight."""
        super().begin_stage(name, optimiser, noise, schedule)
        terms = self.objective.get(self.stage)
        if terms is not None and not any(terms.values()):
            raise ConfigError(f"module.objective.{self.stage} has no weight above 0: give one to {' or '.join(terms)}")
        self.maker = None
        if self.objective["vae"]["features"]:
            self._prepare_features()

    def _prepare_features(self) -> None:
        """The perceptual term of stage=vae; the stages before it say what will be missing there."""
        if self.stage == "vae":
            self.feature_loss = feature_loss(self.features)
            say(f"feature loss: {self.features}")
        elif self.stage in ("upscaler", "unet") and self.features == "lpips_vgg":
            try:
                check_lpips()
            except WeightsError as error:
                say(f"note for stage=vae: {error}")

    def substitutes(self) -> dict[str, str]:
        """See ``MethodModule.substitutes``."""
        other_features = self.feature_loss is not None and self.features != "lpips_vgg"
        return super().substitutes() | ({"LPIPS": self.features} if other_features else {})

    def repeated_blocks(self) -> list[nn.Module]:
        """None: the guided U-Net and VAE walk through their blocks' layers instead of calling them."""
        return []

    def upscale(self, clip: Clip, noise: NoiseSource, progress: Progress | None = None) -> Tensor:
        """What the stage makes."""
        return self.method.upscale(clip, noise, progress=progress, result=STAGE_RESULTS.get(self.stage))

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Of the current stage (Sec. 3.5)."""
        if self.stage == "upscaler":
            return self.upscaler_losses(clip)
        if self.stage == "unet":
            return self.unet_losses(clip, noise)
        return self.vae_losses(clip, noise) if self.stage == "vae" else self.refiner_losses(clip, noise)

    def upscaler_losses(self, clip: Clip) -> dict[str, Tensor]:
        """Stage 1: X_u against the ground truth."""
        return {"charbonnier": charbonnier(self.method.networks.upscaler(clip.lr).float() - _truth(clip))}

    def unet_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Stage 2: the prior's own target at uniform timesteps, one per clip; every frame has noise of its own.

        The latent encoder is trained here, for its maps are what SFA and TFA read (ours: the text names only the
        modules).
        """
        prior, networks, hr = self.method.prior, self.method.networks, _truth(clip)
        limit = max(1, round(self.timesteps * prior.schedule.length))
        t = draw_timesteps(noise, clip, limit)
        with torch.no_grad():
            lr_latent, _ = self._upscaled_latent(clip)
            latent = self._latents(hr)
            signal = _between(latent, lr_latent, self._left(t)) if self.bridge else latent
            eps = frame_noise(noise, clip, tuple(latent.shape[2:]), "eps")
            x_t = prior.schedule.add_noise(signal, eps, t)
        guides = networks.latent_encoder(folded(lr_latent))
        lr = noised_lr(prior, clip, noise).lr
        output = predict(prior, networks.unet_guidance, x_t, t, guides, lr, self.checkpointing).float()
        frames = t.repeat_interleave(clip.frames)
        known = None if self.bridge else folded(eps)  # with the bridge: what takes the HR latent to this x_t
        terms = objective(
            prior, self.objective["unet"], folded(x_t), folded(output), frames, folded(latent), folded(hr), eps=known,
            low_band=self.method.sampler.low_band,
        )  # fmt: skip
        return terms

    def vae_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Stage 3: latents of the ground truth, decoded under the guidance of X_u's features, against the ground truth.

        When upscaling the decoder meets denoised latents, which are not quite these: see ``latent_noise``.
        """
        hr, weights = _truth(clip), self.objective["vae"]
        with torch.no_grad():
            _, features = self._upscaled_latent(clip)
            latent = self._latents(hr)
            if self.latent_noise:
                latent = latent + self.latent_noise * frame_noise(noise, clip, tuple(latent.shape[2:]), "latent")
        method = self.method
        guidance = method.networks.vae_guidance
        decoded = decode(method.prior, guidance, latent, features, method.batch, self.checkpointing).float()
        terms = {"pixel": weights["pixel"] * F.l1_loss(decoded, hr)}
        if self.feature_loss is not None:
            terms["features"] = weights["features"] * self.feature_loss(folded(decoded), folded(hr))
        return terms

    def refiner_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Stage 4: the refined clip against the ground truth.

        X_d is sampled as it will be when upscaling, once for every sample and set of weights (``cache``); X_u costs
        little beside it. ``train.pool`` says how many samples there are.
        """
        with torch.no_grad():
            upscaled = self.method.networks.upscaler(clip.lr).float()
            maker = self.maker_hash()
            decoded = torch.cat([self._sampled(clip.rows([b]), noise, maker) for b in range(len(clip.name))])
        refined = self.method.networks.refiner(upscaled, decoded.to(upscaled))
        return {"charbonnier": charbonnier(refined.float() - _truth(clip))}

    def maker_hash(self) -> str:
        """Hash of what X_d of a given LR clip depends on: weights and settings of all other parts, sampler, windows."""
        if self.maker is None:
            weights = {name: weights_hash(part) for name, part in self.method.parts().items() if name != "refiner"}
            run = self.method.run
            key = sorted(weights.items()), self.method.settings, self.method.sampler, run.length, run.overlap
            self.maker = f"{stable_seed(*key):016x}"
        return self.maker

    def _sampled(self, clip: Clip, noise: NoiseSource, maker: str) -> Tensor:
        """X_d (1,T,3,H,W) of one sample; its key holds the sample's own pixels, for names do not say how it was cut."""
        pixels = clip.lr.detach().cpu().contiguous().numpy().tobytes().hex()
        key = f"sateco/{maker}/{stable_seed(clip.name[0], clip.index.tolist(), pixels):016x}"

        def make() -> Tensor:
            training = self.training
            self.eval()
            decoded = generate(replace(self.method.run, batch=self.method.batch), clip, noise)[1]
            self.train(training)
            return decoded

        return self.cache(key, make).to(clip.lr.device)

    def _latents(self, frames: Tensor) -> Tensor:
        """Latents (B,T,4,h,w) of frames (B,T,3,H,W) in [0,1], a few at a time."""
        latents = [self.method.prior.encode(part) for part in folded(frames).split(self.method.batch)]
        return rearrange(torch.cat(latents).float(), "(b t) c h w -> b t c h w", b=len(frames))

    def _upscaled_latent(self, clip: Clip) -> tuple[Tensor, list[Tensor]]:
        """Z (B,T,4,h,w) of X_u, and the VAE encoder's features of it."""
        upscaled = self.method.networks.upscaler(clip.lr).float()
        latent, features = encode(self.method.prior, folded(upscaled), self.method.batch)
        return rearrange(latent.float(), "(b t) c h w -> b t c h w", b=len(upscaled)), features

    def _left(self, t: Tensor) -> Tensor:
        """How much of Z the signal in x_t (B,) still is where a DDIM run that started at Z knew x0 from the first step.

        Such a step keeps (x_t - sqrt(abar) x0) / sqrt(1-abar), so what is left of Z - x0 falls as noise falls to
        signal.
        """
        schedule = self.method.prior.schedule
        noise = ((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod).sqrt()
        return (noise[t] / noise[self.method.sampler.timesteps(schedule)[0]]).clamp(max=1)


def objectives(settings: Mapping[str, Mapping[str, float]] | None) -> dict[str, dict[str, float]]:
    """Weights of the terms by stage. Raises ConfigError for stages and terms that there are not."""
    known = {"unet": TERMS[:-1], "vae": ("pixel", "features")}
    weights = {}
    for stage, terms in known.items():
        own = dict((settings or {}).get(stage) or WEIGHTS[stage])
        unknown = sorted(own.keys() - set(terms))
        if unknown:
            raise ConfigError(f"module.objective.{stage} has no {', '.join(unknown)}; it has {', '.join(terms)}")
        weights[stage] = {term: own.get(term, 0.0) for term in terms}
    extra = sorted((settings or {}).keys() - known.keys())
    if extra:
        raise ConfigError(f"module.objective has no {', '.join(extra)}; it has {', '.join(known)}")
    return weights


def _truth(clip: Clip) -> Tensor:
    assert clip.hr is not None
    return clip.hr


def _between(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Part of the way from a to b (B,T,C,H,W), for each sample its own (B,)."""
    return a + rearrange(share, "b -> b 1 1 1 1") * (b - a)
