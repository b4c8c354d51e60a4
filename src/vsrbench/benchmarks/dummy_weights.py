"""Seeded random weights in the form of the published files, where those are absent: time does not depend on values.

What a metric says with them is not that metric.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.metrics.perceptual import ALEXNET, RECIPES, VGG16, find, weights_folder

INCEPTION = RECIPES["fid"].files[0]
HEADS = {"lpips_alex": (64, 192, 384, 256, 256), "lpips_vgg": (64, 128, 256, 512, 512)}
DISTS_CHANNELS = 1475


def fill(folder: Path, names: list[str]) -> list[str]:
    """Link the files that the metrics need into ``folder``, random weights where they are absent; the latter's metrics.

    names: of ``RECIPES``. Metrics without random weights stay without files.
    """
    replaced = []
    for name in names:
        random = False
        for file in RECIPES[name].files:
            source, place = find(file, weights_folder()), folder / file
            if source is not None:
                place = folder / source.name
                if not place.exists():
                    place.symlink_to(source.resolve())
            elif (state := _state(name, file)) is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                torch.save(state, place)
                random = True
        if random and all(find(file, folder) for file in RECIPES[name].files):
            replaced.append(name)
    return replaced


def _state(name: str, file: str) -> dict[str, Any] | None:
    if file in (ALEXNET, VGG16):
        return _classifier(file)
    if file == INCEPTION:
        return _inception()
    if name in HEADS:
        return {f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) / c for n, c in enumerate(HEADS[name])}
    if name == "dists":
        return {key: torch.full((1, DISTS_CHANNELS, 1, 1), 0.5 / DISTS_CHANNELS) for key in ("alpha", "beta")}
    return None


def _classifier(file: str) -> dict[str, Tensor]:
    from torchvision.models import alexnet, vgg16

    with torch.device("meta"):
        net = (alexnet if file == ALEXNET else vgg16)(weights=None)
    return {key: _random(key, value) for key, value in net.state_dict().items()}


def _inception() -> dict[str, Tensor]:
    from pyiqa.archs import inception

    load = inception.load_pretrained_network
    inception.load_pretrained_network = lambda *_: None
    try:
        with torch.device("meta"):
            net: nn.Module = inception.fid_inception_v3()
    finally:
        inception.load_pretrained_network = load
    return {key: _random(key, value) for key, value in net.state_dict().items()}


def _random(key: str, like: Tensor) -> Tensor:
    """He's initialisation for convolutions, the identity for normalisation, one shared zero for what is not used."""
    if like.ndim == 4:
        generator = torch.Generator().manual_seed(len(key) + like.numel())
        return torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
    value = float(key.endswith(("running_var", "bn.weight")))
    return torch.tensor(value).to(like.dtype).expand(like.shape)
