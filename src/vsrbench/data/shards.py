"""Writing the shards and the index of a pack, in an order that survives being killed at any moment."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vsrbench.data.catalog import Settings
from vsrbench.data.packed import (
    INDEX,
    VERSION,
    Entry,
    Index,
    check_source,
    check_switches,
    digest,
    mapped,
    measure,
    read_index,
    switches,
)
from vsrbench.data.sources import FolderSource
from vsrbench.data.trees import SETS, load_list
from vsrbench.errors import DataError

SHARD = 2 * 2**30  # ours: bytes from which on a new shard begins: REDS is 37 shards, Vimeo-90K 87
SYNC = 64 * 2**20  # ours: bytes after which the disk is waited for; after every septuplet would take far longer
LOCK = ".lock"

Frame = tuple[np.ndarray, np.ndarray | None]


class Writer:
    """Appends clips to the pack in a folder; used in a ``with`` statement.

    Clips of an earlier writer are kept where their shard still holds them in full. Raises DataError for a folder
    with other things in it, one that was packed with other settings, and one that another process writes to.
    """

    def __init__(self, folder: Path, settings: Settings, unit: str) -> None:
        self.folder = folder
        self.waiting: list[Entry] = []  # whole clips that the index does not name yet
        self.unsafe = 0  # bytes since the disk was last waited for
        self.failed = False
        with self._attempt():
            folder.mkdir(parents=True, exist_ok=True)
            self.lock = _locked(folder)
            self.index = _opened(folder, settings, unit)
            _copy_lists(settings, folder)
            _rewrite(self.index)
            self.lines = (folder / INDEX).open("ab", buffering=0)
            self._open_last()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if not self.failed:
                self._sync()  # whole clips count, whatever happened to the next one
        finally:
            for file in (self.shard, self.lines, self.lock):
                file.close()
            mapped.cache_clear()  # maps of this process may be shorter than their shards now

    def _open_last(self) -> None:
        """Go on behind the last whole clip; no index names what lies behind it."""
        entries = self.index.entries.values()
        self.number = max((e.shard for e in entries), default=0)
        for path in set(self.folder.glob("shard-*.bin")) - {self.index.shard(e.shard) for e in entries}:
            path.unlink()
        self._open(max((e.end for e in entries if e.shard == self.number), default=0))

    def _open(self, start: int) -> None:
        path = self.index.shard(self.number)
        path.touch()
        self.shard = path.open("r+b", buffering=0)
        self.shard.truncate(start)
        self.shard.seek(start)

    def check_kept(self, names: Sequence[str], root: str) -> None:
        """Raise DataError where a clip that is packed already is another one in its source now."""
        check_source(self.index, [self.index.entries[n] for n in names], Path(root))

    def add(self, source: FolderSource, root: str, frames: Iterable[Frame], full: int | None) -> None:
        """Append a clip. full: frames of the complete clip where this one is cut short.

        Raises DataError for frames of different sizes and where the disk is full.
        """
        self._next_shard()
        offset, hashed = self.shard.tell(), digest()
        lows: list[np.ndarray] = []  # they follow the HR frames, so that each kind is one array
        shapes = set()
        for lr, hr in frames:
            shapes.add((lr.shape, None if hr is None else hr.shape))
            if len(shapes) > 1:
                raise DataError(
                    f"clip {source.name} has frames of different sizes, {source.frame_names[len(lows)]} is one"
                )
            lows.append(lr)
            if hr is not None:
                hashed.update(hr)
                self._write(hr)
        low = np.stack(lows)
        hashed.update(low)
        self._write(low)
        ((lr_shape, hr_shape),) = shapes
        self.waiting.append(
            Entry(
                name=source.name,
                frames=source.frame_names,
                shard=self.number,
                offset=offset,
                hr=None if hr_shape is None else list(hr_shape[:2]),
                lr=list(lr_shape[:2]),
                scored=source.scored,
                full=full,
                origin=_origin(source, root),
                digest=hashed.hexdigest(),
            )
        )
        if self.unsafe >= SYNC:
            self._sync()

    def finish(self, absent: Sequence[str]) -> None:
        """Note which clips the source does not have, so that nobody takes the pack for an unfinished one."""
        self._sync()
        self.index.absent.update(absent)
        with self._attempt():
            self._append(["absent", sorted(self.index.absent)])
            self._append(["finished", True])
        self.index.finished = True

    def _next_shard(self) -> None:
        if self.shard.tell() >= SHARD:
            self._sync()
            self.shard.close()
            self.number += 1
            with self._attempt():
                self._open(0)

    def _write(self, pixels: np.ndarray) -> None:
        remaining = pixels.data.cast("B")
        with self._attempt():
            while remaining:
                count = self.shard.write(remaining)
                remaining = remaining[count:]
                self.unsafe += count

    def _sync(self) -> None:
        """Wait until the disk has the waiting clips, then name them in the index."""
        with self._attempt():
            os.fsync(self.shard.fileno())
            for entry in self.waiting:
                self._append(["clip", asdict(entry)])
                self.index.entries[entry.name] = entry
            os.fsync(self.lines.fileno())
        self.waiting, self.unsafe = [], 0

    def _append(self, line: Any) -> None:
        self.lines.write(_line(line))

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            raise DataError(
                f"cannot write {self.folder}: {error.strerror}; make room or choose another output=DIR. The same "
                "command goes on behind the last clip that was packed"
            ) from error


def _locked(folder: Path) -> BinaryIO:
    file = (folder / LOCK).open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataError(f"another process is packing into {folder}: wait for it, or stop it") from error
    return file


def _opened(folder: Path, settings: Settings, unit: str) -> Index:
    """The index of an earlier writer without clips whose shards were removed or cut off, or a new one."""
    if not (folder / INDEX).is_file():
        others = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        if others:
            raise DataError(f"{folder} holds other files ({others[0]}): give an empty or new folder as output=DIR")
        return Index(folder, {"version": VERSION, "unit": unit, "switches": switches(settings)})
    index = read_index(folder)
    check_switches(index, settings)
    index.entries = {name: e for name, e in index.entries.items() if index.is_whole(e)}
    return index


def _copy_lists(settings: Settings, folder: Path) -> None:
    """Partition lists that come with a data set: the pack alone is enough then."""
    book = load_list(settings.set) if settings.set in SETS else {"partitions": {}}
    for entry in book["partitions"].values():
        if isinstance(entry, dict):
            candidates = [Path(settings.folder) / below / entry["list"] for below in book["list_folders"]]
            for path in [p for p in candidates if p.is_file()][:1]:
                shutil.copyfile(path, folder / path.name)


def _rewrite(index: Index) -> None:
    """The index with its whole clips alone, in place of the old one at one stroke."""
    temporary = index.folder / f".{INDEX}"
    with temporary.open("wb") as file:
        file.write(_line(["pack", index.header]))
        file.writelines(_line(["clip", asdict(entry)]) for entry in index.entries.values())
        file.write(_line(["absent", sorted(index.absent)]))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(index.folder / INDEX)


def _line(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _origin(source: FolderSource, root: str) -> dict[str, list[int]]:
    folders = [files.folder for files in (source.hr_files, source.lr_files) if files is not None]
    return {os.path.relpath(folder, root): measure(folder) for folder in folders}
