"""Residual blocks without normalisation and enlargement by pixel shuffles, as the BasicVSR line stacks them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.1  # of the leaky ReLUs of the BasicVSR line


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv x)), 3x3. Starts near the identity: Kaiming weights times 0.1, biases zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for convolution in (self.conv1, self.conv2):
            start_small(convolution)

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) to the same shape."""
        return x + self.conv2(torch.relu(self.conv1(x)))


class ConvResidualBlocks(nn.Module):
    """A 3x3 convolution with a leaky ReLU (slope 0.1), then ``blocks`` residual blocks.

    Parameter names are those of the published weights: ``main.0``, ``main.2.<block>.conv1`` and ``conv2``.
    """

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks))),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N,inputs,H,W) to (N,channels,H,W)."""
        return self.main(x)


class Upsample(nn.Module):
    """A 3x3 convolution and a pixel shuffle: twice the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.upsample_conv = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N,inputs,H,W) to (N,outputs,2H,2W)."""
        return F.pixel_shuffle(self.upsample_conv(x), 2)


def start_small(convolution: nn.Conv2d, factor: float = 0.1) -> None:
    """Kaiming's normal weights (for ReLU) times ``factor``, bias zero."""
    nn.init.kaiming_normal_(convolution.weight)
    with torch.no_grad():
        convolution.weight.mul_(factor)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
