"""One explicit forward over the blocks of a diffusers UNet2DConditionModel, with named places.

Places: encoder 0 after conv_in, encoder 1.. after each residual unit (with its attention) and each
downsampler; middle; decoder 0.. after each residual unit and each upsampler. With SD x4's UNet there are
12 + 1 + 15. Encoder-only and dense guidance are the same mechanism, the UNet's state dict stays untouched,
and nothing is hooked, so gradient checkpointing is safe.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vsrbench.nn.functional import recomputed

# visit(place, number, hidden) -> (what flows on, what the skip connection stores)
Visit = Callable[[str, int, Tensor], tuple[Tensor, Tensor]]


class Guidance(Protocol):
    """What changes features at the places of a UNet (``Visit``); ``Residuals`` add to them."""

    def visit(self, place: str, number: int, hidden: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Residuals:
    """Features to add at the places of a UNet; every tensor has the shape of the feature it joins.

    in_stream=True adds to what flows on (DGAF-VSR; the first skip, taken after conv_in, stays unguided as in
    the released code). in_stream=False adds to the stored skips only (ControlNet, StableVSR); the middle is
    added to the stream in both. decoder is empty for encoder-only guidance.
    """

    encoder: list[Tensor]
    middle: Tensor
    decoder: list[Tensor]
    in_stream: bool = True

    def map(self, change: Callable[[Tensor], Tensor]) -> "Residuals":
        """The same residuals with ``change`` applied to each tensor."""
        encoder, decoder = [change(r) for r in self.encoder], [change(r) for r in self.decoder]
        return Residuals(encoder, change(self.middle), decoder, self.in_stream)

    def named(self) -> dict[str, Tensor]:
        """As the trace sees them: ``down0..``, ``mid``, ``up0..``."""
        down = {f"down{i}": r for i, r in enumerate(self.encoder)}
        up = {f"up{i}": r for i, r in enumerate(self.decoder)}
        return {**down, "mid": self.middle, **up}

    def visit(self, place: str, number: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Add what belongs to a place."""
        if place == "middle":
            guided = hidden + self.middle
            return guided, guided
        if place == "decoder":
            guided = hidden + self.decoder[number] if self.decoder else hidden
            return guided, guided
        guided = hidden + self.encoder[number]
        if not self.in_stream:
            return hidden, guided
        return guided, hidden if number == 0 else guided


def forward(
    unet: Any,
    x: Tensor,
    t: Tensor | int,
    context: Tensor,
    residuals: Guidance | None = None,
    labels: Tensor | None = None,
    checkpointing: bool = False,
) -> Tensor:
    """The UNet's output (B,4,h,w) for x (B,C,h,w), t (B,) or one number, context (1 or B,n,d).

    Without residuals equal to ``unet(x, t, context, class_labels=labels).sample``.
    """
    hidden = walk(unet, x, t, context, labels, residuals.visit if residuals else None, checkpointing)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))


def features(
    unet: Any,
    x: Tensor,
    t: Tensor | int,
    context: Tensor,
    labels: Tensor | None = None,
    checkpointing: bool = False,
    decoder: bool = True,
) -> Residuals:
    """What a UNet computes at every place, in the layout of ``Residuals``; decoder=False ends after the middle."""
    maps: dict[str, list[Tensor]] = {"encoder": [], "middle": [], "decoder": []}

    def record(place: str, number: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        maps[place].append(hidden)
        return hidden, hidden

    walk(unet, x, t, context, labels, record, checkpointing, decoder)
    return Residuals(maps["encoder"], maps["middle"][0], maps["decoder"])


def places(unet: Any) -> tuple[list[int], int, list[int]]:
    """Channels at the encoder places, the middle, and the decoder places, read off the modules."""
    encoder = [unet.conv_in.out_channels]
    for block in unet.down_blocks:
        encoder += [resnet.out_channels for resnet in block.resnets]
        encoder += [sampler.out_channels for sampler in block.downsamplers or []]
    decoder: list[int] = []
    for block in unet.up_blocks or []:
        decoder += [resnet.out_channels for resnet in block.resnets]
        decoder += [sampler.out_channels for sampler in block.upsamplers or []]
    return encoder, unet.mid_block.resnets[-1].out_channels, decoder


def walk(
    unet: Any,
    x: Tensor,
    t: Tensor | int,
    context: Tensor,
    labels: Tensor | None,
    visit: Visit | None,
    checkpointing: bool = False,
    decoder: bool = True,
) -> Tensor:
    """Everything of the UNet before its output head; returns the last decoder feature (or the middle's)."""
    visit = visit or (lambda place, number, hidden: (hidden, hidden))
    emb = embedding(unet, x, t, labels)
    context = context.expand(len(x), -1, -1)
    hidden, skip = visit("encoder", 0, unet.conv_in(x))
    skips = [skip]
    for block in unet.down_blocks:
        for unit in _units(block):
            hidden, skip = visit("encoder", len(skips), _run(unit, hidden, emb, context, checkpointing))
            skips.append(skip)
        for downsampler in block.downsamplers or []:
            hidden, skip = visit("encoder", len(skips), downsampler(hidden))
            skips.append(skip)
    hidden, _ = visit("middle", 0, _middle(unet.mid_block, hidden, emb, context, checkpointing))
    number = 0
    for block in unet.up_blocks if decoder else []:
        for unit in _units(block):
            joined = torch.cat([hidden, skips.pop()], dim=1)
            hidden, _ = visit("decoder", number, _run(unit, joined, emb, context, checkpointing))
            number += 1
        for upsampler in block.upsamplers or []:
            # the skip's own size: 180/8 is not whole, so a factor of 2 would miss it
            hidden, _ = visit("decoder", number, upsampler(hidden, skips[-1].shape[-2:]))
            number += 1
    return hidden


def embedding(unet: Any, x: Tensor, t: Tensor | int, labels: Tensor | None) -> Tensor:
    """Timestep embedding (B,d), plus the class embedding (noise level of the LR frame) where the UNet has one."""
    steps = torch.as_tensor(t, device=x.device).expand(len(x))
    emb = unet.time_embedding(unet.time_proj(steps).to(x.dtype))
    if unet.class_embedding is not None:
        if labels is None:
            raise ValueError("this UNet has a class embedding: pass labels (set prior.noise_level)")
        emb = emb + unet.class_embedding(labels.expand(len(x))).to(emb.dtype)
    return emb


Unit = tuple[nn.Module, nn.Module | None]


def _units(block: Any) -> Iterator[Unit]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    yield from zip(block.resnets, attentions, strict=True)


def _run(unit: Unit, hidden: Tensor, emb: Tensor, context: Tensor, checkpointing: bool) -> Tensor:
    def compute(hidden: Tensor) -> Tensor:
        resnet, attention = unit
        hidden = resnet(hidden, emb)
        return hidden if attention is None else attention(hidden, encoder_hidden_states=context).sample

    return recomputed(compute, hidden, enabled=checkpointing)


def _middle(block: Any, hidden: Tensor, emb: Tensor, context: Tensor, checkpointing: bool) -> Tensor:
    hidden = block.resnets[0](hidden, emb)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        if attention is not None:
            hidden = attention(hidden, encoder_hidden_states=context).sample
        hidden = _run((resnet, None), hidden, emb, context, checkpointing)
    return hidden
