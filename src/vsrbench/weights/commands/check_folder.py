"""``weights check`` of a folder: its parts one by one, then whether they fit each other."""

from pathlib import Path
from typing import Any

from vsrbench.errors import ConfigError, VsrbenchError, WeightsError
from vsrbench.weights.commands.kinds import examine_part
from vsrbench.weights.files import read_headers
from vsrbench.weights.fit import Fit
from vsrbench.weights.layout import faults, oddities, read_json

NOT_NEEDED = ("safety_checker", "feature_extractor", "low_res_scheduler", "watermarker")
SCHEDULE = (
    "prediction_type", "beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "steps_offset",
    "set_alpha_to_one",
)  # fmt: skip
PAD = "!"


def examine_folder(folder: Path) -> list[Fit]:
    """A part's folder, or a pipeline folder with its parts. Raises WeightsError where it holds neither."""
    if (folder / "config.json").is_file():
        return _recognised(folder, [examine_part(folder)])
    parts = sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in NOT_NEEDED)
    found = [examine_part(part) for part in parts if (part / "config.json").is_file()]
    if not found:
        raise WeightsError(
            f"{folder} holds no weights in the diffusers layout: give a folder with config.json and "
            "diffusion_pytorch_model.safetensors, or one whose subfolders (unet/, vae/, ...) are such"
        )
    if (folder / "scheduler" / "scheduler_config.json").is_file():
        found.append(examine_scheduler(folder / "scheduler" / "scheduler_config.json"))
    if (folder / "tokenizer").is_dir():
        found.append(examine_tokenizer(folder / "tokenizer"))
    if (folder / "prompt_embeds.safetensors").is_file():
        found.append(examine_prompt(folder / "prompt_embeds.safetensors"))
    if (folder / "unet").is_dir():
        _judge_prior(folder, found)
    return _recognised(folder, found)


def examine_scheduler(file: Path) -> Fit:
    """The schedule's values, and whether this project's samplers know them."""
    from vsrbench.diffusion.schedule import Schedule

    try:
        config = read_json(file)
        fit = Fit("scheduler", str(config.get("_class_name", "?")), file.name)
        fit.faults += [f"{file.name} {fault}" for fault in faults("scheduler", config)]
        fit.doubts += [f"{file.name}: {oddity}" for oddity in oddities("scheduler", config)]
        fit.notes.append(", ".join(f"{key} {config[key]}" for key in SCHEDULE if key in config))
        Schedule(**config)
    except ConfigError as error:
        fit.faults.append(str(error))
    except VsrbenchError as error:
        return Fit("scheduler", "?", faults=[str(error)])
    return fit


def examine_tokenizer(folder: Path) -> Fit:
    """How the empty prompt is padded: another pad token gives other embeddings, without an error."""
    files = [folder / name for name in ("special_tokens_map.json", "tokenizer_config.json")]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        return Fit("tokenizer", "CLIPTokenizer", faults=["neither special_tokens_map.json nor tokenizer_config.json"])
    pad: Any = read_json(file).get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    fit = Fit("tokenizer", "CLIPTokenizer", file.name, notes=[f"pads with {pad!r}"])
    if pad != PAD:
        fit.doubts.append(f"pad_token is {pad!r}, that of the x4 upscaler's family is {PAD!r}: other prompt embeddings")
    return fit


def examine_prompt(file: Path) -> Fit:
    """The stored embedding of the empty prompt."""
    try:
        headers = read_headers(file)
    except WeightsError as error:
        return Fit("prompt", "embedding", faults=[str(error)])
    fit = Fit("prompt", "embedding", file.name, dtypes={h.dtype: 1 for h in headers.values()})
    if "prompt_embeds" not in headers:
        fit.faults.append(f"holds {', '.join(headers) or 'nothing'} instead of prompt_embeds")
    else:
        fit.notes.append("x".join(map(str, headers["prompt_embeds"].shape)))
        fit.parameters = headers["prompt_embeds"].numbers
    return fit


def _recognised(folder: Path, found: list[Fit]) -> list[Fit]:
    """Refuse a folder of which nothing was looked at: that is not "fits"."""
    if not any(fit.expected or fit.faults for fit in found):
        classes = ", ".join(sorted({fit.kind for fit in found if fit.kind != "?"})) or "no class"
        raise WeightsError(f"{folder} names {classes} in its config.json; nothing here uses that")
    return found


def _judge_prior(folder: Path, found: list[Fit]) -> None:
    """Faults of a pipeline folder as a whole, noted at its unet."""
    unet = next((fit for fit in found if fit.part == "unet"), None)
    there = {fit.part for fit in found}
    absent = [part for part in ("unet", "vae", "scheduler") if part not in there]
    if "prompt" not in there and not {"text_encoder", "tokenizer"} <= there:
        absent.append("prompt_embeds.safetensors, or text_encoder and tokenizer")
    if absent:
        found.append(Fit("prior", "folder", faults=[f"{folder} lacks {part}" for part in absent]))
    elif unet is not None and (folder / "prompt_embeds.safetensors").is_file():
        width = read_json(folder / "unet" / "config.json").get("cross_attention_dim")
        shape = read_headers(folder / "prompt_embeds.safetensors").get("prompt_embeds")
        if shape is not None and shape.shape[-1] != width:
            unet.faults.append(f"expects prompts of width {width}; prompt_embeds.safetensors has {shape.shape[-1]}")
