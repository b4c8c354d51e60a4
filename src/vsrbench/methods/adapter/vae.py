"""VAEs that decode a clip: one whose decoder also reads the LR frames (Upscale-A-Video's), and plain ones per frame."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.diffusion.prior import to_network
from vsrbench.errors import ConfigError
from vsrbench.methods.adapter.temporal import Inflated, clip_norm, fold, over_time, resnet, unfold
from vsrbench.methods.adapter.unet import place
from vsrbench.nn.functional import zero_init


class Residual3D(nn.Module):
    """x + Conv3d(SiLU(norm x)), where the convolution starts at zero. kernel: over time, height and width."""

    def __init__(self, channels: int, groups: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.norm_3d = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv_3d = nn.Conv3d(channels, channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2))
        zero_init(self.conv_3d)

    def forward(self, x: Tensor, frames: int, whole: bool) -> Tensor:
        """x: (B*T,C,H,W)."""
        hidden = unfold(F.silu(clip_norm(self.norm_3d, x, frames, whole)), frames)
        if self.conv_3d.kernel_size[1:] == (1, 1):
            return x + fold(over_time(self.conv_3d, hidden), x)
        hidden = self.conv_3d(rearrange(hidden, "b c t (h w) -> b c t h w", h=x.shape[-2]))
        return x + rearrange(hidden, "b c t h w -> (b t) c h w")


class ResidualLayer(nn.Module):
    """Frames + convolution of the frames: the trainable layer behind the VAE's decoder of Sec. 4.1.2.

    ours: the thesis gives no shape; one 3x3 convolution of RGB, which starts at zero (84 parameters).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = zero_init(nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, frames: Tensor) -> Tensor:
        """(B,T,3,H,W) to the same shape."""
        change = self.conv(rearrange(frames, "b t c h w -> (b t) c h w"))
        return frames + rearrange(change, "(b t) c h w -> b t c h w", b=len(frames))


def condition_resnet(inputs: int, outputs: int, groups: int, kernel: tuple[int, int, int]) -> Any:
    """A ResnetBlock2D that also holds a ``Residual3D``'s norm and convolution, under the published names."""
    first = 3 if inputs == 3 else groups
    block = _resnet_block()(
        in_channels=inputs, out_channels=outputs, temb_channels=None, groups=first, groups_out=groups, eps=1e-6
    )
    extra = Residual3D(outputs, groups, kernel)
    block.add_module("norm_3d", extra.norm_3d)
    block.add_module("conv_3d", extra.conv_3d)
    return block


def _resnet_block() -> Any:
    """diffusers' class, whose annotations do not know that there may be no time embedding."""
    from diffusers.models.resnet import ResnetBlock2D

    return ResnetBlock2D


class ClipVAE(Inflated):
    """``image`` is a diffusers AutoencoderKL; the encoder always runs frame by frame.

    sft: the decoder reads the clean LR frames, which have the latent's size: they are merged into its first feature by
    a learned scale and shift (SFT), and every ResBlock gets a convolution over space and time. These parts live in
    ``video`` under the published names and start so that the decoder equals the plain one, but for the scale and shift,
    whose convolutions start at zero only with inflate=True (ours).
    width: channels of the LR features. kernel: of the convolutions over space and time. whole_clip: see ``VideoUNet``.
    frames: decoded at once (Upscale-A-Video: 3).
    """

    def __init__(
        self,
        image: Any,
        sft: bool,
        width: int = 128,
        kernel: tuple[int, int, int] = (3, 3, 3),
        whole_clip: bool = True,
        frames: int = 3,
        inflate: bool = False,
    ) -> None:
        super().__init__()
        self.image, self.sft, self.whole_clip, self.frames = image, sft, whole_clip, frames
        self.video = nn.Module()
        if not sft:
            return
        groups, decoder = image.config.norm_num_groups, image.decoder
        channels = decoder.conv_in.out_channels
        for number, inputs in enumerate((3, width)):
            place(self.video, f"decoder.condition_in.{number}", condition_resnet(inputs, width, groups, kernel))
        for number, inputs in enumerate((width + channels, channels)):
            shared = _resnet_block()(
                in_channels=inputs, out_channels=channels, temb_channels=None, groups=groups, eps=1e-6
            )
            place(self.video, f"decoder.condition_fuse.shared.{number}", shared)
        for name in ("scale", "shift"):
            conv = nn.Conv2d(channels, channels, 3, padding=1)
            if inflate:
                zero_init(conv)
            place(self.video, f"decoder.condition_fuse.{name}", conv)
        for path, module in decoder.named_modules():
            if isinstance(module, _resnet_block()):
                place(self.video, f"decoder.{path}", Residual3D(module.out_channels, groups, kernel))

    @property
    def factor(self) -> int:
        """HR pixels per latent pixel."""
        return 2 ** (len(self.image.config.block_out_channels) - 1)

    @property
    def scaling(self) -> float:
        return float(self.image.config.scaling_factor)

    @property
    def channels(self) -> int:
        return int(self.image.config.latent_channels)

    def encode(self, rgb: Tensor) -> Tensor:
        """RGB (N,3,H,W) in [0,1] to the latent's mode (N,4,H/factor,W/factor) as the U-Net sees it."""
        return self.image.encode(to_network(rgb)).latent_dist.mean * self.scaling

    def decode_frames(self, latent: Tensor) -> Tensor:
        """Latents (N,4,h,w) to RGB (N,3,H,W), nominally in [0,1], by the image decoder alone."""
        return self.image.decode(latent / self.scaling).sample / 2 + 0.5

    def decode(self, latent: Tensor, lr: Tensor) -> Tensor:
        """Latents (B,T,4,h,w) and LR frames (B,T,3,h,w) in [0,1] to RGB (B,T,3,H,W), not clamped.

        Raises ConfigError where the LR frames do not have the latent's size.
        """
        pieces = zip(latent.split(self.frames, 1), lr.split(self.frames, 1), strict=True)
        return torch.cat([self._decode(*piece) for piece in pieces], dim=1)

    def _decode(self, latent: Tensor, lr: Tensor) -> Tensor:
        folded = rearrange(latent, "b t c h w -> (b t) c h w")
        if not self.sft:
            return rearrange(self.decode_frames(folded), "(b t) c h w -> b t c h w", b=len(latent))
        if lr.shape[-2:] != latent.shape[-2:]:
            raise ConfigError(
                f"prior.vae=sft reads LR frames of the latent's size, {tuple(latent.shape[-2:])}, not "
                f"{tuple(lr.shape[-2:])}: use a VAE of factor 4 at scale 4"
            )
        hidden = self.image.decoder.conv_in(self.image.post_quant_conv(folded / self.scaling))
        rgb = self._walk(hidden, to_network(rearrange(lr, "b t c h w -> (b t) c h w")), latent.shape[1]) / 2 + 0.5
        return rearrange(rgb, "(b t) c h w -> b t c h w", b=len(latent))

    def _walk(self, hidden: Tensor, lr: Tensor, frames: int) -> Tensor:
        """The decoder behind its first convolution, (B*T,C,h,w) to (B*T,3,H,W)."""
        decoder, whole = self.image.decoder, self.whole_clip
        hidden = self._fuse(hidden, lr, frames)
        middle = decoder.mid_block
        hidden = self._unit("mid_block.resnets.0", hidden, frames)
        for number, attention in enumerate(middle.attentions):
            hidden = hidden if attention is None else attention(hidden)
            hidden = self._unit(f"mid_block.resnets.{number + 1}", hidden, frames)
        for number, block in enumerate(decoder.up_blocks):
            for unit in range(len(block.resnets)):
                hidden = self._unit(f"up_blocks.{number}.resnets.{unit}", hidden, frames)
            for upsampler in block.upsamplers or []:
                hidden = upsampler(hidden)
        return decoder.conv_out(F.silu(clip_norm(decoder.conv_norm_out, hidden, frames, whole)))

    def _unit(self, path: str, hidden: Tensor, frames: int) -> Tensor:
        hidden = resnet(self.image.decoder.get_submodule(path), hidden, None, frames, self.whole_clip)
        return self.video.get_submodule(f"decoder.{path}")(hidden, frames, self.whole_clip)

    def _fuse(self, hidden: Tensor, lr: Tensor, frames: int) -> Tensor:
        """hidden + hidden * scale + shift, both made from it and the LR features."""
        tree: Any = self.video.get_submodule("decoder")
        condition = lr
        for block in tree.condition_in.children():
            condition = resnet(block, condition, None, frames, self.whole_clip)
            condition = Residual3D.forward(block, condition, frames, self.whole_clip)  # it has the same two layers
        shared = torch.cat([condition, hidden], dim=1)
        for block in tree.condition_fuse.shared.children():
            shared = resnet(block, shared, None, frames, self.whole_clip)
        return hidden + hidden * tree.condition_fuse.scale(shared) + tree.condition_fuse.shift(shared)
