"""Weights in the layouts that other people's code writes: finding them, reading them strictly, a key report."""

from pathlib import Path
from typing import Any

from torch import Tensor

from vsrbench.diffusion.hub import Wanted, locate
from vsrbench.diffusion.layout import FILES, read_json, weight_files
from vsrbench.diffusion.weights import key_report, read_weights
from vsrbench.errors import WeightsError

__all__ = ["CLASSES", "FILES", "find_released", "key_report", "read_released", "refuse_class"]

# Classes of trained parts, as their config.json names them; unet/ and vae/ beside them belong to the prior.
CLASSES = ("DGAFNetModel", "BrushNetModel", "ControlNetModel")


def find_released(source: Path) -> Path | None:
    """The weights file of a trained part in a folder of diffusers' layout, in one of its subfolders, or on the hub.

    source: folder, or a hub id such as ``owner/name`` (then it is fetched). None where there is none.
    Raises WeightsError where a folder holds several, or a config without weights.
    """
    folder = source
    if not source.exists():
        if len(source.parts) != 2 or source.is_absolute() or str(source).startswith((".", "~")):
            return None
        folder = locate(str(source), "ckpt_path", TRAINED_PART)
    if not folder.is_dir():
        return None
    found = _trained_parts(folder)
    if len(found) > 1:
        names = ", ".join(f.name for f in found)
        raise WeightsError(f"{folder} holds several trained parts ({names}): give the folder of one of them")
    if not found:
        return None
    files = weight_files(found[0])
    if not files:
        raise WeightsError(f"{found[0]} has a config.json but none of {', '.join(FILES)}")
    return files[0]


def read_released(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, state dict in float32) of a part's folder; ``module.`` prefixes of DDP are taken off.

    Pickles are read with ``weights_only``. Raises WeightsError for files that are absent or damaged.
    """
    return read_json(folder / "config.json"), read_weights(folder)


def refuse_class(config: dict[str, Any], folder: Path, allowed: tuple[str, ...], method: str) -> None:
    """Raise WeightsError where a folder's config names the trained part of another method."""
    named = config.get("_class_name")
    if named not in allowed:
        raise WeightsError(
            f"{folder / 'config.json'} is of class {named}; method={method} takes {' or '.join(allowed)}"
        )


def _trained_parts(folder: Path) -> list[Path]:
    folders = (folder, *sorted(p for p in folder.iterdir() if p.is_dir()))
    return [f for f in folders if (f / "config.json").is_file() and _class_name(f) in CLASSES]


def _class_name(folder: Path) -> str | None:
    return read_json(folder / "config.json").get("_class_name")


TRAINED_PART = Wanted(
    ("config.json", "diffusion_pytorch_model*", "*/config.json", "*/diffusion_pytorch_model*"),
    complete=lambda folder: any(weight_files(part) for part in _trained_parts(folder)),
    skip=("unet/*", "vae/*", "text_encoder/*"),
    what=" with the trained part's config.json and weights",
)
