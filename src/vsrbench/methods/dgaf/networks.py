"""The guiding U-Net of DGAF-VSR's FTCM (Sec. 4.2), as printed and as released."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.guided import Residuals, features, places
from vsrbench.diffusion.prior import to_network
from vsrbench.nn.functional import zero_init


class GuidingUNet(nn.Module):
    """GU of Eq. 4: a U-Net over [x_t, LR, aligned x0], 4 + 3 + 4 channels.

    One zero-initialised 1x1 convolution per place carries its features into the frozen denoising U-Net, so an
    untrained guide changes nothing. The guide starts as a copy of that U-Net.

    attention: the printed "complete U-Net" has it; the released network has plain blocks only (277 M parameters).
    dense: guide the decoder too; without it the guide ends after its middle block.
    new_channels: how the weights of the four channels of x0 start. "zero" (ours): the copy computes what the prior
    computes. "copy" (released): as the prior's own latent channels. Raises ConfigError for another word.
    """

    @check_arguments("method")
    def __init__(
        self, unet: Any, attention: bool = True, dense: bool = True, new_channels: Literal["zero", "copy"] = "zero"
    ) -> None:
        super().__init__()
        self.dense = dense
        self.net: Any = _network(unet, attention)
        self.net.conv_norm_out = self.net.conv_act = self.net.conv_out = None  # the guide has no output head
        if not dense:
            self.net.up_blocks = None
        encoder, middle, decoder = places(self.net)
        self.zero_encoder = nn.ModuleList(zero_conv(c) for c in encoder)
        self.zero_middle = zero_conv(middle)
        self.zero_decoder = nn.ModuleList(zero_conv(c) for c in decoder)
        self.copy_from(unet, new_channels)

    @torch.no_grad()
    def copy_from(self, unet: Any, new_channels: str) -> None:
        """Start from the denoising U-Net's weights, as far as the guide has such parts."""
        own, channels = self.net.state_dict(), unet.config.in_channels
        state = {k: v for k, v in unet.state_dict().items() if k in own}
        conv_in = torch.zeros_like(own["conv_in.weight"])
        conv_in[:, :channels] = state["conv_in.weight"]
        if new_channels == "copy":
            conv_in[:, channels:] = state["conv_in.weight"][:, : conv_in.shape[1] - channels]
        self.net.load_state_dict({**state, "conv_in.weight": conv_in})

    def forward(
        self,
        x: Tensor,
        lr: Tensor,
        aligned: Tensor,
        t: Tensor | int,
        prompt: Tensor,
        labels: Tensor | None,
        checkpointing: bool = False,
    ) -> Residuals:
        """Conv(GU([x_t, LR, aligned x0])) of Eq. 4 at every place.

        x, aligned: (B,4,h,w); lr: (B,3,h,w) in [0,1]; t: (B,) or one number.
        """
        joined = torch.cat([x, to_network(lr), aligned], dim=1)
        maps = features(self.net, joined, t, prompt, labels, checkpointing, self.dense)
        return Residuals(
            [conv(f) for conv, f in zip(self.zero_encoder, maps.encoder, strict=True)],
            self.zero_middle(maps.middle),
            [conv(f) for conv, f in zip(self.zero_decoder, maps.decoder, strict=True)],
        )


def _network(unet: Any, attention: bool) -> Any:
    """A U-Net of the prior's shapes with four more input channels; without attention: plain blocks everywhere."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D

    config = {**unet.config, "in_channels": unet.config.in_channels + 4}
    if attention:
        return UNet2DConditionModel.from_config(config)
    for key in ("down_block_types", "up_block_types"):
        config[key] = [name.replace("CrossAttn", "") for name in config[key]]
    net: Any = UNet2DConditionModel.from_config({**config, "mid_block_type": None})
    net.mid_block = UNetMidBlock2D(
        in_channels=net.config.block_out_channels[-1],
        temb_channels=net.time_embedding.linear_2.out_features,
        num_layers=1,  # two residual units
        resnet_eps=net.config.norm_eps,
        resnet_act_fn=net.config.act_fn,
        resnet_groups=net.config.norm_num_groups,
        resnet_time_scale_shift=net.config.resnet_time_scale_shift,
        output_scale_factor=net.config.mid_block_scale_factor,
        add_attention=False,
    )
    return net


def zero_conv(channels: int) -> nn.Conv2d:
    """1x1 convolution that starts at zero (Sec. 4.2)."""
    return zero_init(nn.Conv2d(channels, channels, 1))
