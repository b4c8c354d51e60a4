"""What a run says about itself when it starts: device, trained and frozen parameters."""

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from rich.table import Table

from vsrbench.methods.base import Method


def device_name(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def count(method: Method, chosen: Callable[[torch.nn.Parameter], bool]) -> dict[str, int]:
    """Number of chosen parameters per part."""
    return {name: sum(p.numel() for p in part.parameters() if chosen(p)) for name, part in method.parts().items()}


def parameters(method: Method) -> dict[str, int]:
    """How many parameters are trained and how many are frozen."""
    trained = sum(count(method, lambda p: p.requires_grad).values())
    return {"trained": trained, "frozen": sum(count(method, lambda p: not p.requires_grad).values())}


def parameter_table(method: Method) -> Table:
    """Trained and frozen parameters, part by part."""
    table = Table("part", title=f"parameters, stage {method.stage}")
    for column in ("trained", "frozen"):
        table.add_column(column, justify="right")
    trained, frozen = count(method, lambda p: p.requires_grad), count(method, lambda p: not p.requires_grad)
    for name in trained:
        table.add_row(name, f"{trained[name]:,}", f"{frozen[name]:,}")
    table.add_section()
    table.add_row("all", f"{sum(trained.values()):,}", f"{sum(frozen.values()):,}")
    return table
