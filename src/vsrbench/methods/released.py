"""Weights in the layouts that other people's code writes: finding them, reading them strictly, a key report."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsrbench.diffusion.weights import locate, read_safetensors
from vsrbench.errors import WeightsError

# Classes of trained parts, as their config.json names them; unet/ and vae/ beside them belong to the prior.
CLASSES = ("DGAFNetModel", "BrushNetModel", "ControlNetModel")
FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)


def find_released(source: Path) -> Path | None:
    """The weights file of a trained part in a folder of diffusers' layout, in one of its subfolders, or on the hub.

    source: folder, or a hub id such as ``owner/name`` (then it is fetched). None where there is none.
    Raises WeightsError where a folder holds several, or a config without weights.
    """
    folder = source
    if not source.exists():
        if len(source.parts) != 2 or source.is_absolute() or str(source).startswith((".", "~")):
            return None
        folder = locate(str(source), "ckpt_path", ["*/config.json", "*/diffusion_pytorch_model*", "*.json"])
    if not folder.is_dir():
        return None
    found = [f for f in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())) if _class_name(f) in CLASSES]
    if len(found) > 1:
        names = ", ".join(f.name for f in found)
        raise WeightsError(f"{folder} holds several trained parts ({names}): give the folder of one of them")
    if not found:
        return None
    for name in FILES:
        if (found[0] / name).is_file():
            return found[0] / name
    raise WeightsError(f"{found[0]} has a config.json but none of {', '.join(FILES)}")


def read_released(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, state dict in float32) of a part's folder; ``module.`` prefixes of DDP are taken off.

    Pickles are read with ``weights_only``. Raises WeightsError for files that are absent or damaged.
    """
    config = json.loads((folder / "config.json").read_text())
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise WeightsError(f"{folder} has none of {', '.join(FILES)}")
    if file.suffix == ".safetensors":
        state = read_safetensors(file)
    else:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise WeightsError(f"{file} cannot be read ({error}): it may be truncated; fetch it again") from error
    return config, {key.removeprefix("module."): value.float() for key, value in state.items()}


def key_report(own: Mapping[str, Tensor], values: Mapping[str, Tensor], where: str) -> str:
    """One line about weights that fit. Raises WeightsError listing what is missing, unexpected or of another shape."""
    missing = sorted(own.keys() - values.keys())
    unexpected = sorted(values.keys() - own.keys())
    shared = own.keys() & values.keys()
    shapes = sorted(
        f"{k} {tuple(values[k].shape)} for {tuple(own[k].shape)}" for k in shared if own[k].shape != values[k].shape
    )
    if missing or unexpected or shapes:
        raise WeightsError(
            f"{where}: {len(shared) - len(shapes)} of {len(own)} tensors fit; {len(missing)} missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}, {len(shapes)} of wrong shape {shapes[:3]}"
        )
    return f"{where}: all {len(own)} tensors fit"


def _class_name(folder: Path) -> str | None:
    config = folder / "config.json"
    if not config.is_file():
        return None
    try:
        return json.loads(config.read_text()).get("_class_name")
    except json.JSONDecodeError as error:
        raise WeightsError(f"{config} is not valid JSON ({error})") from error
