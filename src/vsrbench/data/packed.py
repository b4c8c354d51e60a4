"""Packed clips: the 8-bit frames of many clips in a few large files, read through memory maps.

A pack is a folder with ``shard-00000.bin``, ... (``vsrbench.data.shards`` writes them) and ``index.jsonl``: one line
that says what was packed, then one line per clip, and the partition lists that the data set came with.
ours: shards rather than a file per clip, because 64,612 septuplets in two files each weigh on the file count
of cluster file systems; JSON lines rather than one document, because a line can be appended after its clip is safe.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vsrbench.data.catalog import Catalog, Settings, chosen
from vsrbench.data.degradations import Degradation
from vsrbench.data.readers import SUFFIXES
from vsrbench.data.sources import PairedSource, Pairing
from vsrbench.data.trees import SETS, load_list, partition_names
from vsrbench.errors import DataError
from vsrbench.stored import check_name, read_text

INDEX = "index.jsonl"
VERSION = 1
MAPS = 128  # shards that one process keeps mapped; each costs a file descriptor
SAMPLED = 64  # ours: clips whose source is looked at before a pack is used; all of Vimeo-90K would take minutes


@dataclass(frozen=True)
class Entry:
    """One packed clip: HR frames (T,H,W,3), then LR frames (T,h,w,3), uint8, from byte ``offset`` of a shard.

    frames: stems of the T frames; hr: (H,W), None without HR; lr: (h,w); scored: as in ``Source``; full: frames of
    the complete clip where this one is cut short; origin: {folder below data.root: [image files, their bytes]};
    digest: BLAKE2b of the clip's bytes.
    """

    name: str
    frames: list[str]
    shard: int
    offset: int
    hr: Sequence[int] | None
    lr: Sequence[int]
    scored: list[int] | None
    full: int | None
    origin: dict[str, list[int]]
    digest: str

    @property
    def hr_bytes(self) -> int:
        return 0 if self.hr is None else 3 * len(self.frames) * self.hr[0] * self.hr[1]

    @property
    def bytes(self) -> int:
        return self.hr_bytes + 3 * len(self.frames) * self.lr[0] * self.lr[1]

    @property
    def end(self) -> int:
        """The byte behind the clip."""
        return self.offset + self.bytes


@dataclass
class Index:
    """header: version, unit and ``switches``; absent: clips that the source did not have when it was packed.

    finished: whether the last writer came to its end.
    """

    folder: Path
    header: dict[str, Any]
    entries: dict[str, Entry] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    finished: bool = False

    def shard(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.bin"

    def is_whole(self, entry: Entry) -> bool:
        """Whether the shard is long enough to hold the clip; ``packing.verify`` compares the bytes."""
        path = self.shard(entry.shard)
        return path.is_file() and path.stat().st_size >= entry.end


def read_index(folder: str | Path) -> Index:
    """Raises DataError where there is no index, one of another version, or a damaged one.

    A last line without its end is what an interrupted writer leaves behind: its clip does not count.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise DataError(
            f"{folder} is no packed data set (it has no {INDEX}): make one with "
            f"`python -m vsrbench.data pack data=SET data.root=DIR output={folder}`"
        )
    index: Index | None = None
    lines = read_text(path, remedy=f"remove {folder} and pack again", error=DataError).split("\n")[:-1]
    for number, line in enumerate(lines, 1):
        try:
            kind, value = json.loads(line)
            if index is None:
                index = _begun(Path(folder), kind, value)
            elif kind == "clip":
                entry = _checked(Entry(**value), path)
                index.entries[entry.name] = entry
            elif kind == "absent":
                index.absent.update(value)
            elif kind == "finished":
                index.finished = value
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"{path} is damaged in line {number}: remove {folder} and pack again") from error
    if index is None:
        raise DataError(f"{path} is empty: remove {folder} and pack again")
    return index


def _checked(entry: Entry, path: Path) -> Entry:
    """The entry. Raises DataError for names that lead out of a folder, ValueError for numbers that no writer gives."""
    for name in (entry.name, *entry.frames):
        check_name(name, path, DataError)
    sizes = [entry.lr] if entry.hr is None else [entry.lr, entry.hr]
    numbers = [entry.shard, entry.offset, *(number for size in sizes for number in size)]
    if any(type(number) is not int or number < 0 for number in numbers) or any(len(size) != 2 for size in sizes):
        raise ValueError(f"clip {entry.name}")
    return entry


def _begun(folder: Path, kind: str, header: Any) -> Index:
    if kind != "pack":
        raise ValueError(kind)
    if header["version"] != VERSION:
        raise DataError(
            f"{folder} was packed in format {header['version']}, this release reads format {VERSION}: pack again"
        )
    return Index(folder, header)


def switches(settings: Settings) -> dict[str, Any]:
    """What decides the pixels of a pack, by the names of the settings."""
    pairing = settings.pairing
    values = {
        "data": settings.set,
        "scale": pairing.scale,
        "data.lr": settings.lr,
        "data.role": settings.role,
        "data.crop_to_multiple": pairing.crop_to_multiple,
    }
    return {**values, **{f"degradation.{key}": value for key, value in _described(pairing.degradation).items()}}


def _described(degradation: Degradation) -> dict[str, Any]:
    assert dataclasses.is_dataclass(degradation) and not isinstance(degradation, type)
    return {"kind": degradation.kind, **dataclasses.asdict(degradation)}


def check_switches(index: Index, settings: Settings) -> None:
    """Raise DataError naming the settings that the pack was made with and that are others now."""
    packed, now = index.header["switches"], json.loads(json.dumps(switches(settings)))
    differing = [key for key in {**packed, **now} if packed.get(key) != now.get(key)]
    if differing:
        differences = ", ".join(f"{key}={packed.get(key)}, not {now.get(key)}" for key in differing)
        raise DataError(
            f"{index.folder} was packed with {differences}: use the same settings, or pack into another folder"
        )


def refuse_as_root(root: str | None) -> None:
    """Raise DataError where ``data.root`` is a pack: it is not searched for image files."""
    if root and (Path(root) / INDEX).is_file():
        raise DataError(f"{root} is a packed data set: give it as data.packed={root}; data.root is for image files")


def clips(settings: Settings, partition: Any, limit: int | None) -> Catalog:
    """The clips of a partition out of ``data.packed``, as the source itself would list them.

    Raises DataError for a pack of other settings or of other clips, an unfinished or damaged one, and, where
    data.root is there too, for a source that has changed since.
    """
    index = read_index(str(settings.packed))
    check_switches(index, settings)
    names, unlisted = _names(index, settings, partition, limit)
    entries = [index.entries[n] for n in names if n in index.entries]
    if not entries:
        raise DataError(f"none of the {len(names)} clips of {settings.set} {partition} is in {index.folder}")
    check_shards(index, entries)
    if settings.root:
        check_source(index, entries[:: -(-len(entries) // SAMPLED)], Path(settings.root))
    return Catalog(
        sources=[PackedSource(str(index.shard(e.shard)), e, settings.pairing) for e in entries],
        absent=[n for n in names if n not in index.entries] + unlisted,
        short={e.name: [len(e.frames), e.full] for e in entries if e.full is not None},
        unit=index.header["unit"],
    )


def _names(index: Index, settings: Settings, partition: Any, limit: int | None) -> tuple[list[str], list[str]]:
    """Clips of a partition, and a line for clips that its list lacks; "all" of a ``folder`` is all that was packed."""
    remedy = "run `python -m vsrbench.data pack` again, it adds what is missing"
    if settings.set not in SETS:
        if not index.finished:  # nobody else knows which clips there should be
            raise DataError(f"packing into {index.folder} was interrupted: {remedy}")
        return chosen(sorted(index.entries), partition, str(index.folder))[:limit], []
    names, unlisted = partition_names(settings.set, load_list(settings.set), partition, index.folder)
    names = names[:limit]
    absent = [n for n in names if n not in index.entries and n not in index.absent]
    if absent:
        raise DataError(
            f"{index.folder} lacks clip {absent[0]} of {partition} ({len(absent)} such clips): packing was "
            f"interrupted or was for other splits; {remedy}"
        )
    return names, [] if limit else unlisted


def check_shards(index: Index, entries: Iterable[Entry]) -> None:
    """Raise DataError naming a shard that is missing or too short for its clips."""
    last = {e.shard: e for e in sorted(entries, key=lambda e: e.end)}
    broken = [index.shard(e.shard) for e in last.values() if not index.is_whole(e)]
    if broken:
        raise DataError(
            f"{broken[0]} is missing or cut off ({len(broken)} such files): run `python -m vsrbench.data pack` again, "
            "it packs the clips that were in it"
        )


def check_source(index: Index, entries: Sequence[Entry], root: Path) -> None:
    """Raise DataError where folders below ``root`` hold other files than when they were packed."""
    changed = [e for e in entries if any(measure(root / f) != known for f, known in e.origin.items())]
    if changed:
        shards = sorted({index.shard(e.shard).name for e in changed})
        raise DataError(
            f"{root}/{next(iter(changed[0].origin))} is not what clip {changed[0].name} of {index.folder} was packed "
            f"from ({len(changed)} such clips): check data.root; where the source did change, remove "
            f"{', '.join(shards[:8])}{' ...' * (len(shards) > 8)} there and pack again"
        )


def digest() -> Any:
    """An empty checksum of a clip's bytes, HR frames before LR frames."""
    return hashlib.blake2b(digest_size=16)


def measure(folder: str | Path) -> list[int]:
    """[image files, their bytes] of a folder; [0, 0] where there is none.

    ours: sizes rather than dates, which change when a data set is copied.
    """
    if not os.path.isdir(folder):
        return [0, 0]
    with os.scandir(folder) as entries:
        sizes = [e.stat().st_size for e in entries if _is_frame(e.name)]
    return [len(sizes), sum(sizes)]


def _is_frame(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


class PackedSource(PairedSource):
    """A packed clip. It holds no pixels: every process maps the shard for itself when it first reads from it."""

    def __init__(self, file: str, entry: Entry, pairing: Pairing) -> None:
        super().__init__(entry.name, entry.frames, pairing, entry.scored)
        self.file, self.entry = file, entry

    @property
    def has_hr(self) -> bool:
        return self.entry.hr is not None

    def files(self) -> list[str]:
        return [self.file]

    @property
    def size(self) -> tuple[int, int]:
        return self.entry.lr[0], self.entry.lr[1]

    def _hr(self, position: int) -> np.ndarray | None:
        return None if self.entry.hr is None else self._frame(self.entry.offset, self.entry.hr, position)

    def _lr(self, position: int) -> np.ndarray | None:
        return self._frame(self.entry.offset + self.entry.hr_bytes, self.entry.lr, position)

    def _frame(self, start: int, size: Sequence[int], position: int) -> np.ndarray:
        """A view of the map: pixels that nobody crops out are never read."""
        count = 3 * size[0] * size[1]
        start += position * count
        return mapped(self.file)[start : start + count].reshape(size[0], size[1], 3)

    def _label(self, position: int) -> str:
        return f"{self.file}, clip {self.name}, frame {self.frame_names[position]}"


@lru_cache(maxsize=MAPS)
def mapped(file: str) -> np.ndarray:
    """The bytes of a file, read as they are used."""
    return np.asarray(np.memmap(file, np.uint8, "r"))
