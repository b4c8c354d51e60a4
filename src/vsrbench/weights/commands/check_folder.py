"""``weights check`` of a folder: its parts one by one, then whether they fit each other."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsrbench.errors import ConfigError, VsrbenchError, WeightsError
from vsrbench.methods.dgaf.released import CONDITIONING, expected
from vsrbench.weights.commands.fit import Fit, compare
from vsrbench.weights.files import Header, read_headers
from vsrbench.weights.layout import (
    FILES,
    TRANSFORMERS_FILES,
    completed,
    config_errors,
    config_warnings,
    current_name,
    folder_kind,
    read_json,
    required_files,
)

NOT_NEEDED = ("safety_checker", "feature_extractor", "low_res_scheduler", "watermarker")
SCHEDULE = (
    "prediction_type", "beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "steps_offset",
    "set_alpha_to_one",
)  # fmt: skip
PAD = "!"
Config = Mapping[str, Any]
PREFIX = "text_model."  # newer transformers leave it out
NOT_LEARNED = "embeddings.position_ids"  # stored by older transformers


def check_folder(folder: Path, kind: str | None = None) -> list[Fit]:
    """A part's folder, or a pipeline folder with its parts. Raises WeightsError where it holds neither.

    kind: of the prior that it should be, "upscaler" or "image"; None: of the one that it is, by its UNet.
    """
    kind = kind or folder_kind(folder)
    if (folder / "config.json").is_file():
        return _check_classes(folder, [check_part(folder, kind)])
    parts = sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in NOT_NEEDED)
    fits = [check_part(part, kind) for part in parts if (part / "config.json").is_file()]
    if not fits:
        raise WeightsError(
            f"{folder} holds no weights in the diffusers layout: give a folder with config.json and "
            "diffusion_pytorch_model.safetensors, or one whose subfolders (unet/, vae/, ...) are such"
        )
    if (folder / "scheduler" / "scheduler_config.json").is_file():
        fits.append(check_scheduler(folder / "scheduler" / "scheduler_config.json", kind))
    if (folder / "tokenizer").is_dir():
        fits.append(check_tokenizer(folder / "tokenizer"))
    if (folder / "prompt_embeds.safetensors").is_file():
        fits.append(check_prompt(folder / "prompt_embeds.safetensors"))
    if (folder / "unet").is_dir():
        _check_prior(folder, fits)
    return _check_classes(folder, fits)


def check_scheduler(file: Path, kind: str) -> Fit:
    """The schedule's values, and whether this project's samplers know them."""
    from vsrbench.diffusion.schedule import Schedule

    try:
        config = completed("scheduler", read_json(file), kind)
        fit = Fit("scheduler", str(config.get("_class_name", "?")), file.name)
        fit.errors += [f"{file.name} {line}" for line in config_errors("scheduler", config, kind)]
        fit.warnings += [f"{file.name}: {line}" for line in config_warnings("scheduler", config, kind)]
        fit.notes.append(", ".join(f"{key} {config[key]}" for key in SCHEDULE if key in config))
        Schedule(**config)
    except ConfigError as error:
        fit.errors.append(str(error))
    except VsrbenchError as error:
        return Fit("scheduler", "?", errors=[str(error)])
    return fit


def check_tokenizer(folder: Path) -> Fit:
    """How the empty prompt is padded: another pad token gives other embeddings, without an error."""
    files = [folder / name for name in ("special_tokens_map.json", "tokenizer_config.json")]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        return Fit("tokenizer", "CLIPTokenizer", errors=["neither special_tokens_map.json nor tokenizer_config.json"])
    pad: Any = read_json(file).get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    fit = Fit("tokenizer", "CLIPTokenizer", file.name, notes=[f"pads with {pad!r}"])
    if pad != PAD:
        fit.warnings.append(
            f"pad_token is {pad!r}, that of the x4 upscaler's family is {PAD!r}: other prompt embeddings"
        )
    return fit


def check_prompt(file: Path) -> Fit:
    """The stored embedding of the empty prompt."""
    try:
        headers = read_headers(file)
    except WeightsError as error:
        return Fit("prompt", "embedding", errors=[str(error)])
    fit = Fit("prompt", "embedding", file.name, dtypes={h.dtype: 1 for h in headers.values()})
    if "prompt_embeds" not in headers:
        fit.errors.append(f"holds {', '.join(headers) or 'nothing'} instead of prompt_embeds")
    else:
        fit.notes.append("x".join(map(str, headers["prompt_embeds"].shape)))
        fit.parameters = headers["prompt_embeds"].numbers
    return fit


def _check_classes(folder: Path, fits: list[Fit]) -> list[Fit]:
    """Raise WeightsError for a folder of which nothing was looked at: that is not "fits"."""
    if not any(fit.expected or fit.errors for fit in fits):
        classes = ", ".join(sorted({fit.kind for fit in fits if fit.kind != "?"})) or "no class"
        raise WeightsError(f"{folder} names {classes} in its config.json; nothing here uses that")
    return fits


def _check_prior(folder: Path, fits: list[Fit]) -> None:
    """Faults of a pipeline folder as a whole, noted at its unet."""
    unet = next((fit for fit in fits if fit.part == "unet"), None)
    names = {fit.part for fit in fits}
    absent = [part for part in ("unet", "vae", "scheduler") if part not in names]
    if "prompt" not in names and not {"text_encoder", "tokenizer"} <= names:
        absent.append("prompt_embeds.safetensors, or text_encoder and tokenizer")
    if absent:
        fits.append(Fit("prior", "folder", errors=[f"{folder} lacks {part}" for part in absent]))
    elif unet is not None and (folder / "prompt_embeds.safetensors").is_file():
        width = read_json(folder / "unet" / "config.json").get("cross_attention_dim")
        shape = read_headers(folder / "prompt_embeds.safetensors").get("prompt_embeds")
        if shape is not None and shape.shape[-1] != width:
            unet.errors.append(f"expects prompts of width {width}; prompt_embeds.safetensors has {shape.shape[-1]}")


# --- the networks that configs name, built on the meta device: no memory, no time, the right shapes ---


def config_class(config: Config) -> str:
    """The class that a config.json of diffusers or transformers names, or ""."""
    architectures = config.get("architectures") or [""]
    return str(config.get("_class_name") or architectures[0])


def check_part(folder: Path, prior: str) -> Fit:
    """One subfolder with a ``config.json``: does its weights file fit the config, does the config fit this project?

    prior: the kind of prior that it should be a part of.
    """
    part = folder.name
    try:
        config = completed(part, read_json(folder / "config.json"), prior)
        kind = config_class(config)
        if kind not in SHAPES:
            return Fit(part, kind or "?", notes=["nothing here uses this class; not looked at"])
        source, headers = folder_headers(folder, TRANSFORMERS_FILES if kind == "CLIPTextModel" else FILES)
        own = SHAPES[kind](config)
    except (VsrbenchError, TypeError, ValueError, KeyError) as error:
        return Fit(part, "?", errors=[str(error) or type(error).__name__])
    rename = _text_name if kind == "CLIPTextModel" else _guide_name
    current = {rename(current_name(key)): header for key, header in headers.items()}
    current.pop(NOT_LEARNED, None)
    fit = compare(part, kind, source, {rename(key): value for key, value in own.items()}, current)
    fit.errors += [f"config.json {line}" for line in config_errors(part, config, prior)]
    fit.warnings += [f"config.json: {line}" for line in config_warnings(part, config, prior)]
    NOTES.get(kind, lambda config, fit: None)(config, fit)
    factor = 2 ** (len(config["block_out_channels"]) - 1) if kind == "AutoencoderKL" else 4
    if prior == "upscaler" and factor != 4:
        fit.errors.append(f"reduces by {factor}; these methods need a factor of 4")
    return fit


def folder_headers(folder: Path, names: tuple[str, ...]) -> tuple[str, dict[str, Header]]:
    """(file names, headers) of a part's weights. Raises WeightsError where there are none."""
    files = required_files(folder, names)
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


def _tcm_notes(config: Config, fit: Fit) -> None:
    _check_channels(fit, config.get("in_channels"), 7, "in_channels", "4 latent, 3 LR")
    outputs = len(config["block_out_channels"]) * (config["layers_per_block"] + 1) + 1
    fit.notes.append(
        f"{outputs} output convolutions, conditioning of {config.get('conditioning_channels', 3)} channels"
    )
    fit.notes.append("for method=stablevsr")


def _guide_notes(config: Config, fit: Fit) -> None:
    channels = config["in_channels"] + config.get("conditioning_channels", 0)
    _check_channels(fit, channels, 7 + CONDITIONING, "in_channels and conditioning_channels", "4 latent, 3 LR, 4 x0")
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


def _check_channels(fit: Fit, channels: object, usual: int, key: str, which: str) -> None:
    if channels != usual:
        fit.errors.append(f"config.json: {key} give {channels} input channels, these methods have {usual} ({which})")


def _text_name(key: str) -> str:
    return key.removeprefix(PREFIX)


def _guide_name(key: str) -> str:
    return key.replace("brushnet_", "dgafnet_")
