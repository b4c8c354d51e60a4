"""Folders in the layout of diffusers: read strictly, from disk or by hub id, and written for diffusers to load."""

import copy
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.errors import WeightsError
from vsrbench.weights.files import first_line, read, write
from vsrbench.weights.hub import locate
from vsrbench.weights.layout import (
    FILES,
    completed,
    config_errors,
    config_warnings,
    current_name,
    read_json,
    required_files,
)
from vsrbench.weights.report import load_strictly


def load_config(path: str, part: str, name: str = "config.json", kind: str = "upscaler") -> dict[str, Any]:
    """A part's JSON configuration, looked through for what that of a prior of this kind would not say, and completed
    with diffusers' defaults where these are meant (kind "image").

    Raises WeightsError naming the absent or broken file, or a value that cannot be meant; warns about unusual ones.
    """
    file = locate(path) / part / name
    if not file.is_file():
        raise WeightsError(f"{file} is missing: a prior folder needs unet/, vae/ and scheduler/ with their configs")
    config = completed(part, read_json(file), kind)
    for line in config_errors(part, config, kind):
        raise WeightsError(f"{file} {line}")
    for line in config_warnings(part, config, kind):
        warnings.warn(f"{file}: {line}", stacklevel=2)
    return config


def load_part(path: str, part: str, kind: str = "upscaler") -> Any:
    """``unet`` or ``vae`` of a diffusers folder in float32, eval mode; strict, with a key report on failure.

    Weights may be safetensors or a pickle (read as tensors alone), in half precision, saved by DDP, or under the VAE's
    old attention names. Raises WeightsError.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    config = load_config(path, part, kind=kind)
    folder = locate(path) / part
    model: Any = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part]
    try:
        with torch.device("meta"):  # drawing 500 M numbers that are thrown away takes ten seconds
            network = model.from_config(config)
        values = read_weights(folder)
    except (TypeError, ValueError, WeightsError) as error:
        raise WeightsError(f"{folder} cannot be loaded: {first_line(error)}") from error
    load_strictly(network, values, f"{folder}: weights do not fit the config", assign=True)
    empty = [name for name, buffer in network.named_buffers() if buffer.is_meta]
    if empty:
        raise WeightsError(f"{folder}: its config asks for {', '.join(empty)}, which no weights file holds")
    return network.eval()


def read_weights(folder: Path, names: tuple[str, ...] = FILES) -> dict[str, Tensor]:
    """The state dict of a part's folder in float32, under today's names. Raises WeightsError."""
    state: dict[str, Tensor] = {}
    for file in required_files(folder, names):
        state.update(read(file).tensors)
    # copies, not views of the mapped file: its odd addresses change the last bits of results
    return {current_name(k): v.to(torch.float32, copy=True) if v.is_floating_point() else v for k, v in state.items()}


def load_pretrained(kind: Any, folder: Path, what: str) -> Any:
    """A network of transformers in float32, eval mode, read by transformers, which knows its older versions' names.

    kind: its class; what: it in words. Raises WeightsError where weights are absent, damaged or do not fit the config.
    """
    try:
        network, report = kind.from_pretrained(str(folder), output_loading_info=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise WeightsError(f"{folder}: {what} cannot be loaded ({first_line(error)})") from error
    misfits = {
        word: sorted(map(str, report.get(f"{word}_keys", []))) for word in ("missing", "unexpected", "mismatched")
    }
    if any(misfits.values()):
        counts = ", ".join(f"{len(keys)} {word} {keys[:3]}" for word, keys in misfits.items())
        raise WeightsError(f"{folder}: weights do not fit the config: {counts}")
    return network.float().eval()


def load_prompt(path: str, text: str = "") -> Tensor:
    """An embedded prompt (1,n,d): the empty one stored beside the prior; any in the cache, or computed and cached.

    Raises WeightsError when there is neither ``prompt_embeds.safetensors`` nor a text encoder, or they are broken.
    """
    folder = locate(path)
    file = folder / "prompt_embeds.safetensors"
    if file.is_file() and not text:
        return _stored_prompt(file)
    encoder = folder / "text_encoder"
    if not (encoder / "config.json").is_file():
        if text:
            raise WeightsError(f"{folder} has no text_encoder/ and tokenizer/, which the prompt {text!r} needs")
        raise WeightsError(f"{folder} has neither prompt_embeds.safetensors nor text_encoder/ and tokenizer/")
    cached = _cache_folder() / f"prompt-{_fingerprint(encoder, text)}.safetensors"
    if cached.is_file():
        return _stored_prompt(cached)
    embeds = encode_prompt(folder, text)
    cached.parent.mkdir(parents=True, exist_ok=True)
    write(cached, {"prompt_embeds": embeds})
    return embeds


@torch.no_grad()
def encode_prompt(folder: Path, text: str = "") -> Tensor:
    """The text padded to the tokenizer's length, no attention mask, last hidden state after the final norm (1,77,d).

    Raises WeightsError for a text that is longer.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    except (RuntimeError, OSError, ValueError) as error:
        raise WeightsError(
            f"{folder}: the tokenizer cannot be loaded ({first_line(error)}); it needs text_encoder/ and tokenizer/"
        ) from error
    model = load_pretrained(CLIPTextModel, folder / "text_encoder", "the text encoder")
    length = tokenizer.model_max_length
    tokens = tokenizer(text, padding="max_length", max_length=length, return_tensors="pt")
    if tokens.input_ids.shape[1] > length:
        raise WeightsError(f"the prompt {text!r} has {tokens.input_ids.shape[1]} tokens, {folder} takes {length}")
    return model(tokens.input_ids)[0]


def _stored_prompt(file: Path) -> Tensor:
    content = read(file).tensors
    if "prompt_embeds" not in content:
        raise WeightsError(f"{file} holds {', '.join(content) or 'nothing'} instead of prompt_embeds")
    return content["prompt_embeds"].float()


def _cache_folder() -> Path:
    return Path(os.environ.get("VSRBENCH_CACHE", "~/.cache/vsrbench")).expanduser()


def _fingerprint(encoder: Path, text: str) -> str:
    """Text, and names, sizes and times of the encoder's files: enough to notice others without reading gigabytes."""
    import hashlib

    facts = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in encoder.iterdir())
    return hashlib.blake2b(repr((str(encoder.resolve()), facts, text)).encode(), digest_size=8).hexdigest()


def save_network(network: Any, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """A diffusers network as ``config.json`` and safetensors of ``dtype``; its own weights stay as they are."""
    network = copy.deepcopy(network)
    nn.Module.to(network, dtype)  # diffusers' own ``to`` warns about this even where nothing speaks against it
    check_range(network.state_dict(), dtype)
    network.register_to_config(_name_or_path="")  # else the config would name a folder of this machine
    network.save_pretrained(folder)


def save_part(state: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path, dtype: torch.dtype) -> None:
    """The same for a network that diffusers does not know: ``config`` holds its ``_class_name``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2, sort_keys=True) + "\n")
    write(folder / FILES[0], cast(state, dtype), {"format": "pt"})


def cast(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Floating-point tensors as ``dtype``, ready to be stored. Raises WeightsError for a value beyond its range."""
    values = {k: (v.to(dtype) if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    check_range(values, dtype)
    return values


def check_range(state: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Raise WeightsError naming a tensor that is not finite."""
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise WeightsError(
                f"{key} has values that are not finite as {dtype}: export with dtype=float32, or train anew"
            )
