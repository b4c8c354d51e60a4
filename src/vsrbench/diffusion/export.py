"""Writing networks and priors in the diffusers layout, so that diffusers alone loads them."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.prior import Prior
from vsrbench.errors import WeightsError
from vsrbench.weights.files import write
from vsrbench.weights.layout import FILES


def save_network(network: Any, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """A diffusers network as ``config.json`` and safetensors of ``dtype``; its own weights stay as they are."""
    network = copy.deepcopy(network)
    nn.Module.to(network, dtype)  # diffusers' own ``to`` warns about this even where nothing speaks against it
    refuse_overflow(network.state_dict(), dtype)
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
    refuse_overflow(values, dtype)
    return values


def refuse_overflow(state: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Raise WeightsError naming a tensor that is not finite."""
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise WeightsError(
                f"{key} has values that are not finite as {dtype}: export with dtype=float32, or train anew"
            )


def save_prior(prior: Prior, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """A diffusers folder: ``unet/``, ``vae/``, ``scheduler/`` and the embedded prompt."""
    from diffusers import DDIMScheduler

    folder.mkdir(parents=True, exist_ok=True)
    for part in ("unet", "vae"):
        save_network(getattr(prior, part), folder / part, dtype)
    scheduler: Any = DDIMScheduler(**prior.schedule.config)
    scheduler.save_pretrained(folder / "scheduler")
    write(folder / "prompt_embeds.safetensors", cast({"prompt_embeds": prior.prompt}, dtype))
