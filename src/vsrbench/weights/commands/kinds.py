"""The networks that configs name, built on the meta device: no memory, no time, the right shapes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsrbench.errors import VsrbenchError, WeightsError
from vsrbench.methods.dgaf.released import CONDITIONING, expected
from vsrbench.weights.files import Header, read_headers
from vsrbench.weights.fit import Fit, compare
from vsrbench.weights.layout import FILES, TRANSFORMERS_FILES, current_name, faults, oddities, read_json, weight_files

Config = Mapping[str, Any]
PREFIX = "text_model."  # newer transformers leave it out
NOT_LEARNED = "embeddings.position_ids"  # stored by older transformers


def config_class(config: Config) -> str:
    """The class that a config.json of diffusers or transformers names, or ""."""
    architectures = config.get("architectures") or [""]
    return str(config.get("_class_name") or architectures[0])


def examine_part(folder: Path) -> Fit:
    """One subfolder with a ``config.json``: does its weights file fit the config, does the config fit this project?"""
    part = folder.name
    try:
        config = read_json(folder / "config.json")
        kind = config_class(config)
        if kind not in SHAPES:
            return Fit(part, kind or "?", notes=["nothing here uses this class; not looked at"])
        source, found = folder_headers(folder, TRANSFORMERS_FILES if kind == "CLIPTextModel" else FILES)
        own = SHAPES[kind](config)
    except (VsrbenchError, TypeError, ValueError, KeyError) as error:
        return Fit(part, "?", faults=[str(error) or type(error).__name__])
    rename = _text_name if kind == "CLIPTextModel" else _guide_name
    named = {rename(current_name(key)): header for key, header in found.items()}
    named.pop(NOT_LEARNED, None)
    fit = compare(part, kind, source, {rename(key): value for key, value in own.items()}, named)
    fit.faults += [f"config.json {fault}" for fault in faults(part, config)]
    fit.doubts += [f"config.json: {oddity}" for oddity in oddities(part, config)]
    NOTES.get(kind, lambda config, fit: None)(config, fit)
    return fit


def folder_headers(folder: Path, names: tuple[str, ...]) -> tuple[str, dict[str, Header]]:
    """(file names, headers) of a part's weights. Raises WeightsError where there are none."""
    files = weight_files(folder, names)
    if not files:
        raise WeightsError(f"{folder} has a config.json but none of {', '.join(names)}")
    headers: dict[str, Header] = {}
    for file in files:
        headers.update(read_headers(file))
    return ", ".join(file.name for file in files), headers


def _diffusers(name: str) -> Callable[[Config], Mapping[str, Any]]:
    def build(config: Config) -> Mapping[str, Any]:
        import diffusers
        import torch

        kind: Any = getattr(diffusers, name)
        with torch.device("meta"):
            return kind.from_config(dict(config)).state_dict()

    return build


def _text_encoder(config: Config) -> Mapping[str, Any]:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        return CLIPTextModel(CLIPTextConfig(**config)).state_dict()


SHAPES: dict[str, Callable[[Config], Mapping[str, Any]]] = {
    "UNet2DConditionModel": _diffusers("UNet2DConditionModel"),
    "AutoencoderKL": _diffusers("AutoencoderKL"),
    "ControlNetModel": _diffusers("ControlNetModel"),
    "CLIPTextModel": _text_encoder,
    "DGAFNetModel": expected,
    "BrushNetModel": expected,
}


def _unet_notes(config: Config, fit: Fit) -> None:
    levels = config.get("num_class_embeds")
    remedy = "set prior.noise_level=0 (or 20, the stock default)" if levels else "leave prior.noise_level=null"
    fit.notes.append(f"{f'class embedding of {levels} levels' if levels else 'no class embedding'}: {remedy}")


def _vae_notes(config: Config, fit: Fit) -> None:
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    fit.notes.append(f"scaling_factor {config.get('scaling_factor')}, factor {factor}")
    if factor != 4:
        fit.faults.append(f"reduces by {factor}; these methods need a factor of 4")


def _tcm_notes(config: Config, fit: Fit) -> None:
    _refuse_channels(fit, config.get("in_channels"), 7, "in_channels", "4 latent, 3 LR")
    outputs = len(config["block_out_channels"]) * (config["layers_per_block"] + 1) + 1
    fit.notes.append(
        f"{outputs} output convolutions, conditioning of {config.get('conditioning_channels', 3)} channels"
    )
    fit.notes.append("for method=stablevsr")


def _guide_notes(config: Config, fit: Fit) -> None:
    channels = config["in_channels"] + config.get("conditioning_channels", 0)
    _refuse_channels(fit, channels, 7 + CONDITIONING, "in_channels and conditioning_channels", "4 latent, 3 LR, 4 x0")
    blocks, layers = len(config["block_out_channels"]), config["layers_per_block"]
    attention = any("CrossAttn" in name for name in config["down_block_types"])
    fit.notes.append(f"{blocks * (layers + 1) + 1 + blocks * (layers + 2) - 1} output convolutions")
    fit.notes.append(f"for method=dgaf method.guide_attention={str(attention).lower()}")


NOTES: dict[str, Callable[[Config, Fit], None]] = {
    "UNet2DConditionModel": _unet_notes,
    "AutoencoderKL": _vae_notes,
    "ControlNetModel": _tcm_notes,
    "DGAFNetModel": _guide_notes,
    "BrushNetModel": _guide_notes,
}


def _refuse_channels(fit: Fit, channels: object, usual: int, key: str, which: str) -> None:
    if channels != usual:
        fit.faults.append(f"config.json: {key} give {channels} input channels, these methods have {usual} ({which})")


def _text_name(key: str) -> str:
    return key.removeprefix(PREFIX)


def _guide_name(key: str) -> str:
    return key.replace("brushnet_", "dgafnet_")
