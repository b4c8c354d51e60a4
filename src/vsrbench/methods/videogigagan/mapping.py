"""From a random vector to the style of a clip."""

from torch import Tensor, nn

from vsrbench.nn.functional import full_precision
from vsrbench.nn.modulated import GAIN, EqualLinear, leaky_relu

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
