"""The model card of a finished training: what the weights are, how they were made and measured, how to use them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.table import Table

from vsrbench.evaluation.outputs import peak_memory
from vsrbench.methods.module import MethodModule
from vsrbench.runs import Run
from vsrbench.stored import CONFIG, read_config
from vsrbench.training import names
from vsrbench.training.callbacks import find
from vsrbench.training.checkpoint import RunCheckpoint
from vsrbench.training.loggers import finish, log_checkpoint, log_summary

CARD = "README.md"
FROZEN = """The checkpoint holds the trained part alone. It names the frozen parts that it was trained beside by hash;
they are checked when it is loaded."""


class ModelCard(pl.Callback):
    """At the very end, after the last validation and checkpoint: README.md in the run folder, then the loggers."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MethodModule)
        checkpoint = find(trainer, RunCheckpoint)
        # A run that a signal or the time limit stopped is not finished; there may be no time left either.
        unfinished = trainer.global_step < trainer.max_steps and not pl_module.ended
        writes = trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if checkpoint is None or unfinished or not writes:
            return
        run, best = Run(Path(trainer.default_root_dir)), checkpoint.best
        settings = read_config(run.folder / CONFIG)
        count = parameters(pl_module)
        costs = cost(count["trained"], count["frozen"], checkpoint.seconds / 3600, peak_memory())
        facts = {
            "stage, steps": f"{pl_module.stage}, {trainer.global_step:,}",
            "effective batch": checkpoint.identity["effective_batch"],
            **{f"in place of {part}": what for part, what in checkpoint.identity.get("substitutes", {}).items()},
            "validation clips": _validated(checkpoint.identity.get("validated") or {}),
            "device": f"{trainer.num_devices * trainer.num_nodes} x {device_name(trainer)}",
        }
        run.write_text(
            CARD, card(settings, run.folder.name, facts, costs, checkpoint.metrics, best, checkpoint.weights_file.name)
        )
        summary = dict(costs)
        if best is not None:
            summary |= {names.best(best["metric"]): best["value"], names.BEST_STEP: best["step"]}
        log_summary(trainer.loggers, summary, trainer.global_step)
        if checkpoint.weights_file.is_file():
            selected = checkpoint.weights_file == checkpoint.best_file and best is not None
            step = best["step"] if selected and best is not None else trainer.global_step
            metadata = {**checkpoint.identity, **summary, "step": step}
            others = [run.folder / CONFIG]
            log_checkpoint(trainer.loggers, checkpoint.weights_file, run.folder / CARD, others, metadata)
        finish(trainer.loggers)


def card(
    cfg: Mapping[str, Any],
    name: str,
    facts: Mapping[str, Any],
    cost: Mapping[str, float],
    metrics: Mapping[str, float],
    best: Mapping[str, Any] | None,
    file: str,
) -> str:
    """Markdown text. Only what was configured, counted or measured is in it.

    cfg: the resolved configuration; name: of the run; facts: more lines of the first table; cost and metrics: by
    their names in ``names``; best: the checkpoint callback's {"metric", "value", "step"}; file: the
    checkpoint that the run hands out.
    """
    method = cfg["method"]["name"]
    what = {
        "method": method,
        "size, variant": f"{cfg['size']}, {cfg['variant']}",
        "scale": f"x{cfg['scale']}",
        "data": cfg["data"]["set"],
        "seed": cfg["seed"],
        **facts,
    }
    validation = cfg["validation"]
    lines = [f"# {name}", "", f"{method}, trained with vsrbench. The whole configuration is in `config.yaml`.", ""]
    lines += table("", "", what)
    lines += ["## Cost", "", *table("", "measured in this run", {k: number(v) for k, v in cost.items()})]
    summary = (
        f"Of the last step: means over the first {validation['frames']} frames of {validation['clips']} clip(s), "
        "a look at the run's progress and no benchmark. `vsrbench eval` measures one."
    )
    metric_rows = table("metric", "value", {k: number(v) for k, v in metrics.items()})
    lines += [
        "## Validation",
        "",
        *([summary, "", *metric_rows] if metrics else ["None: there were no validation clips.", ""]),
    ]
    if best is not None:
        lines += [f"`best.ckpt` is that of step {best['step']}, with {best['metric']} {number(best['value'])}.", ""]
    selection = "selected by validation on" if file == "best.ckpt" else "no validation selected them; it saw"
    clips = facts.get("validation clips") or "none"
    lines += [f"The weights of this run are those of `{file}` (`checkpoint.weights`): {selection}: {clips}.", ""]
    lines += ["## Use", "", "```", *use(cfg, file), "```", ""]
    lines += [FROZEN, ""]
    return "\n".join(lines)


def _validated(clips: Mapping[str, Any]) -> str:
    """Data set and names of the clips that validation measures."""
    return f"{clips['set']}: {', '.join(clips['clips'])}" if clips.get("clips") else "none"


def use(cfg: Mapping[str, Any], file: str) -> list[str]:
    """Commands that load a checkpoint."""
    settings = f"method={cfg['method']['name']} size={cfg['size']} variant={cfg['variant']} ckpt_path={file}"
    return [f"vsrbench upscale IN OUT {settings}", f"vsrbench eval data=vid4 data.root=DIR {settings}"]


def table(left: str, right: str, rows: Mapping[str, Any]) -> list[str]:
    """Lines of a Markdown table and an empty one behind it."""
    return [f"| {left} | {right} |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items()), ""]


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def cost(trained: int, frozen: int, hours: float, peak_bytes: int) -> dict[str, float]:
    """What a training cost, by the names that dashboards know."""
    return {
        names.TRAINED_PARAMETERS: trained,
        names.PARAMETERS: trained + frozen,
        names.TRAINING_HOURS: hours,
        names.PEAK_MEMORY: peak_bytes / 1e9,
    }


def device_name(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def count(module: MethodModule, chosen: Callable[[torch.nn.Parameter], bool]) -> dict[str, int]:
    """Number of chosen parameters per part."""
    return {name: sum(p.numel() for p in part.parameters() if chosen(p)) for name, part in module.parts().items()}


def parameters(module: MethodModule) -> dict[str, int]:
    """How many parameters are trained and how many are frozen."""
    trained = sum(count(module, lambda p: p.requires_grad).values())
    return {"trained": trained, "frozen": sum(count(module, lambda p: not p.requires_grad).values())}


def parameter_table(module: MethodModule) -> Table:
    """Trained and frozen parameters, part by part."""
    table = Table("part", title=f"parameters, stage {module.stage}")
    for column in ("trained", "frozen"):
        table.add_column(column, justify="right")
    trained, frozen = count(module, lambda p: p.requires_grad), count(module, lambda p: not p.requires_grad)
    for name in trained:
        table.add_row(name, f"{trained[name]:,}", f"{frozen[name]:,}")
    table.add_section()
    table.add_row("all", f"{sum(trained.values()):,}", f"{sum(frozen.values()):,}")
    return table
