"""Exponential moving average of named tensors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vsrbench.errors import ConfigError


class EMA:
    """shadow ← d·shadow + (1-d)·value at every update; tensors that are not floating point are copied.

    ours: d = min(decay, (1+n)/(10+n)) at update n, so that a short run does not average its random start.
    """

    def __init__(self, decay: float, values: Mapping[str, Tensor]) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"ema.decay={decay} must lie between 0 and 1, or be null for no average")
        self.decay = decay
        self.updates = 0
        self.shadow = {key: value.detach().clone() for key, value in values.items()}

    @torch.no_grad()
    def update(self, values: Mapping[str, Tensor]) -> None:
        """Take in the values of one more step; the keys must be those of the start."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, shadow in self.shadow.items():
            if shadow.is_floating_point():
                shadow.lerp_(values[key].detach(), 1 - decay)
            else:
                shadow.copy_(values[key])

    @torch.no_grad()
    def distance(self, values: Mapping[str, Tensor]) -> float:
        """Length of (values - average) over the average's, all floating-point tensors taken as one vector."""
        keys = [key for key, shadow in self.shadow.items() if shadow.is_floating_point()]
        apart = sum(((values[key] - self.shadow[key]).double().square().sum() for key in keys), torch.zeros(()))
        length = sum((self.shadow[key].double().square().sum() for key in keys), torch.zeros(()))
        return float((apart / length.clamp_min(1e-30)).sqrt())

    @contextmanager
    def applied(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block the tensors in ``values`` hold the average; afterwards what they held before."""
        previous = {key: values[key].detach().clone() for key in self.shadow}
        self._write(self.shadow, values)
        try:
            yield
        finally:
            self._write(previous, values)

    @staticmethod
    @torch.no_grad()
    def _write(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        for key, value in source.items():
            target[key].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"shadow": self.shadow, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; the tensors stay on their devices."""
        self.updates = int(state["updates"])
        self._write({key: state["shadow"][key] for key in self.shadow}, self.shadow)
