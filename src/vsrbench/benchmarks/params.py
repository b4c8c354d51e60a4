"""``task=params``: parameters by part at every size, beside the paper's table."""

from typing import TYPE_CHECKING

import torch

from vsrbench.benchmarks.report import Column, Report, Reported, reported, show
from vsrbench.benchmarks.shapes import on_meta, without_weights
from vsrbench.config import build
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Method

Counts = dict[str, tuple[int, str, bool]]  # parameters; stages that train them, "no" where none does; in upscaling too


def run(cfg: "DictConfig") -> None:
    """Print the table. Raises ConfigError where there is nothing to count."""
    show(measure(cfg), cfg.output)


def measure(cfg: "DictConfig") -> Report:
    """Counted on the meta device: no weights are read or made."""
    if cfg.supports.size is None:
        raise ConfigError(f"method={cfg.method.name} has no parameters to count")
    tables = {}
    for size in ("mini", "paper"):
        if size in cfg.supports.size:
            # its own settings count where the size is the one that was asked for
            own = without_weights(cfg) if size == cfg.size else on_meta(cfg.method.name, size, cfg.variant)
            with torch.device("meta"):
                method = build(own.method)
                module = None if own.module is None else build(own.module, method=method)
            tables[size] = counts(method, {} if module is None else module.own_parts())
    quoted = reported(cfg.get("counts"))
    title = f"parameters of {cfg.method.name} variant={cfg.variant}, counted on the meta device"
    columns = [
        Column("trained", "trained in stage"),
        *(Column(size, f"size={size}", "{:,}", right=True) for size in tables),
    ]
    columns += [quoted.column("{:g}")] if quoted else []
    return Report("params", title, columns, rows(tables, quoted), quoted.notes if quoted else [])


def counts(method: "Method", training: dict[str, torch.nn.Module]) -> Counts:
    """Every line of the table; each parameter is counted once, in the line that names it.

    training: networks that serve training alone.
    """
    parts = {**method.parts(), **training}
    groups = {**method.parameter_groups(), **{f"{name} (training)": [part] for name, part in training.items()}}
    aside = {id(p) for part in training.values() for p in part.parameters()}
    trained = {s: {id(p) for n in stage.trainable for p in parts[n].parameters()} for s, stage in method.stages.items()}
    lines = {}
    for name, modules in groups.items():
        parameters = [p for module in modules for p in module.parameters()]
        stages = [stage for stage, ids in trained.items() if any(id(p) in ids for p in parameters)]
        used = any(id(p) not in aside for p in parameters)
        lines[name] = (sum(p.numel() for p in parameters), ", ".join(stages) or "no", used)
    return lines


def rows(tables: dict[str, Counts], quoted: Reported | None) -> list[dict[str, object]]:
    """A line per part, the sum of those that upscaling needs, and of those that the paper reports beside its own."""
    values = quoted.values if quoted else {}
    names = list(dict.fromkeys(name for lines in tables.values() for name in lines))

    def row(part: str, trained: str, numbers: dict[str, int | None], value: float | None) -> dict[str, object]:
        return {"part": part, "trained": trained, **numbers, "printed": value}

    table = []
    for name in names:
        trained = next(lines[name][1] for lines in tables.values() if name in lines)
        numbers = {size: lines[name][0] if name in lines else None for size, lines in tables.items()}
        table.append(row(name, trained, numbers, values.get(name)))
    sums: dict[str, int | None] = {s: sum(n for n, _, used in t.values() if used) for s, t in tables.items()}
    lines = values.keys() - {"sum"}
    table.append(row("sum", "", sums, None if lines else values.get("sum")))
    if lines:
        some: dict[str, int | None] = {s: sum(t[k][0] for k in t if k in lines) for s, t in tables.items()}
        table.append(row("sum of the reported lines", "", some, values.get("sum")))
    return table
