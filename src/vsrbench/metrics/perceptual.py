"""Learned and statistical image metrics from pyiqa, an optional package under a non-commercial licence.

A metric is made only from files that are on this machine, and only from the published ones: pyiqa itself would fetch
them over the network, late and without a time limit, and takes any file that has the right name.
"""

import contextlib
import hashlib
import importlib.util
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsrbench.errors import ConfigError
from vsrbench.weights.cache import folder as fetched_folder
from vsrbench.weights.catalogue import catalogue

VARIABLE = "VSRBENCH_METRIC_WEIGHTS"
PIXELS = 4_000_000  # ours: of the frames that a network takes at once, four of 720p; VGG16 keeps 0.5 GB for each


@dataclass(frozen=True)
class Recipe:
    """What a metric is made from.

    pyiqa: its name there, None where pyiqa is not needed. reference: it compares with a second frame. files: what it
    reads, below torch's hub folder. options: settings of pyiqa's class. packages: what it imports besides, with the
    remedy where one is absent. least: pixels of the shorter side that its blocks or poolings need.
    """

    pyiqa: str | None
    reference: bool
    files: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    least: int = 1


ALEXNET = "checkpoints/alexnet-owt-7be5be79.pth"
VGG16 = "checkpoints/vgg16-397923af.pth"
NIQE = "pyiqa/niqe_modelparameters.mat"
CLIP = "clip/RN50.pt"
STLPIPS = {"alex": "stlpips/alex_shift_tolerant.pth", "vgg": "stlpips/vgg_shift_tolerant.pth"}
CLIP_NEEDS = {
    "clip": "pip install openai-clip",
    "pkg_resources": "pip install 'setuptools<81' (the package clip imports pkg_resources, which newer ones lack)",
}
RECIPES = {
    "lpips_alex": Recipe("lpips", True, (ALEXNET, "pyiqa/LPIPS_v0.1_alex-df73285e.pth"), least=31),
    "lpips_vgg": Recipe("lpips-vgg", True, (VGG16, "pyiqa/LPIPS_v0.1_vgg-a78928a0.pth"), least=16),
    # shift-tolerant LPIPS (Ghildyal and Liu 2022): networks and values of its own, never to be called LPIPS
    "stlpips_alex": Recipe("stlpips", True, (STLPIPS["alex"],), least=32),
    "stlpips_vgg": Recipe("stlpips-vgg", True, (STLPIPS["vgg"],), least=32),
    "dists": Recipe("dists", True, (VGG16, "pyiqa/DISTS_weights-f5e65c96.pth")),
    "musiq": Recipe("musiq", False, ("pyiqa/musiq_koniq_ckpt-e95806b9.pth",)),
    "clipiqa": Recipe("clipiqa", False, (CLIP,), packages=CLIP_NEEDS),
    "niqe": Recipe("niqe", False, (NIQE,), least=96),
    # BasicSR's luma (16..235) instead of pyiqa's full range; otherwise the same computation
    "niqe_basicsr": Recipe("niqe", False, (NIQE,), {"color_space": "ycbcr"}, least=96),
    "fid": Recipe("fid", True, ("pyiqa/pt_inception-2015-12-05-6726825d.pth",)),
    "ewarp_thesis": Recipe(None, False, (VGG16,)),
}
PUBLISHERS = {"pyiqa": "IQA-PyTorch", "checkpoints": "torchvision", "clip": "OpenAI CLIP", "stlpips": "stlpips-pytorch"}
INSTEAD = {NIQE: "niqe_pris_params.npz"}  # BasicSR's file of the same parameters
SHA256 = {
    CLIP: "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    INSTEAD[NIQE]: "2a7c182a",
    STLPIPS["alex"]: "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
    STLPIPS["vgg"]: "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
}


SMALL = "pixels or more a side"


def too_small(metric: str, height: int, width: int) -> str | None:
    """Why a metric (a key of ``RECIPES``) has no value for frames of this size; None where it has."""
    least = RECIPES[metric].least
    return f"it needs frames of {least} {SMALL}, these have {width}x{height}" if min(height, width) < least else None


class Perceptual:
    """One metric, ready to be called.

    ``metric(out, reference) -> float`` for frames (3,H,W), ``metric.batch(out, reference)`` for (N,3,H,W); RGB in
    [0,1]. ``metrics.catalog`` says which way is better.
    """

    def __init__(self, recipe: Recipe, device: str = "cpu", folder: Path | None = None) -> None:
        import pyiqa
        import pyiqa.utils.download_util

        self.reference = recipe.reference
        with staged(recipe.files, folder) as hub, contextlib.redirect_stdout(io.StringIO()):
            options = dict(recipe.options)
            if CLIP in recipe.files:
                options = {"backbone": str(hub / CLIP)}
            if recipe.files[0] in STLPIPS.values():
                options = {"pretrained_model_path": str(hub / recipe.files[0])}
            self.net: Any = pyiqa.create_metric(recipe.pyiqa, device=device, **options)

    def __call__(self, out: Tensor, reference: Tensor | None) -> float:
        """One frame; the reference is left out by metrics that need none."""
        return float(self.batch(out[None], None if reference is None else reference[None]))

    def batch(self, out: Tensor, reference: Tensor | None = None) -> Tensor:
        """Values (N,) float64 of frames (N,3,H,W); a frame's value does not depend on the others."""
        frames = [out] if not self.reference or reference is None else [out, reference]
        groups = zip(*(frame.split(at_once(out)) for frame in frames), strict=True)
        return torch.cat([self.net(*group).reshape(-1).double() for group in groups])


class Lpips(Perceptual):
    """LPIPS whose features can be kept, so that a frame in three comparisons passes the network once."""

    @torch.no_grad()
    def features(self, frames: Tensor) -> list[Tensor]:
        """Features of frames (N,3,H,W) in [0,1], layer by layer, of length 1 over the channels."""
        arch = self.net.net
        parts = []
        for group in frames.split(at_once(frames)):
            taps = arch.net(arch.scaling_layer(2 * group - 1))
            parts.append([x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in taps])
        return [torch.cat(layer) for layer in zip(*parts, strict=True)]

    @torch.no_grad()
    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """LPIPS (N,) float64 between frames whose features these are."""
        layers = zip(self.net.net.lins, first, second, strict=True)
        return torch.stack([head((a - b).square()).mean((1, 2, 3)).double() for head, a, b in layers]).sum(0)

    def batch(self, out: Tensor, reference: Tensor | None = None) -> Tensor:
        assert reference is not None
        size = at_once(out)
        groups = zip(out.split(size), reference.split(size), strict=True)
        return torch.cat([self.distance(self.features(a), self.features(b)) for a, b in groups])


def at_once(frames: Tensor) -> int:
    """How many frames of this size a network takes in one call."""
    return max(1, PIXELS // (frames.shape[-1] * frames.shape[-2]))


def weights_folder() -> Path:
    """Where weights of metrics are looked for: $VSRBENCH_METRIC_WEIGHTS, else torch's hub folder."""
    return Path(os.environ.get(VARIABLE) or torch.hub.get_dir()).expanduser()


def why_unavailable(name: str, folder: Path | None = None, verify: bool = True) -> str | None:
    """One line with the remedy when a metric cannot be computed on this machine, else None.

    folder: of the weights, None for ``weights_folder()``. verify: refuse files that are not the published ones;
    False is for stand-ins in tests and measurements of speed. Raises ConfigError for a name that is not in ``RECIPES``.
    """
    if name not in RECIPES:
        raise ConfigError(f"protocol.perceptual: unknown metric {name!r}; known are {', '.join(RECIPES)}")
    recipe, folder = RECIPES[name], folder or weights_folder()
    if recipe.pyiqa is not None and importlib.util.find_spec("pyiqa") is None:
        return "the package pyiqa is not installed: pip install 'vsrbench[metrics]'"
    for package, remedy in recipe.packages.items():
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed: {remedy}"
    for file in recipe.files:
        path, publisher = find(file, folder), PUBLISHERS[file.partition("/")[0]]
        if path is None:
            entry = next((e for e in catalogue() if f"{e.place}/{e.files}" == file and e.fetchable), None)
            fetch = f"`vsrbench weights fetch {entry.name}`, or " if entry else ""
            remedy = f"{VARIABLE} or TORCH_HOME moves the folder"
            return f"{folder / file} is missing: {fetch}put {publisher}'s file there ({remedy})"
        if verify and not is_published(path, file):
            return f"{path} is not the published file, its SHA-256 is another: put {publisher}'s file there"
    return None


def create(
    names: Iterable[str], device: str = "cpu", folder: Path | None = None, verify: bool = True
) -> dict[str, Perceptual | str]:
    """Every metric by name, or the reason why it is unavailable. Called before the first frame is read."""
    metrics: dict[str, Perceptual | str] = {}
    for name in names:
        kind = Lpips if name.startswith("lpips") else Perceptual
        metrics[name] = why_unavailable(name, folder, verify) or kind(RECIPES[name], device, folder)
    return metrics


def find(file: str, folder: Path) -> Path | None:
    """The file on disk: at its place below the folder, or directly in it, or BasicSR's file of the same content, or
    fetched (``weights.cache``)."""
    names = [file, Path(file).name, *([INSTEAD[file]] if file in INSTEAD else [])]
    places = [*(folder / name for name in names), fetched_folder() / file]
    return next((place for place in places if place.is_file()), None)


def is_published(path: Path, file: str) -> bool:
    """Whether the content has the SHA-256 that publishers put into names (``-df73285e.pth``), where one is known."""
    named = re.search(r"-([0-9a-f]{8})\.pth$", file)
    digest = SHA256.get(path.name, SHA256.get(file, named[1] if named else ""))
    return _sha256(path, path.stat().st_mtime_ns).startswith(digest)


@cache
def _sha256(path: Path, changed: int) -> str:
    """changed: time of the file's last change, so that a file that was replaced is read again."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextlib.contextmanager
def staged(files: Iterable[str], folder: Path | None = None) -> Iterator[Path]:
    """A temporary hub folder with links to exactly these files, which torch and pyiqa read from meanwhile.

    Raises ConfigError for a file that is not there.
    """
    import pyiqa.utils.download_util as download

    before, cached = torch.hub.get_dir(), download.DEFAULT_CACHE_DIR
    folder = folder or weights_folder()
    with tempfile.TemporaryDirectory(prefix="metric-weights-") as hub:
        for file in files:
            _link(file, folder, Path(hub) / file)
        torch.hub.set_dir(hub)
        download.DEFAULT_CACHE_DIR = os.path.join(hub, "pyiqa")
        try:
            yield Path(hub)
        finally:
            torch.hub.set_dir(before)
            download.DEFAULT_CACHE_DIR = cached


def _link(file: str, folder: Path, place: Path) -> None:
    path = find(file, folder)
    if path is None:
        raise ConfigError(f"{folder / file} is missing: {VARIABLE} or TORCH_HOME names the folder of metrics' weights")
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".npz":
        place.symlink_to(path.resolve())
        return
    import numpy as np
    from scipy.io import savemat

    content = np.load(path)
    savemat(place, {"mu_prisparam": content["mu_pris_param"], "cov_prisparam": content["cov_pris_param"]})
