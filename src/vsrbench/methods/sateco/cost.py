"""SATeCo's units of work: the frozen networks frame by frame, what SATeCo adds window by window."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vsrbench.diffusion.frames import folded
from vsrbench.methods.base import Work
from vsrbench.methods.sateco.adapters import Guidance
from vsrbench.methods.sateco.guidance import decode, encode, predict
from vsrbench.methods.sateco.sampling import placed
from vsrbench.types import Clip

UNET, VAE = "guided U-Net", "guided VAE decoder"


@torch.no_grad()
def work(method: Any, clip: Clip) -> dict[str, Work]:
    """What upscaling ``clip`` (B = 1) consists of. A clip longer than a window is covered by windows that overlap, so
    that ``method.overlap`` frames of each are done twice. Left out: noise, the sampler's update, blending."""
    run, prior, networks = method.run, method.prior, method.networks
    spans = placed(clip.frames, run.length, run.overlap)
    window = clip.window(0, spans[0][1])
    windows = len(spans) / clip.frames  # per frame of the clip
    frames, steps = windows * window.frames, float(method.sampler.steps)
    upscaled = networks.upscaler(window.lr).float()
    latent, features = encode(prior, folded(upscaled), method.batch)
    guides = networks.latent_encoder(latent)
    x, t = latent[:1].unsqueeze(0), prior.schedule.length // 2
    lines: dict[str, Work] = {}
    if any(True for _ in networks.upscaler.parameters()):
        lines["video upscaler"] = Work(_cast(method, lambda: networks.upscaler(window.lr)), windows)
    lines |= {
        "VAE encoder": Work(_cast(method, lambda: encode(prior, upscaled[0, :1], 1)), frames),
        "latent encoder E_z": Work(_cast(method, lambda: networks.latent_encoder(latent[:1])), frames),
        "denoising U-Net": Work(
            _cast(method, lambda: predict(prior, None, x, t, guides, window.lr[:, :1])), frames * steps, UNET
        ),
        "SFA and TFA (UNet)": Work(
            _cast(method, _guiding(networks.unet_guidance, guides, window.frames)), windows * steps, UNET
        ),
        "VAE decoder": Work(_cast(method, lambda: decode(prior, None, x, features, 1)), frames, VAE),
        "SFA and TFA (VAE)": Work(
            _cast(method, _guiding(networks.vae_guidance, features, window.frames)), windows, VAE
        ),
        "video refiner": Work(_cast(method, lambda: networks.refiner(upscaled[:, :1], upscaled[:, :1])), frames),
    }
    return lines


def _guiding(guidance: Guidance, guides: Sequence[Tensor], frames: int) -> Callable[[], object]:
    """All points of a decoder in turn. The features there have the shapes of what guides them."""

    def run() -> object:
        for point in range(len(guides)):
            guidance(point, guides[-1 - point], guides[-1 - point], frames)
        return None

    return run


def _cast(method: Any, call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with method.autocast():
            return call()

    return run
