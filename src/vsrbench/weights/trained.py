"""The trained part of a method: where its weights lie, and loading them from our layouts and those of released code."""

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vsrbench.errors import WeightsError
from vsrbench.weights import cache
from vsrbench.weights.catalogue import fetchable_names
from vsrbench.weights.files import read
from vsrbench.weights.folders import read_weights
from vsrbench.weights.hub import Selection, locate
from vsrbench.weights.layout import FILES, read_json, required_files, weight_files

IDENTITY = "vsrbench"  # key under which a checkpoint says what it belongs to
HALF = (torch.float16, torch.bfloat16)
# Classes of trained parts, as their config.json names them; unet/ and vae/ beside them belong to the prior.
CLASSES = ("DGAFNetModel", "BrushNetModel", "ControlNetModel")


class TrainedMethod(Protocol):
    """What of a method is needed to load its trained part."""

    def check_frozen(self, recorded: dict[str, str], trained: Iterable[str]) -> None: ...

    def load_trained_state(self, state: dict[str, Tensor]) -> None: ...

    def load_released(self, folder: Path) -> str: ...


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
    parts = _trained_parts(folder)
    if len(parts) > 1:
        names = ", ".join(f.name for f in parts)
        raise WeightsError(f"{folder} holds several trained parts ({names}): give the folder of one of them")
    if not parts:
        return None
    return required_files(parts[0])[0]


def read_released(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, state dict in float32) of a part's folder; ``module.`` prefixes of DDP are taken off.

    Pickles are read with ``weights_only``. Raises WeightsError for files that are absent or damaged.
    """
    return read_json(folder / "config.json"), read_weights(folder)


def check_class(config: dict[str, Any], folder: Path, allowed: tuple[str, ...], method: str) -> None:
    """Raise WeightsError where a folder's config names the trained part of another method."""
    name = config.get("_class_name")
    if name not in allowed:
        raise WeightsError(f"{folder / 'config.json'} is of class {name}; method={method} takes {' or '.join(allowed)}")


def _trained_parts(folder: Path) -> list[Path]:
    folders = (folder, *sorted(p for p in folder.iterdir() if p.is_dir()))
    return [f for f in folders if (f / "config.json").is_file() and _class_name(f) in CLASSES]


def _class_name(folder: Path) -> str | None:
    return read_json(folder / "config.json").get("_class_name")


TRAINED_PART = Selection(
    ("config.json", "diffusion_pytorch_model*", "*/config.json", "*/diffusion_pytorch_model*"),
    complete=lambda folder: any(weight_files(part) for part in _trained_parts(folder)),
    skip=("unet/*", "vae/*", "text_encoder/*"),
    what=" with the trained part's config.json and weights",
)


def weights_hash(part: nn.Module) -> str:
    """Hash of a module's parameters and buffers: names, shapes and values."""
    digest = hashlib.blake2b(digest_size=8)
    for key, value in sorted(part.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_trained(method: TrainedMethod, source: str) -> None:
    """Load trained parts from a safetensors file, a checkpoint, a run folder (``run_file``), or a folder or hub
    id in the layout of the released code, whose key report is printed.

    Averaged weights (EMA) are preferred where a checkpoint holds them. Raises WeightsError.
    """
    path = checkpoint_file(Path(source).expanduser())
    if path.parent.name == "checkpoints" and Path(source).expanduser().is_dir():
        print(f"ckpt_path={source}: {reason(path)}")
    if path.name in FILES and (path.parent / "config.json").is_file():
        print(method.load_released(path.parent))
        return
    state, metadata = read(path)
    state = {key: value.float() if value.dtype in HALF else value for key, value in state.items()}
    method.check_frozen(metadata.get("frozen", {}), {key.partition(".")[0] for key in state})
    method.load_trained_state(state)
    if metadata.get("ema"):
        method.load_trained_state({**state, **metadata["ema"]["shadow"]})


def checkpoint_file(path: Path) -> Path:
    """The weights file meant by a path: the file itself, ``run_file`` of a run folder, that of a released folder, or
    what is known by this name and was fetched."""
    if path.is_file():
        return path
    if not path.exists() and str(path) in fetchable_names():
        return cache.locate(str(path))
    for folder in (path, path / "checkpoints"):
        if (folder / "best.ckpt").is_file() or (folder / "last.ckpt").is_file():
            return run_file(folder)
    released = find_released(path)
    if released is not None:
        return released
    raise WeightsError(
        f"no weights at {path}: give a .safetensors or .ckpt file, a run folder with checkpoints, or a folder with "
        "config.json and diffusion_pytorch_model.safetensors"
    )


def run_file(folder: Path) -> Path:
    """The checkpoint that a run hands out: best.ckpt or last.ckpt, as its ``checkpoint.weights`` said; the one that is
    there where the run has one alone. Runs of versions without that setting hand out best.ckpt."""
    best, last = folder / "best.ckpt", folder / "last.ckpt"
    if not best.is_file() or not last.is_file():
        return best if best.is_file() else last
    return last if record(last).get("weights") == "last" else best


def record(file: Path) -> dict[str, Any]:
    """What a checkpoint of a training run says of itself, with its step; empty for others."""
    if file.suffix != ".ckpt":
        return {}
    content = read(file, mmap=zipfile.is_zipfile(file)).metadata
    own = content.get(IDENTITY) or {}
    return {**own, "step": content.get("global_step"), "averaged": bool(content.get("ema"))}


def reason(file: Path) -> str:
    """Which weights a run's checkpoint holds, in words, for whoever gave the run alone."""
    known, other = record(file), "last" if file.name == "best.ckpt" else "best"
    step = f"{file.name} of step {known['step']}"
    if file.name == "last.ckpt":
        kind = "the last averaged weights" if known["averaged"] else "the last weights"
        return f"{step}, {kind} (checkpoint.weights={known.get('weights', 'best')}{_only(file, other)})"
    best = known.get("best") or {}
    by = f"the best by {best['metric']}" if best else "the best by validation"
    return f"{step}, {by} (checkpoint.weights={known.get('weights', 'best')}{_only(file, other)})"


def _only(file: Path, other: str) -> str:
    return "" if (file.parent / f"{other}.ckpt").is_file() else f"; there is no {other}.ckpt"


def selection(file: Path) -> dict[str, Any] | None:
    """What chose a best.ckpt among the steps of its run: {"metric", "step", "set", "clips"}; set and clips are None
    where an earlier version did not record them. None for weights that no validation chose."""
    known = record(file)
    best = known.get("best")
    if not best:
        return None
    if not isinstance(best, dict) or {"metric", "step"} - best.keys():
        raise WeightsError(f"{file} is damaged (it does not say what selected it): give another file")
    validated = known.get("validated") or {"set": None, "clips": None}
    return {"metric": best["metric"], "step": best["step"], **validated}
