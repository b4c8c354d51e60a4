"""``task=loader``: samples per second of the training loader, from image files and from the same clips packed."""

import math
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from vsrbench.benchmarks.report import Column, Report, device_name, show
from vsrbench.benchmarks.shapes import passes
from vsrbench.config import build
from vsrbench.data.datamodule import VideoData
from vsrbench.data.packed import PackedSource, mapped
from vsrbench.data.packing import gather, pack
from vsrbench.data.sources import FolderSource, Source
from vsrbench.errors import ConfigError, DataError
from vsrbench.progress import Bars
from vsrbench.types import Clip, Progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

SAMPLES = 128  # ours: of a pass; seconds from image files
ALONE = 32  # samples that one process makes to count its CPU time
AHEAD = 2  # batches that a worker prepares ahead of the one that is asked for (PyTorch's prefetch_factor)
LARGEST = 2 * 10**9  # bytes that are packed into a temporary folder without being asked
NOTES = (
    "The same samples from both, compared bit for bit. Samples per second are medians of the passes.",
    "cold: before the pass the kernel was asked to drop the files from its cache (posix_fadvise DONTNEED); it may keep "
    "some, and a frame that a pass visits again comes from the cache. What was really read stands beside it; disks and "
    "virtual machines have caches of their own. cached: the same pass again, at once.",
    "CPU ms per sample: of one process without a loader, files cached; other work on the machine hardly changes it.",
)


def run(cfg: "DictConfig") -> None:
    """Print the table. Raises ConfigError for data that cannot be packed, DataError where both do not agree."""
    with Bars() as bars:
        report = measure(cfg, bars.row())
    show(report, cfg.output)


def measure(cfg: "DictConfig", progress: Progress | None = None) -> Report:
    """``bench.repeats`` cold and cached passes of each kind in turn, so that what else the machine does hits both."""
    _check(cfg)
    warmup, batches = _batches(cfg)
    load = os.getloadavg()[0]
    with packed_folder(cfg) as folder:
        loaders = {"image files": _data(cfg, None), "packed": _data(cfg, folder)}
        files = {kind: files_of(data.clips("train")) for kind, data in loaders.items()}
        passes: dict[str, list[Pass]] = {kind: [] for kind in loaders}
        if progress is not None:
            progress.start(4 * int(cfg.bench.repeats), "passes")
        for _ in range(int(cfg.bench.repeats)):
            for kind, data in loaders.items():
                drop(set(files[kind]))
                for _ in ("cold", "cached"):
                    passes[kind].append(one_pass(data, warmup, batches))
                    if progress is not None:
                        progress.advance()
            _compare(passes["image files"][-1].last, passes["packed"][-1].last)
        rows = [_row(kind, passes[kind], cpu(loaders[kind]), sum(files[kind].values())) for kind in loaders]
        facts = _facts(cfg, loaders["image files"].clips("train"), warmup, batches)
    facts["load average before"] = round(load, 1)
    rows.append({"part": "packed : files", **{k: rows[1][k] / rows[0][k] for k in ("cold", "cached", "cpu", "disk")}})
    return Report("loader", f"training samples of data={cfg.data.set}", _columns(), rows, list(NOTES), facts)


def _check(cfg: "DictConfig") -> None:
    if "packed" not in cfg.data:
        raise ConfigError(f"data={cfg.data.set} has no image files to pack: choose data=reds, folder or another")
    if cfg.data.root is None:
        raise ConfigError("task=loader compares a pack with the image files: set data.root=DIR as well")
    passes(cfg)


@contextmanager
def packed_folder(cfg: "DictConfig") -> Iterator[str]:
    """``data.packed``, or a temporary pack of the training clips. Raises ConfigError where that would be large."""
    if cfg.data.packed is not None:
        yield str(cfg.data.packed)
        return
    data = _data(cfg, None)
    splits = {"train": data.splits["train"]}
    size = gather(data.settings, splits).bytes
    if size > LARGEST:
        raise ConfigError(
            f"the training clips would take {size / 1e9:.1f} GB packed: run `python -m vsrbench.data pack "
            f"data={cfg.data.set} data.root={cfg.data.root} output=PACK` once and add data.packed=PACK"
        )
    with tempfile.TemporaryDirectory(prefix="pack-") as folder:
        pack(data.settings, splits, folder, data.workers)
        yield folder


def _data(cfg: "DictConfig", folder: str | None) -> VideoData:
    warmup, batches = _batches(cfg)
    ahead = AHEAD * cfg.data.workers + 1  # never asked for: the workers have something to do until the clock stops
    recipe: dict[str, Any] = {**cfg.train, "samples_per_epoch": (warmup + batches + ahead) * cfg.train.batch}
    data: VideoData = build(cfg.data, packed=folder, recipe=recipe)
    return data


def _batches(cfg: "DictConfig") -> tuple[int, int]:
    """Batches before the clock starts and batches of a pass."""
    ahead = AHEAD * cfg.data.workers  # being made when the loader is asked for its first
    return max(cfg.bench.warmup, ahead), math.ceil(SAMPLES / cfg.train.batch)


class Pass(NamedTuple):
    """rate: samples per second; read: bytes that this process and its workers read from disk; last: a batch."""

    rate: float
    read: int
    last: Clip


def one_pass(data: VideoData, warmup: int, batches: int) -> Pass:
    """Time ``batches`` batches of a fresh loader; its workers are busy before and behind them."""
    before = _read_so_far()
    loader = iter(data.train_dataloader())
    for _ in range(warmup):
        next(loader)
    started = time.perf_counter()
    for _ in range(batches):
        last = next(loader)
    seconds = time.perf_counter() - started
    del loader  # ends the workers; only then are their reads known
    return Pass(batches * last.lr.shape[0] / seconds, _read_so_far() - before, last)


def _read_so_far() -> int:
    return 512 * sum(resource.getrusage(who).ru_inblock for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def drop(files: set[str]) -> None:
    """Ask the kernel to forget what it holds of the files in memory. Raises ConfigError where it cannot be asked."""
    if not hasattr(os, "posix_fadvise"):
        raise ConfigError("task=loader needs posix_fadvise to empty the page cache: run it on Linux")
    mapped.cache_clear()  # mapped pages stay
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)  # pages that are not written yet stay too
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def files_of(sources: list[Source]) -> dict[str, int]:
    """{file: bytes of the clips in it}."""
    sizes: dict[str, int] = {}
    for source in sources:
        if isinstance(source, PackedSource):
            sizes[source.file] = sizes.get(source.file, 0) + source.entry.bytes
        elif isinstance(source, FolderSource):
            for side in (s for s in (source.hr_files, source.lr_files) if s is not None):
                sizes.update({p: os.path.getsize(p) for p in map(side.path, range(len(side.files)))})
    return sizes


def _compare(one: Clip, other: Clip) -> None:
    """Raise DataError where the pack gives other samples than the image files: no speed counts then."""
    assert one.hr is not None and other.hr is not None
    if one.name != other.name or not (one.lr.equal(other.lr) and one.hr.equal(other.hr)):
        raise DataError(f"the pack gives another sample {one.name[0]} than the image files: pack again")


def cpu(data: VideoData) -> float:
    """Seconds of CPU time that one process takes for a sample."""
    samples = data.training_samples
    samples[0]
    started = time.process_time()
    for number in range(1, ALONE + 1):
        samples[number]
    return (time.process_time() - started) / ALONE


def _row(kind: str, passes: list[Pass], seconds: float, size: int) -> dict[str, Any]:
    cold, cached = passes[::2], passes[1::2]
    return {
        "part": kind,
        "cold": median(p.rate for p in cold),
        "read_cold": median(p.read for p in cold) / 1e6,
        "cached": median(p.rate for p in cached),
        "read_cached": median(p.read for p in cached) / 1e6,
        "cpu": 1000 * seconds,
        "disk": size / 1e6,
    }


def _columns() -> list[Column]:
    names = {
        "cold": ("samples/s, cold", "{:.1f}"),
        "read_cold": ("MB read in it", "{:.1f}"),
        "cached": ("samples/s, cached", "{:.1f}"),
        "read_cached": ("MB read in it", "{:.1f}"),
        "cpu": ("CPU ms per sample", "{:.2f}"),
        "disk": ("MB on disk", "{:.1f}"),
    }
    return [Column(key, heading, form, right=True) for key, (heading, form) in names.items()]


def _facts(cfg: "DictConfig", sources: list[Source], warmup: int, batches: int) -> dict[str, Any]:
    source, scale, crop = sources[0], int(cfg.scale), int(cfg.train.crop)
    synthetic = all(not getattr(s, "lr_files", None) for s in sources)
    return {
        "device": device_name(torch.device("cpu")),
        "clips": len(sources),
        "frames": sum(s.frames for s in sources),
        "HR frame": f"{scale * source.size[1]}x{scale * source.size[0]}",
        "HR crop": f"{scale * crop}x{scale * crop}",
        "LR of the image files": f"made by {cfg.degradation.name}" if synthetic else "on disk",
        "frames of a sample": int(cfg.train.frames),
        "batch": int(cfg.train.batch),
        "workers": int(cfg.data.workers),
        "passes": int(cfg.bench.repeats),
        "samples of a pass": batches * int(cfg.train.batch),
        "batches before it": warmup,
    }
