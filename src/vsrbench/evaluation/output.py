"""Writing the frames that are scored afterwards, clip by clip, and what making them cost."""

import hashlib
import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from vsrbench.data.sources import Source
from vsrbench.evaluation.frames import encode
from vsrbench.evaluation.matching import Found
from vsrbench.evaluation.values import NOT_APPLICABLE
from vsrbench.runs import Run, write_atomic
from vsrbench.types import Progress

# {weights, settings, code, clips: {clip: {frames, seconds, peak_memory, input}}, facts}, complete clips only
TIMINGS = "timings.json"
LATER = 7  # the other frame that tells a clip from another; ours: a video would have to be decoded to its end

UNKNOWN: Mapping[str, Any] = {"weights": None}
Frames = Iterator[tuple[int, Tensor]]


def write_clips(
    run: Run,
    sources: list[Source],
    upscale: Callable[[Source], Frames],
    made_with: Mapping[str, Any] = UNKNOWN,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``frames/<clip>/<frame>.png`` of every clip; clips that an earlier call completed are kept.

    upscale(source) yields (frame number, (3,H,W) in [0,1]). made_with: as ``again.made_with`` gives; frames of other
    weights are made again.
    Returns the timings of all clips: {clip: {"frames", "seconds", "peak_memory" in bytes, "input"}}.
    """
    if progress is not None:
        progress.start(sum(source.frames for source in sources), "upscaling")
    clips = complete(run, sources, made_with)
    for source in sources:
        if source.name in clips:
            if progress is not None:
                progress.advance(source.frames)
            continue
        shutil.rmtree(run.frames / source.name, ignore_errors=True)  # a clip cut off in the middle
        clips[source.name] = write_clip(run, source, upscale(source), progress)
        run.write_json(TIMINGS, {**made_with, "clips": clips})
    return clips


def link(run: Run, found: Found, sources: list[Source]) -> None:
    """Links to foreign frames under the data's names, ``frames/<clip>/<frame>.png``, for reports to show.

    Copies where the file system has no links. Frames of a video are left out: they may be many.
    """
    for source in sources:
        for number, frame in found.there[source.name].items():
            file = run.frames / source.name / f"{source.frame_names[number]}.png"
            if frame.video is not None or (file.exists() and file.samefile(frame.path)):
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            try:
                file.symlink_to(frame.path.resolve())
            except OSError:
                shutil.copyfile(frame.path, file)


def discard(run: Run) -> None:
    """Remove what an earlier evaluation left in the run folder: results, timings, frames."""
    for result in run.folder.glob("result*.json"):
        result.unlink()
    (run.folder / TIMINGS).unlink(missing_ok=True)
    shutil.rmtree(run.frames, ignore_errors=True)


def known(run: Run) -> dict[str, Any]:
    """What the run folder tells of its frames."""
    path = run.folder / TIMINGS
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {**UNKNOWN, "clips": {}}
    return content


def complete(run: Run, sources: list[Source], made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Timings of the clips whose frames are all there, made with the same weights of the same LR frames."""
    there = known(run)
    if there["weights"] != made_with["weights"]:
        return {}
    return {
        source.name: there["clips"][source.name]
        for source in sources
        if source.name in there["clips"]
        and all((run.frames / source.name / f"{stem}.png").is_file() for stem in source.frame_names)
        and there["clips"][source.name].get("input", "") in ("", fingerprint(source))
    }


def fingerprint(source: Source) -> str:
    """Tells a clip's LR content from another's: hash of its length and two of its first frames."""
    lr = source.load(sorted({0, min(LATER, source.frames - 1)})).lr
    content = (lr * 255).round().byte().numpy().tobytes()
    return hashlib.blake2b(content + str((source.frames, *lr.shape)).encode(), digest_size=8).hexdigest()


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
    return {"frames": count, "seconds": seconds, "peak_memory": peak_memory(), "input": fingerprint(source)}


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
