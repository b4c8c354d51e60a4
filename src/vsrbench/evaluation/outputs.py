"""Frames of an evaluation in its run folder: written clip by clip, timed, and reused by later evaluations."""

import hashlib
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsrbench.data.sources import Source
from vsrbench.errors import RunError
from vsrbench.evaluation.frames import encode
from vsrbench.evaluation.matching import ClipFrames
from vsrbench.evaluation.values import NOT_APPLICABLE
from vsrbench.runs import Run, differing, making, read_run_settings, short_hash, write_atomic
from vsrbench.stored import CONFIG, read_json_or
from vsrbench.types import Progress

# {weights, settings, code, clips: {clip: {frames, seconds, peak_memory, input, stamp}}, facts}, complete clips only
TIMINGS = "timings.json"
INPUT = ("input", "stamp")
INPUTS = "inputs.json"  # {clip: as ``identify``} of all that was evaluated

NOTES = ("published", "needs", "command", "counts", "timings", "peaks")  # of an experiment: no frame depends on them
ROOT = "data.root"  # where data lie; ``fingerprint`` says what they are

UNKNOWN: Mapping[str, Any] = {"weights": None}
Frames = Iterator[tuple[int, Tensor]]


def write_clips(
    run: Run,
    sources: list[Source],
    upscale: Callable[[Source], Frames],
    key: Mapping[str, Any] = UNKNOWN,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``frames/<clip>/<frame>.png`` of every clip; clips that an earlier call completed are kept.

    upscale(source) yields (frame number, (3,H,W) in [0,1]). key: as ``frame_key`` gives; frames of other
    weights are made again.
    Returns the timings of all clips: {clip: {"frames", "seconds", "peak_memory" in bytes, and of ``identify``}}.
    """
    if progress is not None:
        progress.start(sum(source.frames for source in sources), "upscaling")
    clips = complete_clips(run, sources, key)
    for source in sources:
        if source.name in clips:
            if progress is not None:
                progress.advance(source.frames)
            continue
        shutil.rmtree(run.clip(source.name), ignore_errors=True)  # a clip cut off in the middle
        clips[source.name] = write_clip(run, source, upscale(source), progress) | identify(source)
        run.write_json(TIMINGS, {**key, "clips": clips})
    return clips


def link_foreign(run: Run, frames: ClipFrames, sources: list[Source]) -> None:
    """Links to foreign frames under the data's names, ``frames/<clip>/<frame>.png``, for reports to show.

    Copies where the file system has no links. Frames of a video are left out: they may be many.
    """
    for source in sources:
        for number, frame in frames.there[source.name].items():
            file = run.clip(source.name) / f"{source.frame_names[number]}.png"
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
    for result in (*run.folder.glob("result*.json"), *run.folder.glob(INPUTS)):
        result.unlink()
    (run.folder / TIMINGS).unlink(missing_ok=True)
    shutil.rmtree(run.frames, ignore_errors=True)


def read_timings(run: Run) -> dict[str, Any]:
    """What the run folder tells of its frames. Raises RunError where it is damaged."""
    remedy = "delete it, and the frames are made again"
    content = read_json_or(run.folder / TIMINGS, {**UNKNOWN, "clips": {}}, remedy)
    clips = content.get("clips")
    if not isinstance(clips, dict) or not all(map(_is_timing, clips.values())):
        raise RunError(f"{run.folder / TIMINGS} is damaged (it has no times of clips): {remedy}")
    return {**UNKNOWN, **content}


def _is_timing(entry: Any) -> bool:
    numbers = [entry.get(key) for key in ("frames", "seconds", "peak_memory")] if isinstance(entry, dict) else [None]
    return all(isinstance(number, int | float) for number in numbers)


def complete_clips(run: Run, sources: list[Source], key: Mapping[str, Any]) -> dict[str, Any]:
    """Timings of the clips whose frames are all there, made with the same weights of the same LR frames."""
    there = read_timings(run)
    if there["weights"] != key["weights"]:
        return {}
    return {
        source.name: there["clips"][source.name]
        for source in sources
        if source.name in there["clips"]
        and all((run.clip(source.name) / f"{stem}.png").is_file() for stem in source.frame_names)
        and same_content(source, there["clips"][source.name])
    }


def fingerprint(source: Source) -> str:
    """Tells a clip's content from another's: hash of its length, its size, and all its stored HR and LR frames."""
    digest = hashlib.blake2b(str((source.frames, *source.size)).encode(), digest_size=8)
    for position in range(source.frames):
        for pixels in source.stored(position):
            digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def stamp(files: Iterable[str | Path]) -> str:
    """Tells files from others by their names, sizes and times, without reading them; "" where there are none."""
    facts = [(str(file), (now := os.stat(file)).st_size, now.st_ctime_ns) for file in files]  # cp -p keeps mtime
    return hashlib.blake2b(str(facts).encode(), digest_size=8).hexdigest() if facts else ""


def identify(source: Source) -> dict[str, str]:
    """``input``: see ``fingerprint``; ``stamp``: see ``stamp``, with which the content need not be read again."""
    return {"input": fingerprint(source), "stamp": stamp(source.files())}


def same_content(source: Source, known: Mapping[str, Any]) -> bool:
    """Whether a clip is the one that ``identify`` told of."""
    files = source.files()
    return bool(files and known.get("stamp") == stamp(files)) or known.get("input") == fingerprint(source)


def note_inputs(run: Run, sources: list[Source], predictions: Path | None) -> None:
    """Write down what is evaluated, for ``changed_inputs``."""
    clips = {} if predictions else read_timings(run)["clips"]
    known = {source.name: clips.get(source.name, {}) for source in sources}
    content = {s.name: {k: known[s.name].get(k) for k in INPUT} if known[s.name] else identify(s) for s in sources}
    run.write_json(INPUTS, {"clips": content, "predictions": _foreign_stamp(predictions)})


def changed_inputs(run: Run, sources: list[Source], predictions: Path | None) -> bool:
    """Whether ground truth, LR frames or foreign frames are others than those that were evaluated."""
    content = read_json_or(run.folder / INPUTS, {}, "remove it, and the same command evaluates again")
    clips = content.get("clips")
    if not isinstance(clips, dict) or content.get("predictions") != _foreign_stamp(predictions):
        return True
    return any(not same_content(source, clips.get(source.name) or {}) for source in sources)


def _foreign_stamp(predictions: Path | None) -> str:
    if predictions is None:
        return ""
    frames = predictions / "frames" if (predictions / CONFIG).is_file() else predictions  # of a run folder
    return stamp(path for path in sorted(frames.rglob("*")) if path.is_file())


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
        write_atomic(run.clip(source.name) / f"{source.frame_names[number]}.png", encode(pixels))
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


def frame_key(settings: dict[str, Any], split: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What frames depend on: weights, a hash of the settings (where the data lie is none) and the code.

    settings: the configuration as plain containers. origin: as ``results.origin`` gives.
    """
    frames = {k: v for k, v in making(settings).items() if k.split(".")[0] not in NOTES and k != ROOT}
    code = f"{origin['vsrbench']} {origin['commit']}"
    return {"weights": origin["weights"], "settings": short_hash({**frames, "split": split}), "code": code}


def reuse_frames(run: Run, sources: list[Source], key: Mapping[str, Any]) -> str | None:
    """Link the frames that this run lacks from a run folder beside it: one of the same settings, weights and LR frames
    that the same code made. Returns a line that says so, or names the command for frames that other code made.
    """
    have = complete_clips(run, sources, key)
    missing = [source for source in sources if source.name not in have]
    note = None
    for path in sorted(run.folder.parent.glob(f"*/{TIMINGS}")) if missing else []:
        other = Run(path.parent)
        try:
            there = read_timings(other)
        except RunError as error:  # of another run: this one goes on without its frames
            note = str(error)
            continue
        if other == run or any(there.get(part) != key[part] for part in ("weights", "settings")):
            continue
        clips = complete_clips(other, missing, key)
        if there["code"] != key["code"] or key["code"].endswith("+changes"):
            if clips and note is None:
                note = (
                    f"{other.frames} holds frames of these settings, of a version that may differ from this one "
                    f"({there['code']}): they are made anew; predictions={other.frames} evaluates those"
                )
            continue
        for source in missing:
            if source.name in clips:
                _link(other.clip(source.name), run.clip(source.name), source)
        if clips:
            content = {**key, "facts": there.get("facts"), "clips": {**have, **clips}}
            run.write_json(TIMINGS, content)
            return f"frames of {len(clips)} clips are those of {other.folder}: same settings, weights and version"
    return note


def _link(there: Path, here: Path, source: Source) -> None:
    """The same files under a second name; copies where the file system has no links."""
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    for stem in source.frame_names:
        try:
            os.link(there / f"{stem}.png", here / f"{stem}.png")
        except OSError:
            shutil.copyfile(there / f"{stem}.png", here / f"{stem}.png")


def moved_data(folder: Path, settings: dict[str, Any], sources: Callable[[], list[Source]]) -> tuple[str, ...]:
    """``data.root`` where it alone differs from what the run folder was made with, and its clips are the same."""
    file = folder / CONFIG
    if not file.is_file() or differing(read_run_settings(file), settings) != [ROOT]:
        return ()
    clips = read_timings(Run(folder))["clips"]
    now = {source.name: source for source in sources()}
    same = clips.keys() == now.keys() and all(same_content(now[name], entry) for name, entry in clips.items())
    return (ROOT,) if same else ()
