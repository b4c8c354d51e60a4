"""Reading a diffusers folder or hub id strictly: every key must fit, and a report says what did not."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsrbench.errors import WeightsError

PRIOR_FILES = ("unet/*", "vae/*", "scheduler/*", "text_encoder/*", "tokenizer/*", "prompt_embeds.safetensors")


def locate(path: str, setting: str = "prior.path", wanted: Sequence[str] = PRIOR_FILES) -> Path:
    """The local folder of a path or hub id. Raises WeightsError when it is neither on disk nor reachable.

    setting: what the user gave it as. wanted: patterns of the files to fetch from the hub.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise WeightsError(f"{setting}={path}: no such folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, allow_patterns=list(wanted)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(
            f"{setting}={path} is no folder here and cannot be fetched from the hub ({type(error).__name__}): "
            "check the name and the connection, or give a local diffusers folder"
        ) from error


def load_config(path: str, part: str, name: str = "config.json") -> dict[str, Any]:
    """A part's JSON configuration. Raises WeightsError naming the absent or broken file."""
    file = locate(path) / part / name
    if not file.is_file():
        raise WeightsError(f"{file} is missing: a prior folder needs unet/, vae/ and scheduler/ with their configs")
    try:
        return json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise WeightsError(f"{file} is not valid JSON ({error})") from error


def load_part(path: str, part: str) -> Any:
    """``unet`` or ``vae`` of a diffusers folder in float32, eval mode; strict, with a key report on failure."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    load_config(path, part)
    folder = locate(path)
    kind: Any = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part]
    weights = list((folder / part).glob("diffusion_pytorch_model*"))
    if not weights:
        raise WeightsError(f"{folder / part} holds a config but no diffusion_pytorch_model.safetensors (or .bin)")
    variant = "fp16" if all(".fp16." in file.name for file in weights) else None
    try:
        network, report = kind.from_pretrained(
            str(folder), subfolder=part, output_loading_info=True, variant=variant, low_cpu_mem_usage=False,
            torch_dtype=torch.float32, ignore_mismatched_sizes=True,
        )  # fmt: skip
    except (RuntimeError, OSError, ValueError) as error:
        raise WeightsError(f"{folder / part} cannot be loaded: {_first_line(error)}") from error
    refuse_bad_keys(f"{folder / part}", report)
    return network.eval()


def refuse_bad_keys(where: str, report: dict[str, Any]) -> None:
    """Raise WeightsError when the loading report names missing, unexpected or misshapen keys."""
    bad = {kind: sorted(map(str, report.get(f"{kind}_keys", []))) for kind in ("missing", "unexpected", "mismatched")}
    if any(bad.values()):
        counts = ", ".join(f"{len(keys)} {kind} {keys[:3]}" for kind, keys in bad.items())
        raise WeightsError(f"{where}: weights do not fit the config: {counts}")


def load_prompt(path: str) -> Tensor:
    """The embedded empty prompt (1,n,d): stored beside the prior, in the cache, or computed once and cached.

    Raises WeightsError when there is neither ``prompt_embeds.safetensors`` nor a text encoder, or they are broken.
    """
    from safetensors.torch import save_file

    folder = locate(path)
    stored = folder / "prompt_embeds.safetensors"
    if stored.is_file():
        return _stored_prompt(stored)
    encoder = folder / "text_encoder"
    if not (encoder / "config.json").is_file():
        raise WeightsError(f"{folder} has neither prompt_embeds.safetensors nor text_encoder/ and tokenizer/")
    cached = _cache_folder() / f"prompt-{_fingerprint(encoder)}.safetensors"
    if cached.is_file():
        return _stored_prompt(cached)
    embeds = encode_empty_prompt(folder)
    cached.parent.mkdir(parents=True, exist_ok=True)
    temporary = cached.with_suffix(f".{os.getpid()}")
    save_file({"prompt_embeds": embeds.contiguous()}, temporary)
    temporary.replace(cached)
    return embeds


@torch.no_grad()
def encode_empty_prompt(folder: Path) -> Tensor:
    """ "" padded to the tokenizer's length, no attention mask, last hidden state after the final norm (1,77,d)."""
    from transformers import CLIPTextModel, CLIPTokenizer

    kind: Any = CLIPTextModel
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
        model, report = kind.from_pretrained(str(folder / "text_encoder"), output_loading_info=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise WeightsError(
            f"{folder}: the text encoder cannot be loaded ({_first_line(error)}); it needs text_encoder/ and tokenizer/"
        ) from error
    refuse_bad_keys(f"{folder / 'text_encoder'}", report)
    model = model.float().eval()
    tokens = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    return model(tokens.input_ids)[0]


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Tensors of a file on the CPU. Raises WeightsError for a truncated or foreign one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} cannot be read ({error}): it may be truncated; fetch or export it again") from error


def _stored_prompt(file: Path) -> Tensor:
    content = read_safetensors(file)
    if "prompt_embeds" not in content:
        raise WeightsError(f"{file} holds {', '.join(content) or 'nothing'} instead of prompt_embeds")
    return content["prompt_embeds"].float()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _cache_folder() -> Path:
    return Path(os.environ.get("VSRBENCH_CACHE", "~/.cache/vsrbench")).expanduser()


def _fingerprint(encoder: Path) -> str:
    """Names, sizes and times of the encoder's files: enough to notice other weights without reading gigabytes."""
    import hashlib

    facts = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in encoder.iterdir())
    return hashlib.blake2b(repr((str(encoder.resolve()), facts)).encode(), digest_size=8).hexdigest()
