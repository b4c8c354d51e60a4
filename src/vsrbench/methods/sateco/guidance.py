"""The frozen UNet and VAE with SATeCo's guidance inside: forwards over the prior's own blocks.

Legend: F = features of a decoder, G = those of the latent encoder, V = those of the VAE encoder (Fig. 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vsrbench.diffusion.frames import folded
from vsrbench.diffusion.prior import Prior, to_network
from vsrbench.methods.sateco.adapters import Guidance
from vsrbench.nn.functional import recomputed
from vsrbench.nn.windows import in_pieces


def unet_widths(prior: Prior) -> list[int]:
    """Channels of the UNet's decoder blocks, coarsest first."""
    return [block.resnets[-1].out_channels for block in prior.unet.up_blocks]


def vae_widths(prior: Prior) -> list[int]:
    """Channels of the VAE decoder's blocks, coarsest first."""
    return [block.resnets[-1].out_channels for block in prior.vae.decoder.up_blocks]


@dataclass(frozen=True)
class _InDecoder:
    """Guidance at the UNet's decoder places (``diffusion.guided``) that end a block, before its upsampler."""

    guidance: Guidance
    guides: Sequence[Tensor]
    points: dict[int, int]  # decoder place -> block
    frames: int
    checkpointing: bool

    def visit(self, place: str, number: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if place == "decoder" and number in self.points:
            block = self.points[number]
            hidden = self.guidance(block, hidden, self.guides[-1 - block], self.frames, self.checkpointing)
        return hidden, hidden


def block_ends(unet: Any) -> dict[int, int]:
    """{decoder place behind the last residual unit of a block: number of the block}; see ``guided.places``."""
    ends, number = {}, 0
    for i, block in enumerate(unet.up_blocks):
        ends[number + len(block.resnets) - 1] = i
        number += len(block.resnets) + len(block.upsamplers or [])
    return ends


def predict(
    prior: Prior,
    guidance: Guidance | None,
    x: Tensor,
    t: Tensor | int,
    guides: Sequence[Tensor],
    lr: Tensor,
    checkpointing: bool = False,
) -> Tensor:
    """The UNet's output (B,T,4,h,w) for x_t (B,T,4,h,w), t (B,) or one number.

    guides: G (B·T,C,...) of ``LatentEncoder``, finest first. lr: (B,T,3,h',w') in [0,1], seen by an upscaler's UNet
    alone. guidance=None: the frozen prior by itself.
    """
    clips, frames = x.shape[:2]
    steps = t.repeat_interleave(frames) if isinstance(t, Tensor) and t.ndim else t
    inside = None
    if guidance is not None:
        inside = _InDecoder(guidance, guides, block_ends(prior.unet), frames, checkpointing)
    output = prior.predict(folded(x), folded(lr), steps, inside, checkpointing=checkpointing)
    return rearrange(output, "(b t) c h w -> b t c h w", b=clips)


def encode(prior: Prior, rgb: Tensor, batch: int = 4) -> tuple[Tensor, list[Tensor]]:
    """RGB (N,3,H,W) in [0,1] to its latent (N,4,H/f,W/f), as the UNet sees it, and the features V, finest first.

    V is taken at every level of the VAE encoder before it halves the size. The latent is the posterior's mode, as
    ``Prior.encode`` gives it. ``batch`` frames at a time.
    """
    encoder, quantise = prior.vae.encoder, prior.vae.quant_conv
    features: list[Tensor] = []  # of all frames, written as they come: twice as many would not fit at 720p

    def one(number: Tensor, rgb: Tensor) -> Tensor:
        hidden, levels = _encoder_levels(encoder, to_network(rgb))
        features.extend(f.new_empty(len(total), *f.shape[1:]) for f in levels if len(features) < len(levels))
        for whole, level in zip(features, levels, strict=True):
            whole[number] = level
        hidden = encoder.mid_block(hidden)
        hidden = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(hidden)))
        moments = hidden if quantise is None else quantise(hidden)
        return moments.chunk(2, dim=1)[0] * prior.scaling

    total = torch.arange(len(rgb), device=rgb.device)
    return in_pieces(one, (total, rgb), batch), features


def _encoder_levels(encoder: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    hidden, features = encoder.conv_in(x), []
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            hidden = resnet(hidden, temb=None)
        features.append(hidden)
        for downsampler in block.downsamplers or []:
            hidden = downsampler(hidden)
    return hidden, features


def decode(
    prior: Prior,
    guidance: Guidance | None,
    latent: Tensor,
    features: Sequence[Tensor],
    batch: int = 4,
    checkpointing: bool = False,
) -> Tensor:
    """Latents (B,T,4,h,w) to RGB (B,T,3,f·h,f·w), nominally in [0,1], not clamped.

    features: V of ``encode`` (B·T,C,...), finest first. Between two points of guidance the VAE's decoder runs ``batch``
    frames at a time, so only features at the points exist for all frames at once. guidance=None: the frozen decoder.
    """
    clips, frames = latent.shape[:2]
    decoder, vae = prior.vae.decoder, prior.vae
    hidden = folded(latent) / prior.scaling
    for i, block in enumerate(decoder.up_blocks):
        start = _Start(vae) if i == 0 else _Upsampling(decoder.up_blocks[i - 1])
        hidden = in_pieces(_Segment(start, block, checkpointing), (hidden,), batch)
        if guidance is not None:
            hidden = guidance(i, hidden, features[-1 - i], frames, checkpointing)

    def head(hidden: Tensor) -> Tensor:
        for upsampler in decoder.up_blocks[-1].upsamplers or []:
            hidden = upsampler(hidden)
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(hidden)))

    rgb = in_pieces(head, (hidden,), batch)
    return rearrange(rgb / 2 + 0.5, "(b t) c h w -> b t c h w", b=clips)


@dataclass(frozen=True)
class _Start:
    """What comes before the decoder's first block."""

    vae: Any

    def __call__(self, z: Tensor) -> Tensor:
        z = z if self.vae.post_quant_conv is None else self.vae.post_quant_conv(z)
        return self.vae.decoder.mid_block(self.vae.decoder.conv_in(z), None)


@dataclass(frozen=True)
class _Upsampling:
    """The end of a decoder block."""

    block: Any

    def __call__(self, hidden: Tensor) -> Tensor:
        for upsampler in self.block.upsamplers or []:
            hidden = upsampler(hidden)
        return hidden


@dataclass(frozen=True)
class _Segment:
    """From one point of guidance to the next: ``start``, then the residual units of ``block``."""

    start: Any
    block: Any
    checkpointing: bool

    def __call__(self, hidden: Tensor) -> Tensor:
        return recomputed(self._run, hidden, enabled=self.checkpointing)

    def _run(self, hidden: Tensor) -> Tensor:
        hidden = self.start(hidden)
        for resnet in self.block.resnets:
            hidden = resnet(hidden, temb=None)
        return hidden
