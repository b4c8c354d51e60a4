"""The Temporal Conditioning Module of StableVSR (Sec. 4.1): a ControlNet over the frozen denoising U-Net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.guided import Residuals
from vsrbench.diffusion.prior import to_network


class TemporalConditioning(nn.Module):
    """TCM: a trainable copy of the U-Net's encoder and middle, conditioned on an HR frame.

    embedding: channels of the network that brings the HR frame to the latent grid with two strides of 2
    ((64, 128, 256) at size=paper: 207,699,264 parameters). channels: of the conditioning frame, 3 for RGB, 4 for a
    latent that is enlarged to HR (Table 4, "no latent-RGB conversion").
    """

    def __init__(self, unet: Any, embedding: Sequence[int] = (64, 128, 256), channels: int = 3) -> None:
        super().__init__()
        from diffusers import ControlNetModel

        self.net: Any = ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=tuple(embedding), conditioning_channels=channels
        )

    def forward(
        self,
        x: Tensor,
        lr: Tensor,
        texture: Tensor,
        t: Tensor | int,
        prompt: Tensor,
        labels: Tensor | None,
        checkpointing: bool = False,
    ) -> Residuals:
        """What is added to the U-Net's skips and middle (Fig. 2).

        x: (B,4,h,w); lr: (B,3,h,w) in [0,1]; texture: (B,channels,4h,4w), RGB in about [-1,1]; t: (B,) or one number.
        """
        if checkpointing != self.net.is_gradient_checkpointing:
            (self.net.enable_gradient_checkpointing if checkpointing else self.net.disable_gradient_checkpointing)()
        encoder, middle = self.net(
            torch.cat([x, to_network(lr)], dim=1),
            torch.as_tensor(t, device=x.device),
            prompt.expand(len(x), -1, -1),
            texture,
            class_labels=None if labels is None else labels.expand(len(x)),
            return_dict=False,
        )
        return Residuals(list(encoder), middle, [], in_stream=False)
