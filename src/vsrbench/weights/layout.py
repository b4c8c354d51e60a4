"""The diffusers layout on disk: which files hold a network's weights, and what a prior's configs say.

A wrong scaling factor or schedule loads without complaint and ruins every frame, so those values are looked at.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsrbench import stored
from vsrbench.errors import WeightsError

STEM = "diffusion_pytorch_model"
# In the order of preference: safetensors before pickles, full precision before a variant in half precision.
FILES = (f"{STEM}.safetensors", f"{STEM}.fp16.safetensors", f"{STEM}.bin", f"{STEM}.fp16.bin")
TRANSFORMERS_FILES = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "pytorch_model.fp16.bin")

# What the configs of the two kinds of prior say: the x4 upscaler's (also x4-upscaling.yaml, its original definition),
# and those of Stable Diffusion 1.5 and 2.1-base.
USUAL: dict[str, dict[str, dict[str, Any]]] = {
    "upscaler": {
        "vae": {"scaling_factor": 0.08333},
        "scheduler": {"beta_end": 0.02, "prediction_type": "v_prediction"},
    },
    "image": {
        "vae": {"scaling_factor": 0.18215},
        "scheduler": {"beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"},
    },
}
KNOWN_AS = {"upscaler": "the x4 upscaler", "image": "Stable Diffusion"}
WHAT_FOR = {
    "scaling_factor": "latents would reach the UNet at another size than it was trained on",
    "beta_schedule": "every x_t would hold another share of noise",
    "beta_end": "every x_t would hold another share of noise",
    "prediction_type": "the network's output would be read as something else",
}
IN_CHANNELS = {"upscaler": 7, "image": 4}  # 4 latent; an upscaler's 3 more are the LR frame
# What diffusers takes for keys that the folders of Stable Diffusion 1.5 and 2.1-base leave out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "vae": {"scaling_factor": 0.18215},
    "scheduler": {
        "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000,
        "prediction_type": "epsilon", "steps_offset": 0,
    },
}  # fmt: skip
# Keys that an upscaler must write down: those defaults are of other models.
REQUIRED = {
    "vae": ("scaling_factor", "block_out_channels"),
    "scheduler": ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type"),
    "unet": ("in_channels", "block_out_channels", "cross_attention_dim"),
}
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}


def weight_files(folder: Path, names: tuple[str, ...] = FILES) -> list[Path]:
    """The file that holds a part's weights, or the pieces that its index names; empty where there is none.

    Raises WeightsError for an index whose pieces are absent.
    """
    for name in names:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            pieces = sorted({folder / piece for piece in _pieces(index)})
            absent = [piece.name for piece in pieces if not piece.is_file()]
            if absent or not pieces:
                raise WeightsError(f"{index} names {', '.join(absent) or 'no files'}: fetch the folder again")
            return pieces
    return []


def _pieces(index: Path) -> list[str]:
    pieces = read_json(index).get("weight_map")
    if not isinstance(pieces, dict):
        raise WeightsError(f"{index} has no weight_map: fetch the folder again")
    return [stored.check_name(piece, index, WeightsError) for piece in pieces.values()]


def required_files(folder: Path, names: tuple[str, ...] = FILES) -> list[Path]:
    """The same. Raises WeightsError where there is none."""
    files = weight_files(folder, names)
    if not files:
        raise WeightsError(f"{folder} holds none of {', '.join(names)}: fetch or export the folder again")
    return files


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises WeightsError for anything else."""
    return stored.read_json(file, "fetch the folder again", WeightsError)


def completed(part: str, config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A config with what diffusers fills in where that is right: for Stable Diffusion itself (kind "image")."""
    if kind != "image":
        return dict(config)
    defaults = dict(DEFAULTS.get(part, {}))
    if part == "scheduler":
        defaults["set_alpha_to_one"] = config.get("_class_name") != "PNDMScheduler"  # whose own default is False
    return defaults | dict(config)


def folder_kind(folder: Path) -> str:
    """Which kind of prior a pipeline folder, or one of its parts, is by its UNet; "upscaler" where that is unknown."""
    for place in (folder / "unet", folder, folder.parent / "unet"):
        config = read_json(place / "config.json") if (place / "config.json").is_file() else {}
        if config.get("_class_name") == CLASSES["unet"]:
            return "image" if config.get("in_channels") == IN_CHANNELS["image"] else "upscaler"
    return "upscaler"


def config_errors(part: str, config: Mapping[str, Any], kind: str = "upscaler") -> list[str]:
    """What makes a config of ``unet``, ``vae`` or ``scheduler`` unusable for a prior of this kind."""
    lines = [
        f"has no {key}; diffusers would fill in that of another model: add it"
        for key in REQUIRED.get(part, ())
        if key not in config
    ]
    name = config.get("_class_name")
    if part in CLASSES and name not in (None, CLASSES[part]):
        lines.append(f"is of class {name}; a prior's {part} is a {CLASSES[part]}")
    channels = IN_CHANNELS[kind]
    if part == "unet" and config.get("in_channels", channels) != channels:
        what = "an x4 upscaler's takes 7 (4 latent, 3 LR)" if kind == "upscaler" else "Stable Diffusion's takes 4"
        lines.append(f"in_channels {config['in_channels']}: {what}")
    return lines


def config_warnings(part: str, config: Mapping[str, Any], kind: str = "upscaler") -> list[str]:
    """Values that differ from those of the published prior of this kind: possible, and most often a mistake."""
    return [
        f"{key} is {config[key]}, {KNOWN_AS[kind]}'s is {usual}; if that is not meant, {WHAT_FOR[key]}"
        for key, usual in USUAL[kind].get(part, {}).items()
        if key in config and not _same(config[key], usual)
    ]


_OLD_ATTENTION = re.compile(r"(attentions\.\d+\.)(query|key|value|proj_attn)\.(weight|bias)$")
_NEW_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def current_name(key: str) -> str:
    """A stored key as today's diffusers names it: without DDP's ``module.``, with today's VAE attention names."""
    key = key.removeprefix("module.")
    return _OLD_ATTENTION.sub(lambda m: f"{m[1]}{_NEW_NAMES[m[2]]}.{m[3]}", key)


def _same(value: Any, usual: Any) -> bool:
    if isinstance(usual, float) and isinstance(value, int | float):
        return abs(value - usual) < 1e-3 * usual
    return bool(value == usual)
