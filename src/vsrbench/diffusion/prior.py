"""The frozen image prior: Stable Diffusion x4 upscaler as diffusers modules, or a miniature of the same kind."""

from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.guided import Residuals, forward
from vsrbench.diffusion.schedule import Schedule
from vsrbench.diffusion.weights import load_config, load_part, load_prompt
from vsrbench.errors import ConfigError, WeightsError


class Prior(nn.Module):
    """UNet (7 input channels: latent and LR frame), VAE with factor 4, schedule, embedded empty prompt.

    noise_level: class label of a UNet with a class embedding (the stock upscaler's 0..350); None for UNets
    without one (the released StableVSR and DGAF-VSR). The LR frame itself gets no noise, as released.
    """

    prompt: Tensor

    def __init__(self, unet: Any, vae: Any, schedule: Schedule, prompt: Tensor, noise_level: int | None = None) -> None:
        super().__init__()
        self.unet, self.vae, self.schedule = unet, vae, schedule
        self.register_buffer("prompt", prompt, persistent=False)
        self.noise_level = noise_level
        _check_fit(unet, vae, prompt, noise_level)

    @property
    def scaling(self) -> float:
        """Factor between the VAE's latents and what the UNet sees (0.08333 for the x4 upscaler)."""
        return float(self.vae.config.scaling_factor)

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    def labels(self, device: torch.device) -> Tensor | None:
        """Class labels for the UNet, (1,), or None."""
        return None if self.noise_level is None else torch.tensor([self.noise_level], device=device)

    def predict(
        self,
        x: Tensor,
        lr: Tensor,
        t: Tensor | int,
        residuals: Residuals | None = None,
        checkpointing: bool = False,
    ) -> Tensor:
        """The network's prediction (B,4,h,w) for x_t (B,4,h,w) and LR frames (B,3,h,w) in [0,1]."""
        joined = torch.cat([x, to_network(lr)], dim=1)
        return forward(self.unet, joined, t, self.prompt, residuals, self.labels(x.device), checkpointing)

    def encode(self, rgb: Tensor, noise: Tensor | None = None) -> Tensor:
        """RGB (B,3,4h,4w) in [0,1] → latents (B,4,h,w) as the UNet sees them: mode, or a sample with ``noise``."""
        posterior = self.vae.encode(to_network(rgb)).latent_dist
        latent = posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(posterior.mean)
        return latent * self.scaling

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B,4,h,w) → RGB (B,3,4h,4w), nominally in [0,1], not clamped."""
        return self.vae.decode(latent / self.scaling).sample / 2 + 0.5


def to_network(rgb: Tensor) -> Tensor:
    """[0,1] → [-1,1], the range all diffusers networks want."""
    return 2 * rgb - 1


def load_prior(
    path: str | None = None,
    random: bool = False,
    unet: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
    noise_level: int | None = None,
    prompt_tokens: int = 77,
    seed: int = 0,
) -> Prior:
    """A prior from a diffusers folder or hub id, or with random weights when that is asked for.

    path: folder with ``unet/ vae/ scheduler/`` and ``prompt_embeds.safetensors`` or ``text_encoder/
    tokenizer/``; or a hub id. random: build ``unet`` and ``vae`` from their configs with seeded weights.
    Raises WeightsError when there is neither, or when weights do not fit the folder's own config.
    """
    if random:
        return _random_prior(unet or {}, vae or {}, scheduler or {}, noise_level, prompt_tokens, seed)
    if path is None:
        raise WeightsError(
            "this size needs the weights of the prior: set prior.path=DIR to a diffusers folder with unet/, vae/, "
            "scheduler/ and text_encoder/ (the Stable Diffusion x4 upscaler, or the folder released with "
            "StableVSR), or to a hub id; prior.random=true builds the shapes with random weights"
        )
    return Prior(
        load_part(path, "unet"),
        load_part(path, "vae"),
        Schedule(**load_config(path, "scheduler", "scheduler_config.json")),
        load_prompt(path),
        noise_level,
    )


def _random_prior(
    unet: dict[str, Any],
    vae: dict[str, Any],
    scheduler: dict[str, Any],
    noise_level: int | None,
    prompt_tokens: int,
    seed: int,
) -> Prior:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = UNet2DConditionModel(**unet)
        autoencoder: Any = AutoencoderKL(**vae)
        prompt = torch.zeros(1, prompt_tokens, int(network.config.cross_attention_dim))
    return Prior(network.eval(), autoencoder.eval(), Schedule(**scheduler), prompt, noise_level)


def _check_fit(unet: Any, vae: Any, prompt: Tensor, noise_level: int | None) -> None:
    """Raise ConfigError for parts that cannot work together."""
    latent = int(vae.config.latent_channels)
    if unet.config.in_channels != latent + 3:
        raise ConfigError(f"the UNet takes {unet.config.in_channels} channels, not {latent} + 3: not an upscaler's")
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if factor != 4:
        raise ConfigError(f"the VAE reduces by {factor}; these methods need a factor of 4 (f4)")
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
