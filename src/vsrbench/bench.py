"""``python -m vsrbench.bench task=params method=dgaf``: parameters by part, beside the paper's table."""

from typing import TYPE_CHECKING, Any

from vsrbench.config import build, compose, launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Method


def run(cfg: "DictConfig") -> None:
    """Print the table of the method's sizes. Raises ConfigError for an unknown task or nothing to count."""
    if cfg.task != "params":
        raise ConfigError(f"task={cfg.task}: use params")
    if cfg.supports.size is None:
        raise ConfigError(f"method={cfg.method.name} has no parameters to count")
    import torch

    tables = {}
    for size in ("mini", "paper"):
        if size in cfg.supports.size:
            with torch.device("meta"):
                tables[size] = counts(build(on_meta(cfg.method.name, size, cfg.variant).method))
    print_table(cfg.method.name, tables, cfg.published)


def on_meta(method: str, size: str, variant: str) -> "DictConfig":
    """The method's configuration with random weights everywhere, so that shapes alone are built."""
    from omegaconf import open_dict

    cfg = compose([f"method={method}", f"size={size}", f"variant={variant}"], verb="bench")
    with open_dict(cfg):
        if cfg.prior is not None:
            if not cfg.prior.get("unet"):
                cfg.prior.update(random_like(cfg.prior.path))
            cfg.prior.random = True
        if cfg.flow is not None and "random" in cfg.flow:
            cfg.flow.random = True
    return cfg


def random_like(path: str) -> dict[str, Any]:
    """A folder's own configs, to build its shapes without reading its weights."""
    from vsrbench.diffusion.weights import load_config

    parts = {part: load_config(path, part) for part in ("unet", "vae")}
    return {name: {k: v for k, v in config.items() if not k.startswith("_")} for name, config in parts.items()}


def counts(method: "Method") -> dict[str, tuple[int, bool]]:
    """{line: (parameters, trained by a stage)}; each parameter is counted once, in the line that names it."""
    trained = {id(p) for s in method.stages.values() for n in s.trainable for p in method.parts()[n].parameters()}
    lines = {}
    for name, modules in method.counted().items():
        parameters = [p for module in modules for p in module.parameters()]
        lines[name] = (sum(p.numel() for p in parameters), any(id(p) in trained for p in parameters))
    return lines


def print_table(method: str, tables: dict[str, dict[str, tuple[int, bool]]], published: Any) -> None:
    """A line per part, a column per size, and the paper's own figures where ``published`` quotes them."""
    from rich.console import Console
    from rich.table import Table

    printed = dict(published.parameters) if published else {}
    table = Table(title=f"parameters of {method}, counted on the meta device")
    table.add_column("part")
    table.add_column("trained")
    for size in tables:
        table.add_column(f"size={size}", justify="right")
    if published:
        table.add_column(f"printed, {published.source}", justify="right")
    names = list(next(iter(tables.values()), {}))
    for name in names:
        row = [f"{lines[name][0]:,}" if name in lines else "-" for lines in tables.values()]
        trained = "yes" if any(lines.get(name, (0, False))[1] for lines in tables.values()) else "no"
        table.add_row(name, trained, *row, *([str(printed.get(name, ""))] if published else []))
    sums = [f"{sum(n for n, _ in lines.values()):,}" for lines in tables.values()]
    table.add_row("sum", "", *sums, *([""] if published else []), style="bold")
    if published:
        quoted = [f"{sum(lines[n][0] for n in names if n in printed):,}" for lines in tables.values()]
        table.add_row("sum of the printed lines", "", *quoted, str(printed.get("sum", "")), style="bold")
    Console(width=120).print(table)
    for note in published.notes if published else []:
        Console(width=120).print(f"- {note}")


if __name__ == "__main__":
    launch(run, "bench")
