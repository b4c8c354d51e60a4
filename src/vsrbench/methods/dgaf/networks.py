"""DGAF-VSR's two modules inside a diffusion step: OGWM (Sec. 4.1) and the guiding U-Net of FTCM (Sec. 4.2)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.diffusion.guided import Residuals, features, places
from vsrbench.diffusion.prior import to_network
from vsrbench.flow.warp import resize_flow, warp


def upscale_warp_downscale(x0: Tensor, flow: Tensor, factor: int = 4, align: str = "exact") -> Tensor:
    """OGWM: bring a neighbour's x0 (B,4,h,w) onto the current frame's grid (Sec. 4.1, steps a-c).

    flow: flow[current→neighbour] (B,2,H,W) on any grid, in pixels of that grid; brought to (factor*h, factor*w).
    Nearest up, bilinear warp, nearest down. Nearest downscaling keeps one sample per cell.
    ours: the sample at (factor//2, factor//2), the one next to the cell's centre; the paper does not say which.
    """
    height, width = x0.shape[-2:]
    size = (factor * height, factor * width)
    flow = flow if flow.shape[-2:] == size else resize_flow(flow, size)
    enlarged = F.interpolate(x0, size=size, mode="nearest")
    return warp(enlarged, flow, align)[..., factor // 2 :: factor, factor // 2 :: factor]


class GuidingUNet(nn.Module):
    """GU of Eq. 4: a complete U-Net (attention included) over [x_t, LR, aligned x0], 4 + 3 + 4 channels.

    One zero-initialised 1x1 convolution per place carries its features into the frozen denoising U-Net, so an
    untrained guide changes nothing. The guide starts as a copy of that U-Net.
    ours: the four new input channels start at zero, so the copy computes what the prior computes.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        self.net: Any = UNet2DConditionModel.from_config({**unet.config, "in_channels": unet.config.in_channels + 4})
        self.net.conv_norm_out = self.net.conv_act = self.net.conv_out = None  # the guide has no output head
        encoder, middle, decoder = places(self.net)
        self.zero_encoder = nn.ModuleList(zero_conv(c) for c in encoder)
        self.zero_middle = zero_conv(middle)
        self.zero_decoder = nn.ModuleList(zero_conv(c) for c in decoder)
        self.copy_from(unet)

    @torch.no_grad()
    def copy_from(self, unet: Any) -> None:
        """Start from the denoising U-Net's weights."""
        own = self.net.state_dict()
        state = {k: v for k, v in unet.state_dict().items() if k in own}
        conv_in = torch.zeros_like(own["conv_in.weight"])
        conv_in[:, : unet.config.in_channels] = state["conv_in.weight"]
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
        found = features(self.net, joined, t, prompt, labels, checkpointing)
        return Residuals(
            [conv(f) for conv, f in zip(self.zero_encoder, found.encoder, strict=True)],
            self.zero_middle(found.middle),
            [conv(f) for conv, f in zip(self.zero_decoder, found.decoder, strict=True)],
        )


def zero_conv(channels: int) -> nn.Conv2d:
    """1x1 convolution that starts at zero (Sec. 4.2)."""
    conv = nn.Conv2d(channels, channels, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
