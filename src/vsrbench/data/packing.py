"""Packing clips, and checking packed ones. A killed writer loses no more than its last moments.

Pixels go to a shard first, are forced to disk, and only then are named in the index.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import DownloadColumn, ProgressColumn, TransferSpeedColumn
from torch.utils.data import DataLoader, Dataset

from vsrbench.data.catalog import Catalog, Settings
from vsrbench.data.finder import find
from vsrbench.data.loading import lost_workers_told
from vsrbench.data.packed import Index, check_shards, digest, read_index
from vsrbench.data.shards import Frame, Writer
from vsrbench.data.sources import FolderSource
from vsrbench.data.trees import LONG
from vsrbench.errors import ConfigError, DataError
from vsrbench.progress import display, track

CHUNK = 16 * 2**20  # bytes that a check reads at once
SPARE = 64 * 2**20  # bytes that stay free beside the pack


@dataclass(frozen=True)
class Job:
    """What is to be packed: clips by name, frames of the full clips that are cut short, clips that are not there."""

    sources: dict[str, FolderSource]
    full: dict[str, int]
    absent: list[str]
    unit: str

    @property
    def bytes(self) -> int:
        """Size of the clips once they are packed."""
        clips = list(self.sources.values())
        return sum(bytes_of(source) for source in track(clips, "sizes", shown=len(clips) >= LONG))


def gather(settings: Settings, splits: Mapping[str, Any]) -> Job:
    """The clips of all splits, each once and with all its frames, from ``data.root``.

    Raises ConfigError for data that are no image files, DataError for broken data and where there are no clips.
    """
    job = Job({}, {}, [], "")
    for name, split in splits.items():
        if split is None:
            continue
        catalog = find(replace(settings, packed=None), {**split, "frames": None})
        if not catalog.sources:
            raise ConfigError(f"data={settings.set} has no stored clips for {name}: set data.splits.{name}=null")
        _add(job, catalog, settings.set)
        job = replace(job, unit=catalog.unit)
    if not job.sources:
        raise DataError(f"data={settings.set} has no split to pack: set data.splits.test or another")
    return job


def _add(job: Job, catalog: Catalog, set_name: str) -> None:
    for source in catalog.sources:
        if not isinstance(source, FolderSource):
            raise ConfigError(f"data={set_name} is not made of stored frames: packing is for folders of image files")
        job.sources[source.name] = source
    job.full.update({name: full for name, (_, full) in catalog.short.items()})
    job.absent.extend(name for name in catalog.absent if name not in job.absent)


def bytes_of(source: FolderSource) -> int:
    """Size of a clip once it is packed. Raises DataError where HR and LR do not fit each other."""
    height, width = source.size
    return 3 * height * width * source.frames * (1 + source.scale**2 * source.has_hr)


def pack(settings: Settings, splits: Mapping[str, Any], folder: str | Path, workers: int = 0) -> Index:
    """Pack the clips of ``splits`` into ``folder``, going on with what an earlier call left there.

    workers: processes that decode. Raises DataError for broken frames, a folder that holds something else, a source
    that changed since an earlier call, a full disk.
    """
    job = gather(settings, splits)
    with Writer(Path(folder), settings, job.unit) as writer:
        fresh = [source for name, source in job.sources.items() if name not in writer.index.entries]
        writer.check_kept([n for n in job.sources if n in writer.index.entries], settings.folder)
        sizes = [bytes_of(source) for source in track(fresh, "sizes", shown=len(fresh) >= LONG)]
        _announce(settings, Path(folder), job, len(fresh), sum(sizes))
        frames = _frames(fresh, workers)
        with display(counts=_bytes(), disable=not fresh) as bar:
            task = bar.add_task("packing", total=sum(sizes))
            for source, size in zip(fresh, sizes, strict=True):
                bar.update(task, description=f"packing {source.name}")
                writer.add(source, settings.folder, islice(frames, source.frames), job.full.get(source.name))
                bar.advance(task, size)
        writer.finish(job.absent)
    return writer.index


def _announce(settings: Settings, folder: Path, job: Job, fresh: int, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if job.absent:
        more = f" and {len(job.absent) - 1} more" if len(job.absent) > 1 else ""
        print(f"{settings.set}: absent are {job.absent[0]}{more}")
    print(
        f"{settings.set}: {len(job.sources)} clips, {len(job.sources) - fresh} of them packed already; "
        f"{size / 1e9:.2f} GB to write into {folder} ({free / 1e9:.0f} GB free)"
    )
    if fresh and size + SPARE > free:
        raise DataError(
            f"{folder} has {free / 1e9:.2f} GB free, the pack needs {size / 1e9:.2f} GB more: choose another "
            "output=DIR, or pack fewer clips (data.splits)"
        )


def _bytes() -> list[ProgressColumn]:
    return [DownloadColumn(), TransferSpeedColumn()]


def _frames(sources: Sequence[FolderSource], workers: int) -> Iterator[Frame]:
    """LR and HR of every frame of every clip, in order."""
    with lost_workers_told("use fewer of them (data.workers=N; 0: none), and the same command goes on"):
        for pair in DataLoader(_Frames(sources), batch_size=None, num_workers=workers) if sources else ():
            if isinstance(pair, DataError):
                raise pair
            lr, hr = pair
            yield lr.numpy(), None if hr is None else hr.numpy()


class _Frames(Dataset[Any]):
    def __init__(self, sources: Sequence[FolderSource]) -> None:
        self.sources = sources
        self.ends = np.cumsum([s.frames for s in sources])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, number: int) -> Any:
        clip = int(np.searchsorted(self.ends, number, side="right"))
        source = self.sources[clip]
        try:
            lr, hr = source.pixels(number - int(self.ends[clip]) + source.frames)
        except DataError as error:  # a loader would wrap it in the worker's traceback; it is raised in ``_frames``
            return error
        return np.ascontiguousarray(lr), None if hr is None else np.ascontiguousarray(hr)


def verify(folder: str | Path) -> tuple[int, dict[str, str]]:
    """Number of clips, and {clip: shard} of those whose bytes are not the ones that were packed.

    Raises DataError where there is no pack or a shard is missing or cut off.
    """
    index = read_index(folder)
    entries = sorted(index.entries.values(), key=lambda e: (e.shard, e.offset))
    check_shards(index, entries)
    damaged = {}
    with display(counts=_bytes()) as bar:
        task = bar.add_task("verifying", total=sum(e.bytes for e in entries))
        for entry in entries:
            hashed = digest()
            with index.shard(entry.shard).open("rb") as file:
                file.seek(entry.offset)
                for start in range(0, entry.bytes, CHUNK):
                    hashed.update(file.read(min(CHUNK, entry.bytes - start)))
            if hashed.hexdigest() != entry.digest:
                damaged[entry.name] = index.shard(entry.shard).name
            bar.update(task, advance=entry.bytes, description=f"verifying {entry.name}")
    return len(entries), damaged
