"""An evaluation on the run page: means, cost, a table per clip, pictures of the first clips."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf

from vsrbench import config
from vsrbench.data.readers import read_image
from vsrbench.data.sources import Source
from vsrbench.evaluation.protocol import split_of
from vsrbench.runs import Run
from vsrbench.training import names
from vsrbench.training.loggers import build_loggers, finish, log_media, log_summary, log_table
from vsrbench.training.media import Shown, show

if TYPE_CHECKING:
    from omegaconf import DictConfig

LONGEST = 16  # frames of a clip that its pictures show


def log_results(cfg: "DictConfig", run: Run, results: Sequence[dict[str, Any]]) -> None:
    """Send a finished evaluation to the logger of the configuration; nothing with ``logger=csv``.

    results: what result.json holds, one per protocol. The pictures of the first ``validation.strips`` clips are in the
    run folder's ``samples/`` too.
    """
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    protocols = {result["protocol"]["id"]: result["protocol"]["hash"] for result in results}
    loggers = build_loggers(cfg, run, {**settings, "protocol_hashes": protocols})
    if not loggers:
        return
    media = pictures(cfg, run) if cfg.predictions is None else []
    for result in results:
        other = None if result is results[0] else result["protocol"]["id"]
        means = {k: m["mean"] for k, m in result["metrics"].items() if is_number(m["mean"])}
        for logger in loggers:
            logger.log_metrics({names.evaluation(key, other): value for key, value in means.items()}, 0)
        log_table(loggers, names.evaluation("clips", other), rows(result), 0, media)
    log_summary(loggers, cost(results[0]["cost"]), 0)
    log_media(loggers, media, 0)
    finish(loggers)
    for logger in loggers:
        logger.finalize("success")


def rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per clip; what is unavailable or does not apply is an empty cell, its reason is in result.json."""
    metrics = result["metrics"]
    return [
        {"clip": clip, "frames": frames} | {name: _cell(m["clips"][clip]["mean"]) for name, m in metrics.items()}
        for clip, frames in result["data"]["clips"].items()
    ]


def cost(costs: dict[str, Any]) -> dict[str, float]:
    """What of result.json's ``cost`` is a number, by the names that dashboards know."""
    known = {
        names.PARAMETERS: costs["parameters"],
        names.SECONDS_PER_FRAME: costs["seconds_per_frame"],
        names.PEAK_MEMORY: costs["peak_memory"] / 1e9 if is_number(costs["peak_memory"]) else None,
        names.SAMPLER_STEPS: costs["steps"],
    }
    return {key: value for key, value in known.items() if is_number(value)}


def pictures(cfg: "DictConfig", run: Run) -> list[Shown]:
    """Of the first clips that have a ground truth, their first frames, as they were written."""
    sources: list[Source] = config.build(cfg.data).clips(split_of(cfg))
    media = []
    for source in sources[: cfg.validation.strips]:
        clip = source.read(0, min(LONGEST, source.frames))
        if clip.hr is None:
            continue
        files = [run.clip(source.name) / f"{stem}.png" for stem in source.frame_names[: clip.frames]]
        output = torch.stack([torch.tensor(read_image(file)) for file in files]).permute(0, 3, 1, 2).float() / 255
        media.append(show(clip, output[None], run.samples, 0))
    return media


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> float | None:
    return float(value) if is_number(value) else None
