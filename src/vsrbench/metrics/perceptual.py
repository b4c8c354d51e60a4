"""Learned and statistical image metrics from pyiqa, an optional package under a non-commercial licence.

A metric is made only from files that are on this machine: pyiqa itself would fetch them over the network,
late and without a time limit.
"""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vsrbench.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """Name in pyiqa, whether it needs a reference frame, and the files it reads below ``torch.hub.get_dir()``."""

    pyiqa: str
    reference: bool
    files: tuple[str, ...]


ALEXNET = "checkpoints/alexnet-owt-7be5be79.pth"
VGG16 = "checkpoints/vgg16-397923af.pth"
RECIPES = {
    "lpips_alex": Recipe("lpips", True, (ALEXNET, "pyiqa/LPIPS_v0.1_alex-df73285e.pth")),
    "lpips_vgg": Recipe("lpips-vgg", True, (VGG16, "pyiqa/LPIPS_v0.1_vgg-a78928a0.pth")),
    "dists": Recipe("dists", True, (VGG16, "pyiqa/DISTS_weights-f5e65c96.pth")),
    "niqe": Recipe("niqe", False, ("pyiqa/niqe_modelparameters.mat",)),
}


class Perceptual:
    """One metric, ready to be called: ``metric(out, reference) -> float``; lower is better for all."""

    def __init__(self, recipe: Recipe, device: str = "cpu") -> None:
        import pyiqa

        self.reference = recipe.reference
        self.net: Any = pyiqa.create_metric(recipe.pyiqa, device=device)

    def __call__(self, out: Tensor, reference: Tensor | None) -> float:
        """out, reference: (3,H,W) RGB in [0,1]; the reference is left out by metrics that need none."""
        frames = [out] if not self.reference or reference is None else [out, reference]
        return float(self.net(*(frame[None] for frame in frames)))


def why_unavailable(name: str) -> str | None:
    """One line with the remedy when a metric cannot be computed on this machine, else None.

    Raises ConfigError for a name that is not in ``RECIPES``.
    """
    if name not in RECIPES:
        raise ConfigError(f"protocol.perceptual: unknown metric {name!r}; known are {', '.join(RECIPES)}")
    if importlib.util.find_spec("pyiqa") is None:
        return "the package pyiqa is not installed: pip install 'vsrbench[metrics]'"
    import torch

    for file in RECIPES[name].files:
        path = Path(torch.hub.get_dir()) / file
        if not path.is_file():
            publisher = "IQA-PyTorch" if file.startswith("pyiqa/") else "torchvision"
            return f"{path} is missing: put {publisher}'s file there (TORCH_HOME moves the folder)"
    return None


def create(names: Iterable[str], device: str = "cpu") -> dict[str, Perceptual | str]:
    """Every metric by name, or the reason why it is unavailable. Called before the first frame is read."""
    made: dict[str, Perceptual | str] = {}
    for name in names:
        made[name] = why_unavailable(name) or Perceptual(RECIPES[name], device)
    return made
