"""The two generators of Real-ESRGAN: RRDBNet (x4plus) and the compact network (animevideov3). Names are BasicSR's."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE, SHARE = 0.2, 0.2  # of the leaky ReLUs; of what a residual block adds


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each of which sees all that came before (ESRGAN, Wang et al. 2018, Fig. 4)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 5):
            inputs = channels + (number - 1) * growth
            self.add_module(f"conv{number}", nn.Conv2d(inputs, growth, 3, padding=1))
        self.conv5 = nn.Conv2d(channels + 4 * growth, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) to the same shape."""
        maps = [x]
        for number in range(1, 5):
            convolution = self.get_submodule(f"conv{number}")
            maps.append(F.leaky_relu(convolution(torch.cat(maps, dim=1)), SLOPE))
        return x + SHARE * self.conv5(torch.cat(maps, dim=1))


class ResidualInResidual(nn.Module):
    """Three dense blocks around a residual of their own."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(channels, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) to the same shape."""
        return x + SHARE * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """ESRGAN's generator for factor 4; 16,697,987 parameters at 64 channels, 23 blocks and growth 32."""

    def __init__(self, channels: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualInResidual(channels, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_up1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_up2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_hr = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_last = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        """LR (N,3,h,w) in [0,1] to RGB (N,3,4h,4w), not clipped."""
        x = self.conv_first(lr)
        x = x + self.conv_body(self.body(x))
        for convolution in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))


class CompactNet(nn.Module):
    """Convolutions with PReLUs at LR, a pixel shuffle, the nearest LR pixel as residual; 621,424 parameters at 64
    channels and 16 layers."""

    def __init__(self, channels: int = 64, layers: int = 16, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        body: list[nn.Module] = []
        for inputs in (3, *[channels] * layers):
            body += [nn.Conv2d(inputs, channels, 3, padding=1), nn.PReLU(channels)]
        self.body = nn.Sequential(*body, nn.Conv2d(channels, 3 * scale**2, 3, padding=1))

    def forward(self, lr: Tensor) -> Tensor:
        """LR (N,3,h,w) in [0,1] to RGB (N,3,scale*h,scale*w), not clipped."""
        nearest = F.interpolate(lr, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(self.body(lr), self.scale) + nearest
