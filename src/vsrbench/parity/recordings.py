"""Recordings of released code: networks, inputs and every tensor on the way, and how far a replay is from them.

A folder holds ``config.json`` (arguments of the networks), ``weights.safetensors`` (or the name of the file that has
them, under ``weights``), ``inputs.safetensors``, ``trace.safetensors`` and, of training, ``weights_after.safetensors``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.schedule import Schedule
from vsrbench.errors import ConfigError, DataError
from vsrbench.weights.files import read
from vsrbench.weights.report import load_strictly


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference between a replayed tensor and the recorded one."""

    name: str
    shape: tuple[int, ...]
    value: float


@dataclass(frozen=True)
class Recording:
    """A folder as above. Raises DataError for one that is no recording."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("config.json", "inputs.safetensors", "trace.safetensors"):
            if not (self.folder / name).is_file():
                raise DataError(f"{self.folder} is no recording: it has no {name}")

    @cached_property
    def config(self) -> dict[str, Any]:
        own = json.loads((self.folder / "config.json").read_text())
        if "weights" not in own:
            return own
        other = (self.folder / own["weights"]).parent / "config.json"  # the networks are another recording's
        return {**json.loads(other.read_text()), **own}

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return read(self.folder / "inputs.safetensors").tensors

    @cached_property
    def trace(self) -> dict[str, Tensor]:
        return read(self.folder / "trace.safetensors").tensors

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return read(self.folder / self.config.get("weights", "weights.safetensors")).tensors

    @cached_property
    def weights_after(self) -> dict[str, Tensor]:
        return read(self.folder / "weights_after.safetensors").tensors

    def part(self, name: str, weights: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """State dict of one network."""
        stored = (self.weights if weights is None else weights).items()
        return {k.removeprefix(f"{name}."): v for k, v in stored if k.startswith(f"{name}.")}

    def require(self, method: str) -> None:
        """Raise ConfigError for a recording of another method."""
        if str(self.config.get("method")).rpartition("_")[0] != method:
            raise ConfigError(f"{self.folder} is a recording of {self.config.get('method')}, not of {method}")

    @property
    def trains(self) -> bool:
        """Whether optimiser steps were recorded, and not sampling."""
        return "optimizer" in self.config

    def prior(self) -> Prior:
        """The recorded prior. Raises WeightsError where weights do not fit the recorded configuration."""
        from diffusers import AutoencoderKL, UNet2DConditionModel

        networks: dict[str, Any] = {
            "unet": UNet2DConditionModel(**self.config["unet"]),
            "vae": AutoencoderKL(**self.config["vae"]),
        }
        for name, network in networks.items():
            load(network, self.part(name), self.folder, name)
        schedule = Schedule(**self.config["scheduler"])
        return Prior(networks["unet"].eval(), networks["vae"].eval(), schedule, self.inputs["prompt_embeds"], None)

    def compare(self, name: str, ours: Tensor) -> Difference:
        """Against ``trace[name]``. Raises DataError where the recording has no such tensor or another shape."""
        return difference(name, ours, self._recorded(name))

    def _recorded(self, name: str) -> Tensor:
        if name not in self.trace:
            raise DataError(f"{self.folder / 'trace.safetensors'} has no tensor {name!r}")
        return self.trace[name]


class RecordedFlow(nn.Module):
    """A flow estimator that returns stored flows (B,2,H,W), one per call, in order."""

    def __init__(self, flows: list[Tensor]) -> None:
        super().__init__()
        self._left: Iterator[Tensor] = iter(flows)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        flow = next(self._left, None)
        if flow is None or flow.shape[-2:] != a.shape[-2:]:
            size = None if flow is None else tuple(flow.shape[-2:])
            raise DataError(
                f"a flow was asked for on a grid of {tuple(a.shape[-2:])}, the recording goes on with {size}"
            )
        return flow


def recorded_flow(stored: Tensor) -> Tensor:
    """(...,H,W,2) as recorded to (...,2,H,W)."""
    return stored.movedim(-1, -3)


def difference(name: str, ours: Tensor, recorded: Tensor) -> Difference:
    """Largest absolute difference. Raises DataError for another shape."""
    if ours.shape != recorded.shape:
        raise DataError(f"{name}: replayed {tuple(ours.shape)}, recorded {tuple(recorded.shape)}")
    gap = (ours.detach().double() - recorded.double()).abs()
    value = float(torch.nan_to_num(gap, nan=float("inf")).max()) if gap.numel() else 0.0
    return Difference(name, tuple(recorded.shape), value)


def load(network: nn.Module, state: dict[str, Tensor], folder: Path, name: str) -> None:
    """Strictly. Raises WeightsError naming the folder and part."""
    load_strictly(network, state, f"{folder} {name}: the recorded weights do not fit the recorded configuration")
