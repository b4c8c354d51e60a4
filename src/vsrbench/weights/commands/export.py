"""``weights export``: a trained method as this project's single file, or as the folder that released code reads."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vsrbench.config import build_method
from vsrbench.errors import ConfigError
from vsrbench.weights.files import write
from vsrbench.weights.folders import cast
from vsrbench.weights.hub import locate

if TYPE_CHECKING:
    from omegaconf import DictConfig

PRECISIONS = {"float16": torch.float16, "float32": torch.float32}
TEXT_PARTS = ("text_encoder", "tokenizer")
PIPELINES = {"stablevsr": "StableVSRPipeline"}  # the class that the published model_index.json names
LIBRARIES = {
    "scheduler": ("diffusers", "DDIMScheduler"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "controlnet": ("diffusers", "ControlNetModel"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
}


def export(cfg: "DictConfig") -> Path:
    """Write what ``output`` and ``layout`` ask for; returns its path. Raises ConfigError for what cannot be meant."""
    if not cfg.output:
        raise ConfigError("weights export needs output=FILE.safetensors, or output=FOLDER for the released layout")
    target = Path(cfg.output).expanduser()
    layout = layout_of(cfg.layout, target)
    if cfg.dtype not in PRECISIONS:
        raise ConfigError(f"dtype={cfg.dtype}: use {' or '.join(PRECISIONS)}")
    if target.exists() and not cfg.force:
        raise ConfigError(f"output={target} exists: choose another name or add force=true")
    if layout == "released" and target.is_file():
        raise ConfigError(f"output={target} is a file; the released layout is a folder: choose another name")
    method: Any = build_method(cfg)
    if layout == "project":
        write(target, cast(method.trained_state(), PRECISIONS[cfg.dtype]))
        return target
    with_prior = cfg.prior.path if cfg.prior is not None else None
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        folder = Path(scratch) / "export"
        folder.mkdir()
        method.export_released(folder, PRECISIONS[cfg.dtype])
        if (folder / "unet").is_dir():
            complete_pipeline(folder, with_prior, PIPELINES.get(cfg.method.name))
        shutil.copytree(folder, target, dirs_exist_ok=True, copy_function=shutil.move)
    return target


def layout_of(asked: str | None, target: Path) -> str:
    """ "project" for a file, "released" for a folder. Raises ConfigError where the output is of the other kind."""
    default = "project" if target.suffix == ".safetensors" else "released"
    if asked not in (None, "project", "released"):
        raise ConfigError(f"layout={asked}: use project or released")
    if asked not in (None, default):
        kind = "output=FILE.safetensors" if asked == "project" else "output=FOLDER"
        raise ConfigError(f"layout={asked} needs {kind}, not output={target}")
    return default


def complete_pipeline(folder: Path, source: str | None, pipeline: str | None) -> None:
    """Add what a prior's folder has and this project does not keep: the text encoder; and the index of parts."""
    if source is not None:
        origin = locate(source)
        for part in TEXT_PARTS:
            if (origin / part).is_dir():
                shutil.copytree(origin / part, folder / part)
    if pipeline is not None:
        parts = {part: list(what) for part, what in LIBRARIES.items() if (folder / part).is_dir()}
        index = {"_class_name": pipeline, **parts, "safety_checker": [None, None], "feature_extractor": [None, None]}
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
