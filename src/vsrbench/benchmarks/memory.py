"""``task=memory``: weights and peak working memory of each part and of upscaling a clip, in a process of their own."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vsrbench.benchmarks.report import Report, device_name, headline, numbers, reported, show, steps
from vsrbench.benchmarks.shapes import clip_length, lr_size, random_clip, with_absent_as_random
from vsrbench.config import build_method
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError
from vsrbench.progress import Bars

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Method

GIGA = 1e9
COLUMNS = numbers({"extra": ("GB beyond the weights", "{:.3f}"), "peak": ("GB", "{:.3f}")})
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# glibc keeps freed blocks below a threshold that grows; a fixed one gives them back, so that peaks do not add up
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def run(cfg: "DictConfig") -> None:
    """Print the table. Raises ConfigError for sizes that the method cannot take or that do not fit into memory."""
    show(measure(cfg), cfg.output)


def measure(cfg: "DictConfig") -> Report:
    """The peaks of a fresh process, beside the paper's."""
    ready, absent = with_absent_as_random(cfg)
    result = in_fresh_process(ready)
    weights = result["weights"] / GIGA
    rows: list[dict[str, Any]] = [{"part": "weights", "peak": weights}]
    for part, extra in result["parts"].items():
        rows.append({"part": part, "extra": extra / GIGA, "peak": weights + extra / GIGA})
    facts = {
        "device": result["device"], "precision": str(cfg.inference.precision), "frames of the clip": result["frames"],
        "frames per network call": int(cfg.inference.batch), **steps(cfg),
    }  # fmt: skip
    columns, title = COLUMNS, headline(cfg, result["size"], absent)
    quoted = reported(cfg.get("peaks"))
    if quoted is None:
        return Report("memory", title, columns, rows, [result["how"]], facts)
    columns = [*columns, quoted.column("{:g}")]
    return Report("memory", title, columns, quoted.beside(rows), [result["how"], *quoted.notes], facts)


def in_fresh_process(cfg: "DictConfig") -> dict[str, Any]:
    """``peaks`` in a process that has done nothing else. Raises ConfigError where that process was killed."""
    from omegaconf import OmegaConf

    cfg = cfg.copy()
    OmegaConf.resolve(cfg)  # the other process knows none of our resolvers
    os.environ.update(ENVIRONMENT)  # of the process to come; this one has read it already
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(peaks, cfg).result()
    except BrokenProcessPool as error:
        raise ConfigError(
            "the measuring process was killed, most likely for want of memory: set smaller bench.height, bench.width, "
            "bench.frames or inference.batch"
        ) from error


def peaks(cfg: "DictConfig") -> dict[str, Any]:
    """Bytes of the weights, and the peaks beyond them while each part runs and while a clip is upscaled."""
    method = build_method(cfg)
    size = lr_size(cfg, method, as_published=method.device.type != "cpu")
    frames = clip_length(cfg, max(int(cfg.inference.batch), 2))  # a full network call, and a neighbour to be guided by
    meter = Meter(method.device)
    peak_bytes: dict[str, int] = {}
    with torch.inference_mode(), Bars() as bars:
        smallest = random_clip((max(method.minimum, method.multiple),) * 2, 2, int(cfg.scale), method.device)
        for item in method.work(smallest).values():
            item.run()  # loads what is imported late
        clip = random_clip(size, frames, int(cfg.scale), method.device)
        for name, item in method.work(clip).items():
            peak_bytes[name] = meter.peak(item.run)
        row = bars.row()
        peak_bytes["upscaling"] = meter.peak(lambda: method.upscale(clip, Noise(0), progress=row))
    return {"weights": weight_bytes(method), "parts": peak_bytes, "size": size, "frames": frames, "how": meter.how,
            "device": device_name(method.device)}  # fmt: skip


def weight_bytes(method: "Method") -> int:
    """Parameters and buffers, each counted once."""
    tensors = {id(t): t for t in chain(method.parameters(), method.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())


class Meter:
    """Peak memory of a call beyond what was in use before it: of the CUDA allocator, or of the process on a CPU.

    Raises ConfigError where the system does not tell.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self.how = "Peak of the CUDA allocator (max_memory_allocated); the CUDA context itself is not in it."
        elif device.type == "cpu" and os.access(RESET, os.W_OK):
            self.how = "Peak resident set of a process of its own (VmHWM of /proc); Python and its libraries left out."
        else:
            raise ConfigError(f"task=memory on {device.type}: this system does not tell peaks; use CUDA or Linux")

    def peak(self, run: Callable[[], object]) -> int:
        """Bytes at the call's highest point beyond what was in use before; its result is dropped."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            run()
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device) - before
        RESET.write_text("5")  # VmHWM starts again from what is resident now
        before = _status("VmRSS")
        run()
        return max(_status("VmHWM") - before, 0)


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])
