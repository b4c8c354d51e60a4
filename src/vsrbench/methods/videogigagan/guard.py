"""Which optimiser steps are made: a number that is not finite, or a gradient far beyond the usual, stops one step."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor, distributed

from vsrbench.nn.functional import precise

FACTOR = 100.0  # ours: a norm so many times its running median is a spike
WINDOW = 101  # ours: values that a median is taken over
NOT_FINITE = "is not finite"
# ours: skipped steps in a row that end a run, by whether the last was not finite. A spike that stays becomes its median
# within WINDOW steps; what is not finite heals only where it came from the batch.
DEAD = {True: 20, False: 2 * WINDOW}
KNOWN = 16  # ours: values that must be known before anything counts as a spike


class Guard:
    """Running medians of loss terms and gradient norms, and a count of skipped steps by what was wrong.

    Every finite value enters its median, also that of a skipped step: where a value has risen for good, its median
    follows and training goes on.
    """

    def __init__(self, factor: float = FACTOR) -> None:
        self.factor = factor
        self.history: dict[str, deque[float]] = {}

    def verdict(
        self, values: Mapping[str, float], bounded: Mapping[str, float] | None = None
    ) -> tuple[str, str] | None:
        """(name, what is wrong) of the first value that forbids the step, None for a step that is to be made.

        values: non-negative numbers, causes before what follows from them, the same on every rank. bounded: lengths to
        which some are shortened anyway; up to there they are no spikes. ours: a part that starts without influence has
        a tiny median, and would be held back just when it begins to matter.
        """
        broken = [(name, NOT_FINITE) for name, value in values.items() if not math.isfinite(value)]
        harmless = bounded or {}
        harmful = {name: value for name, value in values.items() if value > harmless.get(name, 0.0)}
        spikes = [(name, text) for name, value in harmful.items() if (text := self._spike(name, value)) is not None]
        for name, value in values.items():
            if math.isfinite(value):
                self.history.setdefault(name, deque(maxlen=WINDOW)).append(value)
        return next(iter(broken + spikes), None)

    def _spike(self, name: str, value: float) -> str | None:
        known = self.history.get(name, ())
        if len(known) < KNOWN or value <= self.factor * median(known):
            return None
        return f"is {value:.3g}, its median {median(known):.3g}" if median(known) > 0 else None

    def state_dict(self) -> dict[str, Any]:
        return {name: list(values) for name, values in self.history.items()}

    def load_state_dict(self, state: Mapping[str, Iterable[float]]) -> None:
        self.history = {name: deque(values, maxlen=WINDOW) for name, values in state.items()}


def worst(values: Mapping[str, Tensor | float], device: torch.device) -> dict[str, float]:
    """The largest of each value over all ranks; whatever is not finite becomes infinite. Keys: the same everywhere."""
    numbers = torch.tensor([float(value) for value in values.values()], device=device, dtype=torch.float64)
    numbers = torch.where(numbers.isfinite(), numbers, math.inf)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX)
    return dict(zip(values, numbers.tolist(), strict=True))


def norm(gradients: Iterable[Tensor]) -> Tensor:
    """Length of all gradients taken as one vector."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(precise(g.detach())) for g in gradients]))
