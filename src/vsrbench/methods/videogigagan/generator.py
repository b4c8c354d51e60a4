"""VideoGigaGAN's generator: the mapping network, propagation over the clip, then the U-Net in chunks of frames."""

from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.methods.videogigagan.front import Front
from vsrbench.methods.videogigagan.unet import UNet
from vsrbench.nn.functional import full_precision
from vsrbench.nn.modulated import GAIN, EqualLinear, NoiseMaps, Style, leaky_relu
from vsrbench.types import Progress

MULTIPLIER = 0.01  # of the learning rate (GigaGAN App. A, after StyleGAN)


class Mapping(nn.Module):
    """z (B,z) to w (B,w): z scaled to unit second moment, then fully connected layers with leaky ReLU, in fp32.

    z = 0 stays 0 and gives the style that does not depend on chance.
    """

    def __init__(self, z: int = 512, w: int = 512, layers: int = 4) -> None:
        super().__init__()
        self.z = z
        self.layers = nn.ModuleList(EqualLinear(z if i == 0 else w, w, 0.0, MULTIPLIER) for i in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        with full_precision(z.device):
            w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
            for layer in self.layers:
                w = leaky_relu(layer(w)) * GAIN
            return w


class Generator(nn.Module):
    """LR clips to HR clips.

    front: what propagates features over time before the U-Net; None without propagation. z, style, mapping_layers: of
    the mapping network. The rest describes the ``UNet``. With front=None and temporal=0 this is the image model; all
    that a video model has beside it starts at zero, so that with the image model's weights it makes the same frames.
    """

    def __init__(
        self, front: Front | None = None, z: int = 512, style: int = 512, mapping_layers: int = 4, **unet: Any
    ) -> None:
        super().__init__()
        self.mapping = Mapping(z, style, mapping_layers)
        self.front = front
        features = 0 if front is None else front.channels
        self.unet = UNet(style=style, features=features, **unet)

    def forward(
        self, lr: Tensor, z: Tensor, noise: NoiseMaps, chunk: int | None = None, progress: Progress | None = None
    ) -> Tensor:
        """lr (B,T,3,h,w) in [0,1], z (B,z): (B,T,3,s·h,s·w) around [0,1], not clamped.

        noise(layer, height, width) gives (B,1,height,width), one map per clip for all of its frames. chunk: frames that
        the U-Net takes at once, without overlap; None for the whole clip. The propagation always sees the whole clip
        (VideoGigaGAN Sec. 3.3). ours: style and noise are those of the clip, the same in all chunks.
        """
        style, frames = Style(self.mapping(z), noise), lr.shape[1]
        if progress is not None:
            progress.start(frames, "frames")
        clip = None if self.front is None else self.front.propagate(lr)
        parts = []
        for start in range(0, frames, chunk or frames):
            stop = min(start + (chunk or frames), frames)
            features = None if self.front is None or clip is None else self.front.around(clip, start, stop)
            parts.append(self.unet(lr[:, start:stop], features, style))
            if progress is not None:
                progress.advance(parts[-1].shape[1])
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table: what each counts. Together they hold every parameter once."""
        lines: dict[str, list[nn.Module]] = {"mapping": [self.mapping]}
        lines |= self.unet.parameter_groups()
        return lines if self.front is None else lines | self.front.parameter_groups()
