"""What of a data set is on disk, for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from vsrbench.data.catalog import Catalog, Settings
from vsrbench.data.finder import find
from vsrbench.data.trees import LONG, SETS, expected_tree, load_list
from vsrbench.errors import DataError

NAMED = 8  # absent clips that are named; the rest are counted


def report(settings: Settings, splits: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Lines about every split without its limits, and whether all of it is there."""
    lines = [f"data={settings.set} data.root={settings.root or 'null'}"]
    complete = True
    for name, split in splits.items():
        if split is None:
            lines.append(f"{name}: none")
            continue
        try:
            catalog = find(settings, {**split, "clips": None, "frames": None})
            sizes = _sizes(catalog, name)
        except DataError as error:
            lines.append(f"{name} ({split['partition']}): {error}")
            complete = False
            continue
        lines += [f"{name} ({split['partition']}): {_summary(catalog)}", *_gaps(catalog), *_notes(settings, sizes)]
        complete = complete and not catalog.absent and not catalog.short
    if settings.set in SETS and not complete:
        lines += ["", "expected:", expected_tree(settings.set, settings.pairing.scale)]
    return lines, complete


def _summary(catalog: Catalog) -> str:
    if catalog.photos is not None:
        return f"{len(catalog.photos)} photographs"
    frames = sum(s.frames for s in catalog.sources)
    blind = any(not s.has_hr for s in catalog.sources)
    stored = any(getattr(s, "lr_files", None) for s in catalog.sources)
    kind = "LR without HR" if blind else "HR and LR" if stored else "LR made from HR"
    return f"{len(catalog.sources)} clips, {frames} frames, {kind}"


def _gaps(catalog: Catalog) -> Iterator[str]:
    absent, short = catalog.absent, [f"{n} ({have} of {full})" for n, (have, full) in catalog.short.items()]
    for label, names in (("absent", absent), ("cut short", short)):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"  {label}: {', '.join(names[:NAMED])}{more}"


def _sizes(catalog: Catalog, label: str) -> set[tuple[int, int]]:
    """HR (H,W) that occur; reading them checks that HR and LR of every clip fit each other."""
    sources: Any = catalog.sources
    if len(catalog.sources) >= LONG:
        from rich.progress import track

        sources = track(catalog.sources, description=f"sizes of {label}", transient=True)
    sizes = [(s.size, s.scale) for s in sources]
    return {(size[0] * scale, size[1] * scale) for size, scale in sizes}


def _notes(settings: Settings, sizes: set[tuple[int, int]]) -> Iterator[str]:
    official = load_list(settings.set).get("size") if settings.set in SETS else None
    others = [f"{w}x{h}" for h, w in sorted(sizes) if [w, h] != official]
    if official and others:
        yield f"  frames of {', '.join(others)}; the data set's are {official[0]}x{official[1]}"
