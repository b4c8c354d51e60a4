"""SATeCo's latent encoder E_z (Sec. 3.2): guidance for the UNet's decoder from the latent of the upscaled clip."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.errors import ConfigError


class LatentEncoder(nn.Module):
    """z (N,4,h,w) to one map per level of the UNet, finest first, with the UNet's own widths and sizes.

    ours, as the paper says "convolution-based" alone: one residual block per level, and between levels the UNet's own
    way to halve (kernel 3, stride 2, padding 1), which rounds odd sizes up as it does. No timestep goes in, so one
    pass serves all steps. Raises ConfigError for fewer than one block.
    """

    def __init__(self, latent_channels: int, widths: Sequence[int], blocks: int = 1, groups: int = 32) -> None:
        super().__init__()
        if blocks < 1:
            raise ConfigError(f"method.encoder.blocks={blocks}: use 1 or more")
        self.first = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.halve, self.levels = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for i, width in enumerate(widths):
            self.halve.append(nn.Conv2d(before, before, 3, stride=2, padding=1) if i else nn.Identity())
            stack = [ResBlock(before if j == 0 else width, width, groups) for j in range(blocks)]
            self.levels.append(nn.Sequential(*stack))
            before = width

    def forward(self, z: Tensor) -> list[Tensor]:
        x, maps = self.first(z), []
        for halve, level in zip(self.halve, self.levels, strict=True):
            x = level(halve(x))
            maps.append(x)
        return maps


class ResBlock(nn.Module):
    """Twice group norm, SiLU and a 3x3 convolution, added to x (through a 1x1 convolution where the widths differ)."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs), nn.GroupNorm(groups, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(hidden)))
