"""The card of a training run: what the weights are, how they were made and measured, how to use them."""

from collections.abc import Mapping
from typing import Any

from vsrbench.training import names

FROZEN = """The checkpoint holds the trained part alone. It names the frozen parts that it was trained beside by hash;
they are checked when it is loaded."""


def card(
    cfg: Mapping[str, Any],
    name: str,
    facts: Mapping[str, Any],
    cost: Mapping[str, float],
    metrics: Mapping[str, float],
    best: Mapping[str, Any] | None,
) -> str:
    """Markdown text. Only what was configured, counted or measured stands in it.

    cfg: the resolved configuration; name: of the run; facts: more lines of the first table; cost and metrics: by
    their names in ``names``; best: the checkpoint callback's {"metric", "value", "step"}.
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
    told = (
        f"Of the last step: means over the first {validation['frames']} frames of {validation['clips']} clip(s), "
        "a look at the run's progress and no benchmark. `vsrbench eval` measures one."
    )
    found = table("metric", "value", {k: number(v) for k, v in metrics.items()})
    lines += ["## Validation", "", *([told, "", *found] if metrics else ["None: there were no validation clips.", ""])]
    if best is not None:
        lines += [f"`best.ckpt` is that of step {best['step']}, with {best['metric']} {number(best['value'])}.", ""]
    lines += ["## Use", "", "```", *use(cfg, "last.ckpt" if best is None else "best.ckpt"), "```", ""]
    lines += [FROZEN, ""]
    return "\n".join(lines)


def use(cfg: Mapping[str, Any], file: str) -> list[str]:
    """Commands that load a checkpoint."""
    chosen = f"method={cfg['method']['name']} size={cfg['size']} variant={cfg['variant']} ckpt_path={file}"
    return [f"vsrbench upscale IN OUT {chosen}", f"vsrbench eval data=vid4 data.root=DIR {chosen}"]


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
