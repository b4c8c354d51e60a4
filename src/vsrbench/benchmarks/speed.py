"""``task=speed``: seconds of each part, the device's queue empty before the clock is read."""

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

import torch

from vsrbench.benchmarks.report import Report, device_name, headline, numbers, reported, show, steps, tabulate
from vsrbench.benchmarks.shapes import REDS, clip_length, lr_size, passes, random_clip, with_absent_as_random
from vsrbench.config import build_method
from vsrbench.progress import Bars
from vsrbench.types import Progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

COLUMNS = numbers({
    "unit": ("s per unit, median", "{:.3g}"), "fastest": ("fastest", "{:.3g}"), "slowest": ("slowest", "{:.3g}"),
    "times": ("units per frame", "{:.4g}"), "frame": ("s per frame", "{:.3g}"), "share": ("%", "{:.2f}"),
})  # fmt: skip


def run(cfg: "DictConfig") -> None:
    """Print the table. Raises ConfigError for sizes that the method cannot take and settings out of range."""
    with Bars() as bars:
        if cfg.against == "reference":
            from vsrbench.benchmarks import reference

            report = reference.measure(cfg, bars.row())
        else:
            report = measure(cfg, bars.row())
    show(report, cfg.output)


def measure(cfg: "DictConfig", progress: Progress | None = None) -> Report:
    """Each part by itself, one frame at a time, median over ``bench.repeats`` calls after ``bench.warmup``."""
    repeats, warmup = passes(cfg)
    ready, absent = with_absent_as_random(cfg)
    method = build_method(ready)
    size = lr_size(cfg, method, as_published=method.device.type != "cpu")
    frames = clip_length(cfg, REDS[2])
    times: dict[str, list[float]] = {}
    with torch.inference_mode():
        work = method.work(random_clip(size, frames, int(cfg.scale), method.device))
        if progress is not None:
            progress.start(len(work) * (warmup + repeats), "calls")
        for name, item in work.items():
            times[name] = seconds(item.run, method.device, repeats, warmup, progress)
    rows = tabulate(work, {name: median(samples) for name, samples in times.items()})
    rows = [{**row, **spread(times.get(row["part"]))} for row in rows]
    facts = {
        "device": device_name(method.device), "precision": str(cfg.inference.precision), "calls": repeats,
        "frames of the clip": frames, **steps(cfg),
    }  # fmt: skip
    quoted = reported(cfg.get("timings"))
    if quoted is None:
        return Report("speed", headline(cfg, size, absent), COLUMNS, rows, [], facts)
    columns = [*COLUMNS, quoted.column("{:.4g}")]
    return Report("speed", headline(cfg, size, absent), columns, quoted.beside(rows), quoted.notes, facts)


def seconds(
    run: Callable[[], object], device: torch.device, repeats: int, warmup: int, progress: Progress | None = None
) -> list[float]:
    """Wall-clock seconds of each call after the warm-up, each with the device idle before and after."""
    samples = []
    for _ in range(warmup + repeats):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        samples.append(time.perf_counter() - start)
        if progress is not None:
            progress.advance()
    return samples[warmup:]


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it; a CPU has already."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def spread(times: list[float] | None) -> dict[str, float | None]:
    """The fastest and the slowest call."""
    return {"fastest": min(times) if times else None, "slowest": max(times) if times else None}
