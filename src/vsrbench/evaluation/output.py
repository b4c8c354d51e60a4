"""Writing the frames that are scored afterwards, clip by clip, and what making them cost."""

import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vsrbench.data.sources import Source
from vsrbench.evaluation.frames import encode
from vsrbench.evaluation.values import NOT_APPLICABLE
from vsrbench.runs import Run, write_atomic
from vsrbench.types import Progress

TIMINGS = "timings.json"  # {weights, clips: {clip: {frames, seconds, peak_memory}}}, complete clips only

Frames = Iterator[tuple[int, Tensor]]


def write_clips(
    run: Run,
    sources: list[Source],
    upscale: Callable[[Source], Frames],
    weights: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``frames/<clip>/<frame>.png`` of every clip; clips that an earlier call completed are kept.

    upscale(source) yields (frame number, (3,H,W) in [0,1]). weights: what the frames depend on besides the
    configuration; frames of other weights are made again.
    Returns the timings of all clips: {clip: {"frames", "seconds", "peak_memory" in bytes}}.
    """
    if progress is not None:
        progress.start(sum(source.frames for source in sources), "upscaling")
    clips = complete(run, sources, weights)
    for source in sources:
        if source.name in clips:
            if progress is not None:
                progress.advance(source.frames)
            continue
        shutil.rmtree(run.frames / source.name, ignore_errors=True)  # a clip cut off in the middle
        clips[source.name] = write_clip(run, source, upscale(source), progress)
        run.write_json(TIMINGS, {"weights": weights, "clips": clips})
    return clips


def discard(run: Run) -> None:
    """Remove what an earlier evaluation left in the run folder: results, timings, frames."""
    for result in run.folder.glob("result*.json"):
        result.unlink()
    (run.folder / TIMINGS).unlink(missing_ok=True)
    shutil.rmtree(run.frames, ignore_errors=True)


def complete(run: Run, sources: list[Source], weights: dict[str, str] | None) -> dict[str, Any]:
    """Timings of the clips whose frames are all there, made with the same weights."""
    path = run.folder / TIMINGS
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"weights": weights, "clips": {}}
    if known["weights"] != weights:
        return {}
    return {
        source.name: known["clips"][source.name]
        for source in sources
        if source.name in known["clips"]
        and all((run.frames / source.name / f"{stem}.png").is_file() for stem in source.frame_names)
    }


def write_clip(run: Run, source: Source, frames: Frames, progress: Progress | None) -> dict[str, Any]:
    """Seconds are those of making frames: reading LR and computing, not writing PNG files."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    count, seconds = 0, 0.0
    started = time.perf_counter()
    for number, frame in frames:
        pixels = frame.cpu()  # waits for the device
        seconds += time.perf_counter() - started
        write_atomic(run.frames / source.name / f"{source.frame_names[number]}.png", encode(pixels))
        count += 1
        if progress is not None:
            progress.advance()
        started = time.perf_counter()
    return {"frames": count, "seconds": seconds, "peak_memory": peak_memory()}


def peak_memory() -> int:
    """Bytes that the GPU held at most since its counter was reset; without one, the whole process: an upper bound."""
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # it counts kilobytes


def cost(timings: dict[str, Any], parameters: int, steps: int | None, device: str) -> dict[str, Any]:
    """The ``cost`` part of result.json. parameters: of all networks; steps: the sampler's, None without one."""
    frames = sum(entry["frames"] for entry in timings.values())
    return {
        "parameters": parameters,
        "flops_per_frame": {"unavailable": "not measured by eval"},
        "seconds_per_frame": sum(entry["seconds"] for entry in timings.values()) / frames,
        "peak_memory": max(entry["peak_memory"] for entry in timings.values()),
        "steps": NOT_APPLICABLE if steps is None else steps,
        "device": device,
    }


def foreign_cost() -> dict[str, Any]:
    """The ``cost`` part where other software made the frames: nothing is known."""
    names = ("parameters", "flops_per_frame", "seconds_per_frame", "peak_memory", "steps", "device")
    return dict.fromkeys(names, NOT_APPLICABLE)
