"""VGG16 features for the thesis's E_warp."""

from pathlib import Path

import torch
from torch import Tensor, nn

from vsrbench.errors import WeightsError
from vsrbench.metrics.perceptual import VGG16, at_once, find, weights_folder
from vsrbench.weights.files import read
from vsrbench.weights.report import load_strictly

RELU2_2 = 8  # torchvision's index
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0,1]


class VGGFeatures(nn.Module):
    """relu2_2 of VGG16 at half the frames' size, of length 1 over the 128 channels.

    folder: of the weights, None for ``weights_folder()``. Raises WeightsError for a file that is absent or holds
    something else.

    ours: the thesis names no layer. relu2_2 still has fine texture, which is what flickers, and its grid is only half
    as coarse as the frames'.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        from torchvision.models import vgg16

        path = find(VGG16, folder or weights_folder())
        if path is None:
            raise WeightsError(f"{(folder or weights_folder()) / VGG16} is missing: put torchvision's file there")
        with torch.device("meta"):
            layers = vgg16(weights=None).features[: RELU2_2 + 1]
        state = {key.removeprefix("features."): value for key, value in read(path).tensors.items()}
        own = {key: value for key, value in state.items() if key in layers.state_dict()}  # without what is above
        load_strictly(layers, own, f"{path} is no VGG16 of torchvision", assign=True)
        self.layers = layers
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(N,3,H,W) RGB in [0,1] → (N,128,H/2,W/2)."""
        parts = [self.layers((group - self.mean) / self.std) for group in frames.split(at_once(frames))]
        return nn.functional.normalize(torch.cat(parts), dim=1, eps=1e-10)
