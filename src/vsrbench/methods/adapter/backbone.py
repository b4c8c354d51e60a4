"""The frozen text-to-video backbone: which U-Net with which VAE, the schedule, and the embedded empty prompt."""

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.prior import to_network
from vsrbench.diffusion.schedule import Schedule
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.methods.adapter.unet import AliUNet, VideoUNet
from vsrbench.methods.adapter.vae import ClipVAE
from vsrbench.weights.folders import load_prompt, read_weights
from vsrbench.weights.layout import FILES, read_json
from vsrbench.weights.report import key_report, load_strictly, no_weights

UNETS, VAES = ("upscale", "ali"), ("sft", "3d", "sd_f8")
# The releases' own files, below the folder that is given.
UNET_FILES = {"upscale": ("unet_video.bin", *FILES), "ali": FILES}
VAE_FILES = {"sft": ("vae_video.bin", *FILES), "3d": ("vae_3d.bin", *FILES), "sd_f8": FILES}
WRONG_SPACE = (
    "prior.unet={unet} was trained on the latents of {own}, not on those of prior.vae={vae}: shapes fit, statistics do "
    "not, so the U-Net sees what it never saw. The thesis ran ali so (30.1 s per frame fit no other reading of its "
    "Table 4.6); prior.vae={own_short} is the pair that belongs together"
)


class Backbone(nn.Module):
    """unet: ``VideoUNet`` ("upscale") or ``AliUNet``. vae: ``ClipVAE``. prompt (1,n,d): tokens of "no condition".

    Raises ConfigError for parts that cannot work together; warns where they can and do not belong together.
    """

    prompt: Tensor

    def __init__(self, unet: Any, vae: ClipVAE, schedule: Schedule, prompt: Tensor, kinds: tuple[str, str]) -> None:
        super().__init__()
        self.unet, self.vae, self.schedule, self.kinds = unet, vae, schedule, kinds
        self.register_buffer("prompt", prompt, persistent=False)
        if kinds[0] == "upscale" and vae.factor != 4:
            raise ConfigError(
                f"prior.unet=upscale reads LR frames of the latent's size: it needs a VAE of factor 4 (sft or 3d), "
                f"not prior.vae={kinds[1]} of factor {vae.factor}"
            )
        if prompt.shape[-1] != self.text:
            raise ConfigError(f"the empty prompt has width {prompt.shape[-1]}, the U-Net's cross-attention {self.text}")
        if (kinds[0] == "ali") != (kinds[1] == "sd_f8"):
            ali = kinds[0] == "ali"
            own, short = ("Stable Diffusion's VAE (f8)", "sd_f8") if ali else ("the x4 upscaler's VAE (f4)", "sft")
            warnings.warn(WRONG_SPACE.format(unet=kinds[0], vae=kinds[1], own=own, own_short=short), stacklevel=2)

    @property
    def text(self) -> int:
        """Width of the tokens that the U-Net's cross-attention reads."""
        network = self.unet.image if self.kinds[0] == "upscale" else self.unet.net
        return int(network.config.cross_attention_dim)

    def grid(self, lr: Tensor) -> tuple[int, int, int]:
        """Shape (4,h,w) of a latent for LR frames (...,h,w) at scale 4. Raises ConfigError where it is not whole."""
        height, width = (4 * side / self.vae.factor for side in lr.shape[-2:])
        if not (height.is_integer() and width.is_integer()):
            raise ConfigError(f"LR frames of {tuple(lr.shape[-2:])} need even sides with prior.vae={self.kinds[1]}")
        return self.vae.channels, int(height), int(width)

    def predict(
        self,
        x: Tensor,
        lr: Tensor,
        t: Tensor | int,
        tokens: Tensor,
        level: Tensor | int = 0,
        checkpointing: bool = False,
    ) -> Tensor:
        """The U-Net's output (B,T,4,h,w) for x (B,T,4,h,w), LR frames (B,T,3,h,w) in [-1,1], tokens (B,n,d).

        level: the LR frames' noise level (B,) or one number, where the U-Net has one.
        """
        if self.kinds[0] == "ali":
            return self.unet(x, t, tokens, checkpointing=checkpointing)
        labels = torch.as_tensor(level, device=x.device).reshape(-1)
        labelled = self.unet.image.class_embedding is not None
        joined = torch.cat([x, lr], dim=2)
        return self.unet(joined, t, tokens, labels if labelled else None, checkpointing)

    def noised_lr(self, lr: Tensor, eps: Tensor | None, level: Tensor | int) -> Tensor:
        """LR frames (B,T,3,h,w) in [0,1] as the U-Net is to see them, [-1,1], noised at ``level`` (eps None: clean)."""
        clean = to_network(lr)
        return clean if eps is None else self.schedule.add_noise(clean, eps, level)

    # what the shared loss terms ask of a prior
    @property
    def factor(self) -> int:
        """HR pixels per latent pixel."""
        return self.vae.factor

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (N,4,h,w) to RGB (N,3,H,W) by the image decoder alone."""
        return self.vae.decode_frames(latent)


def load_backbone(
    unet: str = "upscale",
    vae: str = "sft",
    path: str | None = None,
    vae_path: str | None = None,
    prompt_path: str | None = None,
    random: bool = False,
    inflate: bool = False,
    unet_config: dict[str, Any] | None = None,
    vae_config: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
    video: dict[str, Any] | None = None,
    condition: dict[str, Any] | None = None,
    prompt_tokens: int = 77,
    seed: int = 0,
) -> Backbone:
    """A backbone from published weights, from an image prior, or with random weights.

    path: folder with ``unet/`` (Upscale-A-Video's unet_video.bin, or a diffusers folder), ``scheduler/`` and
    ``text_encoder/ tokenizer/`` or ``prompt_embeds.safetensors``; vae_path: folder with ``vae/`` (vae_video.bin,
    vae_3d.bin, or a diffusers folder), null: the same; prompt_path: likewise for the empty prompt. inflate: ``path`` is
    the folder of a x4 image prior, whose U-Net and VAE are taken over and get video parts that start at zero. random:
    the shapes of ``unet_config`` and ``vae_config``. video, condition: settings of ``VideoUNet`` and ``ClipVAE``.
    Raises WeightsError where weights are absent or do not fit, ConfigError for kinds that do not exist.
    """
    if unet not in UNETS or vae not in VAES:
        raise ConfigError(f"prior.unet={unet}, prior.vae={vae}: use one of {', '.join(UNETS)}; {', '.join(VAES)}")
    kinds = (unet, vae)
    if inflate and path is not None:
        return _inflated(path, kinds, video or {}, condition or {}, seed)
    if not random and path is None:
        raise no_weights(
            "the video prior",
            f"set prior.path=DIR, a folder with unet/ ({UNET_FILES[unet][0]}), vae/ ({VAE_FILES[vae][0]}; or "
            "prior.vae_path=DIR), scheduler/ and text_encoder/ or prompt_embeds.safetensors",
            "prior.random=true",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # weights that are to be read are not drawn first; a caller may build on the meta device
        with nullcontext() if random else torch.device("meta"):
            network: Any = _unet(unet, unet_config or {}, video or {})
            autoencoder = _vae(vae, vae_config or {}, condition or {})
    settings = dict(scheduler or {})
    width = int((network.image if unet == "upscale" else network.net).config.cross_attention_dim)
    prompt = torch.zeros(1, prompt_tokens, width)
    if path is not None and not random:
        _fill(network, _folder(path) / "unet", UNET_FILES[unet], unet)
        _fill(autoencoder, _folder(vae_path or path) / "vae", VAE_FILES[vae], vae)
        stored = _folder(path) / "scheduler" / "scheduler_config.json"
        settings = read_json(stored) if stored.is_file() else settings
        prompt = load_prompt(prompt_path or path)
    return Backbone(network.eval(), autoencoder.eval(), Schedule(**settings), prompt, kinds)


def _inflated(
    folder: str, kinds: tuple[str, str], video: dict[str, Any], condition: dict[str, Any], seed: int
) -> Backbone:
    from vsrbench.diffusion.prior import load_prior

    if kinds[0] != "upscale" or kinds[1] == "sd_f8":
        raise ConfigError(f"prior.inflate makes unet=upscale with vae=sft or 3d, not unet={kinds[0]} vae={kinds[1]}")
    image = load_prior(folder, noise_level=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VideoUNet(image.unet, inflate=True, **video)
        autoencoder = ClipVAE(image.vae, kinds[1] == "sft", inflate=True, **condition)
    return Backbone(network.eval(), autoencoder.eval(), image.schedule, image.prompt, kinds)


def _unet(kind: str, config: dict[str, Any], video: dict[str, Any]) -> nn.Module:
    from diffusers import UNet2DConditionModel, UNet3DConditionModel

    if kind == "ali":
        return AliUNet(UNet3DConditionModel(**config))
    return VideoUNet(UNet2DConditionModel(**config), **video)


def _vae(kind: str, config: dict[str, Any], condition: dict[str, Any]) -> ClipVAE:
    from diffusers import AutoencoderKL

    return ClipVAE(AutoencoderKL(**config), kind == "sft", **condition)


def _folder(path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"prior.path={path}: no such folder")
    return folder


def _fill(part: Any, folder: Path, names: tuple[str, ...], kind: str) -> None:
    """Load a published file, strictly. Raises WeightsError with a key report."""
    values, where = read_weights(folder, names), f"{folder}: weights do not fit {kind}"
    if isinstance(part, AliUNet):
        load_strictly(part.net, values, where, assign=True)
    else:
        key_report(part.published_state(), values, where)
        part.load_published_state(values)
