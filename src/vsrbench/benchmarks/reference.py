"""``task=speed against=reference``: a clip as upscaling computes it, beside the loop of released codes.

Reference: the same loop with one frame per network call, in float32, the guidance decoded for every frame and step.
Both have the same weights, noise and flows, and take turns in one process. On a CPU seconds are those of the process,
summed over its threads: other programs do not count. Peaks of memory: task=memory, in a process of its own.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vsrbench.benchmarks.flops import flops
from vsrbench.benchmarks.report import Report, device_name, headline, numbers, steps
from vsrbench.benchmarks.shapes import clip_length, lr_size, passes, random_clip, with_absent_as_random
from vsrbench.benchmarks.speed import synchronise
from vsrbench.config import build_method
from vsrbench.diffusion.noise import Noise
from vsrbench.methods.padding import upscale_padded
from vsrbench.types import Progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

COLUMNS = numbers({
    "frame": ("s per frame, median", "{:.3g}"), "ratio": ("times as fast", "{:.2f}"), "least": ("least", "{:.2f}"),
    "most": ("most", "{:.2f}"), "psnr": ("PSNR to it, dB", "{:.1f}"), "difference": ("largest difference", "{:.2g}"),
    "share": ("% of the matrix peak", "{:.1f}"),
})  # fmt: skip
FRAMES = 5
# of a method that has them: settings with which its loop does what the released code does
RELEASED = {"guidance_precision": "fp32", "refresh": 1}
SIDE = 2048  # of the matrices whose product gives the device's peak


def measure(cfg: "DictConfig", progress: Progress | None = None) -> Report:
    """Three lines: the reference, the same precision in batches, and ``inference.precision=auto``.

    ratio, least, most: over ``bench.repeats`` turns after one that is not timed.
    """
    repeats, _ = passes(cfg)
    ready, absent = with_absent_as_random(cfg)
    plain = ready.copy()
    for name in RELEASED.keys() & plain.method.keys():
        plain.method[name] = RELEASED[name]
    batch = int(cfg.inference.batch)
    ours = build_method(ready)
    size = lr_size(cfg, ours, as_published=ours.device.type != "cpu")
    clip = random_clip(size, clip_length(cfg, FRAMES), int(cfg.scale))
    sides = {
        "reference": (build_method(plain), "fp32", 1),
        "batches, fp32": (ours, "fp32", batch),
        "upscaling, auto": (ours, "auto", batch),
    }

    def run(name: str) -> Tensor:
        method, precision, frames = sides[name]
        return upscale_padded(method.configure_inference(precision, frames), clip, Noise(int(cfg.seed)))

    outputs = {name: run(name) for name in sides}
    times: dict[str, list[float]] = {name: [] for name in sides}
    if progress is not None:
        progress.start(repeats * len(sides), "runs")
    for turn in range(repeats):
        for name in list(sides)[:: -1 if turn % 2 else 1]:  # so that none always follows the same one
            times[name].append(device_seconds(partial(run, name), ours.device))
            if progress is not None:
                progress.advance()
    count = flops(partial(run, "reference")) / clip.frames
    peaks = {dtype: matrix_peak(ours.device, dtype) for dtype in {torch.float32, ours.precision}}
    rows: list[dict[str, Any]] = []
    for name, seconds in times.items():
        frame = median(seconds) / clip.frames
        ratios = [before / now for before, now in zip(times["reference"], seconds, strict=True)]
        error = (outputs[name] - outputs["reference"]).double()
        peak = peaks[ours.precision if name.endswith("auto") else torch.float32]
        row = {"part": name, "frame": frame, "share": 100 * count / frame / peak}
        if name != "reference":
            row |= {"ratio": median(ratios), "least": min(ratios), "most": max(ratios)}
            row |= {"difference": error.abs().max().item(), "psnr": psnr(error)}
        rows.append(row)
    facts = {
        "device": device_name(ours.device), "auto": str(ours.precision), "turns": repeats,
        "frames of the clip": clip.frames, "frames per network call": batch, **steps(cfg),
        **{f"TFLOP/s of products in {dtype}": round(peak / 1e12, 3) for dtype, peak in peaks.items()},
        "TFLOP per frame": round(count / 1e12, 4),
    }  # fmt: skip
    return Report("speed", headline(cfg, size, absent), COLUMNS, rows, [], facts)


def device_seconds(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call: of all threads of this process on a CPU, of the clock on other devices."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    synchronise(device)
    start = clock()
    run()
    synchronise(device)
    return clock() - start


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP per second (of ``device_seconds``) of the product of two large matrices, the best of five."""
    a, b = (torch.ones(SIDE, SIDE, dtype=dtype, device=device) for _ in range(2))
    return 2 * SIDE**3 / min(device_seconds(lambda: a @ b, device) for _ in range(5))


def psnr(error: Tensor) -> float | None:
    """dB below a peak of 1; None without any error."""
    return -10 * error.square().mean().log10().item() if error.any() else None
