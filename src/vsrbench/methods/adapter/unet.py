"""The two frozen video U-Nets: Upscale-A-Video's ("upscale") and ModelScope's text-to-video network ("ali").

Both take x (B,T,4,h,w) and one sequence of tokens per clip, which every frame attends to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vsrbench.diffusion.guided import embedding
from vsrbench.methods.adapter.temporal import (
    Inflated,
    Rotary,
    StageModule,
    TemporalAttention,
    TemporalResBlock,
    clip_norm,
    resnet,
)
from vsrbench.nn.functional import recomputed, zero_init


class VideoUNet(Inflated):
    """An image upscaler's U-Net with temporal parts in and behind its stages.

    image: diffusers' UNet2DConditionModel, 7 input channels (latent and LR frame). The temporal parts live in ``video``
    under the published checkpoint's names; together the two have exactly its keys. whole_clip: group norms take the
    statistics of the clip, as published, or of each frame (ours, for an image U-Net that was trained on frames).
    spatial: see ``StageModule``. inflate: all temporal parts start at zero, so that the network equals the image U-Net
    frame by frame; else the first convolutions start as PyTorch draws them.
    """

    def __init__(self, image: Any, whole_clip: bool = True, spatial: bool = True, inflate: bool = False) -> None:
        super().__init__()
        self.image, self.whole_clip = image, whole_clip
        self.video = nn.Module()
        width, groups = image.time_embedding.linear_2.out_features, image.config.norm_num_groups
        transformers = list(_transformers(image))
        head = min(
            block.attn1.to_q.out_features // block.attn1.heads
            for _, t in transformers
            for block in t.transformer_blocks
        )
        rotary = Rotary(min(32, head) // 2 * 2)
        place(self.video, "temporal_rotary_emb", rotary)
        for path, transformer in transformers:
            block = TemporalResBlock(transformer.in_channels, groups=groups)
            if inflate:
                zero_init(block.conv2)
            place(self.video, f"{path}.resblock_temporal", block)
            for number, inner in enumerate(transformer.transformer_blocks):
                channels = inner.attn1.to_q.in_features
                attention = TemporalAttention(channels, inner.attn1.heads, rotary)
                place(self.video, f"{path}.transformer_blocks.{number}.attn_temporal", attention)
                place(self.video, f"{path}.transformer_blocks.{number}.norm_temporal", nn.LayerNorm(channels))
        widths = list(image.config.block_out_channels)
        for number, channels in enumerate(widths):
            place(self.video, f"down_temp_blocks.{number}", StageModule(channels, width, groups, spatial))
        place(self.video, "mid_temp_block", StageModule(widths[-1], width, groups, spatial))
        for number, channels in enumerate(reversed(widths)):
            place(self.video, f"up_temp_blocks.{number}", StageModule(channels, width, groups, spatial))

    def forward(
        self, x: Tensor, t: Tensor | int, tokens: Tensor, labels: Tensor | None = None, checkpointing: bool = False
    ) -> Tensor:
        """Prediction (B,T,4,h,w) for x (B,T,7,h,w), t (B,) or one number, tokens (B,n,d), noise levels (B,) or (1,)."""
        emb = embedding(self.image, x[:, 0], t, labels)
        walk = _Walk(self, x.shape[1], emb, tokens, checkpointing and torch.is_grad_enabled())
        y = walk(rearrange(x, "b t c h w -> (b t) c h w"))
        return rearrange(y, "(b t) c h w -> b t c h w", b=len(x))


def place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register a module below ``root`` under a dotted path, through empty modules on the way."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in dict(root.named_children()):
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)


def _transformers(image: Any) -> list[tuple[str, Any]]:
    """(path, module) of all transformers of a U-Net."""
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    return [(path, module) for path, module in image.named_modules() if isinstance(module, Transformer2DModel)]


@dataclass(frozen=True)
class _Walk:
    """One forward pass over folded frames. emb: (B,E); tokens: (B,n,d)."""

    net: VideoUNet
    frames: int
    emb: Tensor
    tokens: Tensor
    checkpointing: bool

    def __call__(self, x: Tensor) -> Tensor:
        image = self.net.image
        hidden = image.conv_in(x)
        skips = [hidden]
        for number, block in enumerate(image.down_blocks):
            for unit in range(len(block.resnets)):
                hidden = self._unit(block, f"down_blocks.{number}", unit, hidden)
                skips.append(hidden)
            for downsampler in block.downsamplers or []:
                hidden = downsampler(hidden)
                skips.append(hidden)
            hidden = self._stage(f"down_temp_blocks.{number}", hidden)
        hidden = self._stage("mid_temp_block", self._middle(hidden))
        for number, block in enumerate(image.up_blocks):
            for unit in range(len(block.resnets)):
                hidden = self._unit(block, f"up_blocks.{number}", unit, torch.cat([hidden, skips.pop()], dim=1))
            for upsampler in block.upsamplers or []:
                hidden = upsampler(hidden, skips[-1].shape[-2:])  # the skip's own size: halving odd sizes rounds up
            hidden = self._stage(f"up_temp_blocks.{number}", hidden)
        return image.conv_out(image.conv_act(clip_norm(image.conv_norm_out, hidden, self.frames, self.net.whole_clip)))

    def _run(self, compute: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        return recomputed(compute, hidden, enabled=self.checkpointing)

    def _unit(self, block: Any, path: str, unit: int, hidden: Tensor) -> Tensor:
        def compute(hidden: Tensor) -> Tensor:
            hidden = self._resnet(block.resnets[unit], hidden)
            attentions = getattr(block, "attentions", None)
            return hidden if attentions is None else self._transformer(f"{path}.attentions.{unit}", hidden)

        return self._run(compute, hidden)

    def _middle(self, hidden: Tensor) -> Tensor:
        block = self.net.image.mid_block

        def compute(hidden: Tensor) -> Tensor:
            hidden = self._resnet(block.resnets[0], hidden)
            for number, after in enumerate(block.resnets[1:]):
                hidden = self._resnet(after, self._transformer(f"mid_block.attentions.{number}", hidden))
            return hidden

        return self._run(compute, hidden)

    def _resnet(self, block: Any, hidden: Tensor) -> Tensor:
        return resnet(block, hidden, self.emb.repeat_interleave(self.frames, 0), self.frames, self.net.whole_clip)

    def _stage(self, path: str, hidden: Tensor) -> Tensor:
        module = self.net.video.get_submodule(path)
        return self._run(lambda h: module(h, self.frames, self.emb, self.net.whole_clip), hidden)

    def _transformer(self, path: str, hidden: Tensor) -> Tensor:
        """Temporal ResBlock; attention to the frame (or the tokens), the tokens, the other frames; feed-forward."""
        transformer: Any = self.net.image.get_submodule(path)
        video: Any = self.net.video.get_submodule(path)
        hidden = video.resblock_temporal(hidden, self.frames, whole=self.net.whole_clip)
        tokens = self.tokens.repeat_interleave(self.frames, 0)
        x = transformer.norm(hidden)
        linear = transformer.use_linear_projection
        x = x if linear else transformer.proj_in(x)
        x = rearrange(x, "n c h w -> n (h w) c")
        x = transformer.proj_in(x) if linear else x
        for number, block in enumerate(transformer.transformer_blocks):
            temporal = video.transformer_blocks.get_submodule(str(number))
            first = tokens if block.only_cross_attention else None
            x = x + block.attn1(block.norm1(x), encoder_hidden_states=first)
            x = x + block.attn2(block.norm2(x), encoder_hidden_states=tokens)
            x = x + self._over_frames(temporal, x)
            x = x + block.ff(block.norm3(x))
        x = transformer.proj_out(x) if linear else x
        x = rearrange(x, "n (h w) c -> n c h w", h=hidden.shape[-2])
        return hidden + (x if linear else transformer.proj_out(x))

    def _over_frames(self, temporal: Any, x: Tensor) -> Tensor:
        pixels = rearrange(x, "(b t) pixels c -> (b pixels) t c", t=self.frames)
        y = temporal.attn_temporal(temporal.norm_temporal(pixels))
        return rearrange(y, "(b pixels) t c -> (b t) pixels c", pixels=x.shape[1])


class AliUNet(nn.Module):
    """ModelScope's text-to-video U-Net (diffusers UNet3DConditionModel): 4 channels, no LR frame, no noise level."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, x: Tensor, t: Tensor | int, tokens: Tensor, labels: Tensor | None = None, checkpointing: bool = False
    ) -> Tensor:
        """Prediction (B,T,4,h,w) for x (B,T,4,h,w), t (B,) or one number, tokens (B,n,d)."""
        self._recompute(checkpointing and torch.is_grad_enabled())
        steps = torch.as_tensor(t, device=x.device).expand(len(x))
        x = rearrange(x, "b t c h w -> b c t h w")
        y = self.net(x, steps, encoder_hidden_states=tokens, return_dict=False)[0]
        return rearrange(y, "b c t h w -> b t c h w")

    def _recompute(self, enabled: bool) -> None:
        """Layers compute their features again in the backward pass; diffusers has no switch for this network."""
        for block in (*self.net.down_blocks, self.net.mid_block, *self.net.up_blocks):
            for name in ("resnets", "temp_convs", "attentions", "temp_attentions"):
                for layer in getattr(block, name, None) or []:
                    layer.__dict__.pop("forward", None)
                    if enabled:
                        layer.forward = partial(recomputed, layer.forward)
