"""What the measuring process of ``bench task=memory`` does in tests; importable there, unlike a test module."""

import os
from typing import Any


def killed(cfg: object) -> None:
    """Die as the kernel lets a process die that asks for too much."""
    os._exit(9)


def two_peaks(cfg: Any) -> tuple[int, int]:
    """Peaks of a call that takes 80 MB and of a later one that takes 20 MB."""
    import torch

    from vsrbench.benchmarks.memory import Meter

    meter = Meter(torch.device("cpu"))
    return meter.peak(lambda: torch.ones(20_000_000)), meter.peak(lambda: torch.ones(5_000_000))
