"""What of a data set is on disk, for people."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vsrbench.data.catalog import Catalog, Settings
from vsrbench.data.finder import find
from vsrbench.data.readers import FrameFiles, check_kind, fault_of, read_header
from vsrbench.data.sources import Source
from vsrbench.data.trees import ANY, SETS, expected_tree, full_size, load_list, lr_folders
from vsrbench.errors import DataError
from vsrbench.progress import track

NAMED = 8  # absent clips and broken files that are named; the rest are counted
SLOW = 2000  # files from which on reading headers takes seconds: a progress bar is shown


def report(settings: Settings, splits: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Lines about every split without its limits, and whether all of it is there and sound."""
    lines = [f"data={settings.set} data.root={settings.root or 'null'}"]
    if settings.set in SETS and not settings.root:
        hints = ["give data.root=DIR to see what of it is there", *_partitions(settings.set), *_tree(settings)]
        return lines + hints, False
    complete = True
    for name, split in splits.items():
        if split is None:
            lines.append(f"{name}: none")
            continue
        hints, sound = _split(settings, name, split["partition"])
        lines += hints
        complete = complete and sound
    if settings.set in SETS and not complete:
        lines += _tree(settings)
    return lines, complete


def _tree(settings: Settings) -> list[str]:
    return ["", "expected:", expected_tree(settings.set, settings.pairing.scale)]


def _partitions(name: str) -> Iterator[str]:
    yield ""
    yield "partitions:"
    for partition in load_list(name)["partitions"]:
        clips, frames = full_size(name, partition)
        yield f"{partition}: {clips} clips" + ("" if frames is None else f", {frames} frames")


def _split(settings: Settings, name: str, partition: Any) -> tuple[list[str], bool]:
    label = f"{name} ({partition})"
    try:
        catalog = find(settings, {"partition": partition, "clips": None, "frames": None})
        tracked = track(catalog.sources, f"sizes of {label}", shown=len(catalog.sources) >= SLOW)
        sizes = {(s.size[0] * s.scale, s.size[1] * s.scale) for s in tracked}
        expected = _expected(settings, partition)
    except DataError as error:
        return [f"{label}: {error}"], False
    broken = _faults(catalog.sources, label)
    lines = [f"{label}: {_summary(catalog, expected)}", *_gaps(catalog), *_notes(settings, catalog, sizes)]
    lines += [f"  broken: {line}" for line in broken[:NAMED]]
    if len(broken) > NAMED:
        lines.append(f"  broken: {len(broken) - NAMED} more files")
    return lines, not (catalog.absent or catalog.short or broken)


def _expected(settings: Settings, partition: Any) -> tuple[int | None, int | None]:
    """Clips and frames of the complete partition; None where nobody knows."""
    return full_size(settings.set, partition) if settings.set in SETS else (None, None)


def _summary(catalog: Catalog, expected: tuple[int | None, int | None]) -> str:
    if catalog.photos is not None:
        return f"{len(catalog.photos)} photographs"
    counts = (len(catalog.sources), sum(s.frames for s in catalog.sources))
    clips, frames = (
        f"{have}" if full is None else f"{have} of {full}" for have, full in zip(counts, expected, strict=True)
    )
    blind = any(not s.has_hr for s in catalog.sources)
    on_disk = any(getattr(s, "lr_files", None) for s in catalog.sources)
    kind = "LR without HR" if blind else "HR and LR" if on_disk else "LR made from HR"
    return f"{clips} clips, {frames} frames, {kind}"


def _gaps(catalog: Catalog) -> Iterator[str]:
    absent, short = catalog.absent, [f"{n} ({have} of {full})" for n, (have, full) in catalog.short.items()]
    for label, names in (("absent", absent), ("cut short", short)):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"  {label}: {', '.join(names[:NAMED])}{more}"


def _notes(settings: Settings, catalog: Catalog, sizes: set[tuple[int, int]]) -> Iterator[str]:
    if settings.set not in SETS:
        return
    book = load_list(settings.set)
    official = book.get("size")
    others = [f"{w}x{h}" for h, w in sorted(sizes) if [w, h] != official]
    if official and others:
        yield f"  frames of {', '.join(others)}; the data set's are {official[0]}x{official[1]}"
    if book.get("at_most"):
        yield f"  lengths are not published: a clip of up to {book['frames']} frames counts as complete"
    kind_used = settings.pairing.degradation.kind
    kinds = lr_folders(settings, catalog.sources[0].name, Path(settings.folder))
    unused = [f"{path} ({kind})" for kind, path in kinds.items() if kind not in (kind_used, ANY)]
    if unused:
        yield f"  LR of other degradations, not used with {kind_used}: {', '.join(unused)}"


def _faults(sources: list[Source], label: str) -> list[str]:
    """What is wrong with files, by their headers and structure: kind, size within the clip, cut off, checksums."""
    folders = [files for s in sources for side in ("hr_files", "lr_files") if (files := getattr(s, side, None))]
    count = sum(len(files.files) for files in folders)
    return [line for files in track(folders, f"headers of {label}", shown=count >= SLOW) for line in _faults_of(files)]


def _faults_of(files: FrameFiles) -> Iterator[str]:
    size = None
    for position in range(len(files.files)):
        path = files.path(position)
        try:
            header = read_header(path)
            check_kind(header, path, files.deep)
        except DataError as error:
            yield str(error)
            continue
        size = size or (header.width, header.height)
        if (header.width, header.height) != size:
            yield f"{path} is {header.width}x{header.height}, the clip's first frame is {size[0]}x{size[1]}"
        elif fault := fault_of(Path(path).read_bytes()):
            yield f"{path}: {fault}; fetch it again"
