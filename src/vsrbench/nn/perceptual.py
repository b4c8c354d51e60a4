"""Feature losses: LPIPS over VGG16, and random features where they are asked for by name.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018).
"""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.errors import WeightsError
from vsrbench.nn.functional import full_precision, precise
from vsrbench.weights.cache import fetched
from vsrbench.weights.files import read
from vsrbench.weights.report import load_strictly, no_weights

VGG16 = "checkpoints/vgg16-397923af.pth"  # torchvision's file, below torch.hub.get_dir()
LINEAR = "pyiqa/LPIPS_v0.1_vgg-a78928a0.pth"  # IQA-PyTorch's copy of LPIPS v0.1
TAPS = (3, 8, 15, 22, 29)  # torchvision's indices of relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
Features = Literal["lpips_vgg", "random_features"]


class LPIPS(nn.Module):
    """LPIPS v0.1 over VGG16, from two files. Raises WeightsError for a file that does not hold these weights."""

    name = "lpips_vgg"

    def __init__(self, vgg: Path, linear: Path) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        net = make_layers(cfgs["D"])  # without the classifier, nine tenths of VGG16
        weights = {
            key.removeprefix("features."): value
            for key, value in read(vgg, "module.features").tensors.items()
            if "features." in key
        }
        load_strictly(net, weights, f"{vgg} is no VGG16 of torchvision")
        self.layers: Any = net[: TAPS[-1] + 1]
        for layer in self.layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # features are kept
        heads = read(linear, "module.features").tensors
        names = [f"lin{n}.model.1.weight" for n in range(len(TAPS))]
        missing = [name for name in names if name not in heads]
        if missing:
            raise WeightsError(f"{linear} lacks {', '.join(missing)}: give the linear weights of LPIPS v0.1 for VGG")
        for number, name in enumerate(names):
            self.register_buffer(f"linear{number}", heads[name].float())
        # LPIPS's own normalisation of [-1,1]
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("spread", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, output: Tensor, truth: Tensor) -> Tensor:
        """Mean distance of frames (N,3,H,W) in [0,1]; at least 16x16 pixels."""
        with full_precision(output.device):
            frames = precise(torch.cat([output, truth]))
            x = (2 * frames - 1 - self.get_buffer("shift")) / self.get_buffer("spread")
            total = x.new_zeros(())
            for number, layer in enumerate(self.layers):
                x = layer(x)
                if number in TAPS:
                    distance = _distances(x, 1e-10)
                    weight = self.get_buffer(f"linear{TAPS.index(number)}")
                    total = total + F.conv2d(distance, weight).mean()
        return total


class RandomFeatures(nn.Module):
    """For where LPIPS cannot be had: three convolutions with fixed random weights, each on half the size.

    # ours: random filters see edges and texture at three scales without any file. Its value is no LPIPS and must
    not be quoted as one.
    """

    name = "random_features"

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64), seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.count, inputs = len(widths), 3
        for level, width in enumerate(widths):
            weight = torch.randn(width, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
            # Filters of the frame itself sum to zero: what they see is structure, not brightness.
            self.register_buffer(f"weight{level}", weight - weight.mean((2, 3), keepdim=True) if level == 0 else weight)
            inputs = width

    def forward(self, output: Tensor, truth: Tensor) -> Tensor:
        """One minus the cosine of features, over scales and places, of frames (N,3,H,W) in [0,1]; at least 8x8."""
        with full_precision(output.device):
            x = 2 * precise(torch.cat([output, truth])) - 1
            total = x.new_zeros(())
            for level in range(self.count):
                x = F.avg_pool2d(x, 2) if level else x
                x = F.relu(F.conv2d(x, self.get_buffer(f"weight{level}"), padding=1))
                total = total + _distances(x, 1e-2).sum(1).mean()
        return total / (2 * self.count)


def _distances(features: Tensor, eps: float) -> Tensor:
    """Squared differences of the two halves of (2N,C,H,W), each position's channels brought to length 1.

    eps: added to the length; the stand-in has more of it, since flat places have features near zero.
    """
    length = (features.square().sum(1, keepdim=True) + 1e-20).sqrt()
    output, truth = (features / (length + eps)).chunk(2)
    return (output - truth).square()


def feature_loss(name: Features) -> nn.Module:
    """The network of a feature loss; its ``name`` says which it is. Raises WeightsError where LPIPS has no weights."""
    if name == "random_features":
        return RandomFeatures()
    check_lpips()
    return LPIPS(*_files())


def check_lpips() -> None:
    """Raise WeightsError naming the files of LPIPS that are absent."""
    absent = [str(file) for file in _files() if not file.is_file()]
    if absent:
        raise no_weights(
            "LPIPS",
            "`vsrbench weights fetch lpips`, or put the files of torchvision and IQA-PyTorch there (TORCH_HOME moves "
            f"the folder): {', '.join(absent)}",
            "module.features=random_features (fixed random filters, no LPIPS)",
        )


def _files() -> list[Path]:
    """In torch's hub folder, or fetched."""
    names = {VGG16: "vgg16", LINEAR: "lpips_vgg"}
    known = {file: fetched(name) for file, name in names.items()}
    return [known[file] or Path(torch.hub.get_dir()) / file for file in names]
