"""Published data sets: their clips, partitions and folder trees, read from ``lists/<set>.yaml``."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vsrbench.data.catalog import Catalog, Settings
from vsrbench.data.readers import FrameFiles, list_frames, unread
from vsrbench.data.sources import FolderSource
from vsrbench.errors import DataError
from vsrbench.progress import track
from vsrbench.stored import check_name, read_text

LISTS = Path(__file__).parent / "lists"
SETS = ("reds", "vimeo", "vid4", "udm10", "videolq")
ANY = "any"  # LR folders of a list that hold whatever the camera gave: no degradation made them
LONG = 500  # clips from which on listing them takes seconds: a progress bar is shown


def load_list(name: str) -> dict[str, Any]:
    return yaml.safe_load((LISTS / f"{name}.yaml").read_text(encoding="utf-8"))


def expected_tree(name: str, scale: int) -> str:
    """What a data set's folder looks like, for people."""
    return str(load_list(name)["tree"]).replace("{scale}", str(scale)).rstrip()


@dataclass(frozen=True)
class Places:
    """Where the frames of one clip lie; None where there is no such folder."""

    name: str
    hr: Path | None
    lr: Path | None


def tree(settings: Settings, partition: Any, limit: int | None) -> Catalog:
    """The clips of a partition, which is one of the list's, or a list of clips and partitions.

    Raises DataError where nothing of it is there, for a hole in a clip, for an unknown partition, for LR that
    only some clips have.
    """
    book = load_list(settings.set)
    root = Path(settings.folder)
    if not root.is_dir():
        raise DataError(f"no folder {root}: {_remedy(settings)}")
    names, unlisted = partition_names(settings.set, book, partition, root)
    names = names[:limit]
    places = [p for p in (_places(settings, book, root, n) for n in names) if p.hr or p.lr]
    if not places:
        near = _nearby(settings, book, names)
        remedy = f"did you mean data.root={near}?" if near else _remedy(settings)
        raise DataError(f"none of the {len(names)} clips of {settings.set} {partition} is in {root}: {remedy}")
    places = _with_lr(settings, places)
    if settings.lr == "auto" and places[0].hr and not places[0].lr:
        _refuse_unread(settings, places[0])
    catalog = Catalog(unit=book["unit"])
    here = {p.name for p in places}
    catalog.absent = [n for n in names if n not in here] + ([] if limit else unlisted)
    for place in track(places, f"listing {settings.set}", shown=len(places) >= LONG):
        expected = frames_of(book, place.name)
        source = _source(settings, book, place, expected)
        catalog.sources.append(source)
        if source.frames < expected and not book.get("at_most"):
            catalog.short[place.name] = [source.frames, expected]
    return catalog


def full_size(set_name: str, partition: Any) -> tuple[int, int | None]:
    """Clips and frames of a complete partition; None for the frames where the set does not say. Raises DataError."""
    book = load_list(set_name)
    entry = _list_entry(book, partition)
    names = [] if entry else _named(set_name, book, partition)
    clips = int(entry.get("take", entry["clips"])) if entry else len(names)
    if book.get("at_most"):
        return clips, None
    return clips, clips * int(book["frames"]) if "frames" in book else sum(frames_of(book, name) for name in names)


def lr_folders(settings: Settings, clip: str, root: Path) -> dict[str, Path]:
    """Kinds of degradation that a clip has LR folders of, and where these are."""
    book = load_list(settings.set)
    fields = _fields(settings, book, clip)
    folders = {kind: _first(root, templates, fields) for kind, templates in book["lr"].items()}
    return {kind: folder for kind, folder in folders.items() if folder is not None}


def _nearby(settings: Settings, book: dict[str, Any], names: Sequence[str]) -> Path | None:
    """A folder one level up or one or two levels down that has clips of the set; None where there is none."""
    root = Path(settings.folder)
    inner = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")][:50]
    deeper = [p for one in inner for p in sorted(one.iterdir())[:50] if p.is_dir()]
    for folder in (root.absolute().parent, *inner, *deeper):
        places = (_places(settings, book, folder, name) for name in names[:100])
        if any(place.hr or place.lr for place in places):
            return folder
    return None


def _refuse_unread(settings: Settings, place: Places) -> None:
    """Raise DataError where LR is about to be made beside folders that may be it."""
    kind, root = settings.pairing.degradation.kind, Path(settings.folder)
    others = {k: p for k, p in lr_folders(settings, place.name, root).items() if k not in (kind, ANY)}
    if others:
        other, folder = next(iter(others.items()))
        raise DataError(
            f"{folder} holds LR frames of {other}, and there are none of {kind}: choose their degradation, or set "
            f"data.lr=made to make LR of {kind} from HR"
        )
    assert place.hr is not None
    if beside := unread(place.hr, place.name):
        raise DataError(
            f"{beside} holds smaller pictures of the same names as {place.hr} and is not read (`vsrbench data check "
            f"data={settings.set}` shows the names of LR folders): rename it if these are LR frames of {kind}, or set "
            "data.lr=made to make LR from HR"
        )


def _remedy(settings: Settings) -> str:
    return f"check data.root (`python -m vsrbench.data check data={settings.set}` shows the expected tree)"


def _source(settings: Settings, book: dict[str, Any], place: Places, expected: int) -> FolderSource:
    hr, lr = (None if p is None else _listed(p, book, expected) for p in (place.hr, place.lr))
    source = FolderSource(place.name, settings.pairing, hr, lr, book.get("scored"))
    if source.scored is not None:  # a clip may end before the convention's last frame
        source.scored = [p for p in source.scored if p < source.frames]
    return source


def _listed(folder: Path, book: dict[str, Any], expected: int) -> FrameFiles:
    files = list_frames(folder, book["firsts"])
    if len(files.files) > expected:
        raise DataError(
            f"{folder} has {len(files.files)} frames, the data set's clip has {expected}: move the others elsewhere"
        )
    return files


def _places(settings: Settings, book: dict[str, Any], root: Path, name: str) -> Places:
    fields = _fields(settings, book, name)
    lr = book["lr"].get(settings.pairing.degradation.kind, []) + book["lr"].get(ANY, [])
    return Places(name, _first(root, book["hr"], fields), _first(root, lr, fields))


def _fields(settings: Settings, book: dict[str, Any], name: str) -> dict[str, Any]:
    """What the templates of folders are filled with."""
    fields: dict[str, Any] = {"clip": name, "scale": settings.pairing.scale}
    if name.isdigit() and int(name) >= book.get("official_from", 10**9):
        fields["official"] = f"{int(name) - book['official_from']:03d}"
    return fields


def _first(root: Path, templates: Sequence[str], fields: dict[str, Any]) -> Path | None:
    for template in templates:
        if all(key in fields for key in re.findall(r"\{(\w+)\}", template)):
            folder = root / template.format(**fields)
            if folder.is_dir():
                return folder
    return None


def _with_lr(settings: Settings, places: list[Places]) -> list[Places]:
    """Decide once for the whole split where LR comes from. Raises DataError where only some clips have it."""
    blind = [p.name for p in places if p.hr is None]
    if blind and len(blind) < len(places):
        raise DataError(
            f"clip {blind[0]} has LR but no HR frames in {settings.root}: restore it, or choose other clips"
        )
    if settings.lr == "made":
        if blind:
            raise DataError(f"data.lr=made needs HR frames, {settings.root} has none")
        return [Places(p.name, p.hr, None) for p in places]
    without = [p.name for p in places if p.lr is None]
    if without and (settings.lr == "disk" or len(without) < len(places)):
        raise DataError(
            f"clip {without[0]} has no LR frames of {settings.pairing.degradation.kind} in {settings.root} (nor have "
            f"{len(without) - 1} others of {len(places)}): restore them, or set data.lr=made to make all LR from HR"
        )
    return places


def frames_of(book: Mapping[str, Any], clip: str) -> int:
    """Frames of a full clip."""
    clips = book.get("clips")
    return int(clips[clip]) if isinstance(clips, dict) else int(book["frames"])


def partition_names(set_name: str, book: dict[str, Any], partition: Any, root: Path) -> tuple[list[str], list[str]]:
    """Clip names of a partition, and a line for clips that its list file lacks. Raises DataError."""
    entry = _list_entry(book, partition)
    if entry is not None:
        return _from_file(entry, root, book["list_folders"])
    return _named(set_name, book, partition), []


def _named(set_name: str, book: dict[str, Any], partition: Any) -> list[str]:
    """Clip names of a partition that no file lists. Raises DataError where there is none."""
    words = partition.split() if isinstance(partition, str) else [str(p) for p in partition or []]
    names = _expanded(set_name, book, words)
    if not names:
        known = ", ".join(book["partitions"])
        raise DataError(f"the partition {partition!r} of {set_name} is empty: use one of {known}")
    return names


def _list_entry(book: dict[str, Any], partition: Any) -> dict[str, Any] | None:
    """{"list", "clips", "origin"} of a partition that a file lists, also by another name for it; else None."""
    known = book["partitions"]
    while isinstance(partition, str) and partition in known:
        partition = known[partition]
    return partition if isinstance(partition, dict) else None


def _expanded(set_name: str, book: dict[str, Any], words: Sequence[str]) -> list[str]:
    """Resolve names, ranges a..b, partitions and `without` into clip names, each once."""
    names: list[str] = []
    adding = True
    for word in words:
        if word == "without":
            adding = False
            continue
        part = _part(set_name, book, word)
        names = names + [n for n in part if n not in names] if adding else [n for n in names if n not in part]
    return names


def _part(set_name: str, book: dict[str, Any], word: str) -> list[str]:
    known = book["partitions"]
    if isinstance(known.get(word), str):
        return _expanded(set_name, book, known[word].split())
    clips = book.get("clips")
    if ".." in word and isinstance(clips, str):
        first, last = word.split("..")
        return [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    if isinstance(clips, str):
        lowest, highest = clips.split("..")
        if word.isdigit() and int(lowest) <= int(word) <= int(highest):
            return [word.zfill(len(lowest))]
    elif word in clips if isinstance(clips, dict) else re.fullmatch(r"\d+/\d+", word):
        return [word]
    raise DataError(f"{set_name} has no partition or clip {word!r}: the partitions are {', '.join(known)}")


def _from_file(entry: Mapping[str, Any], root: Path, folders: Sequence[str]) -> tuple[list[str], list[str]]:
    for folder in folders:
        path = root / folder / entry["list"]
        if path.is_file():
            break
    else:
        raise DataError(f"no list {root / entry['list']}: it comes with {entry['origin']}; put it there")
    lines = read_text(path, remedy=f"it comes with {entry['origin']}", error=DataError).splitlines()
    names = [check_name(line.split()[0], path, DataError) for line in lines if line.strip()]
    if not names:
        raise DataError(f"the list {path} is empty: it should have {entry['clips']} lines; fetch it again")
    if len(names) > entry["clips"]:
        raise DataError(f"{path} has {len(names)} lines, the official list has {entry['clips']}: use the official one")
    if "take" in entry:
        return _drawn(names, entry["take"], entry["seed"]), []
    if len(set(names)) < len(names):
        twice = next(name for n, name in enumerate(names) if name in names[:n])
        raise DataError(f"{path} lists {twice} twice: use the official list")
    missing = entry["clips"] - len(names)
    return names, [f"{missing} clips that {path.name} does not list"] if missing else []


def _drawn(names: list[str], count: int, seed: int) -> list[str]:
    """``count`` of the names, half of them at most, in the list's order. The draw depends on seed and names alone."""
    ranks = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    sample = set(ranks[: min(count, len(names) // 2)])
    if not sample:
        raise DataError(
            "one training clip is listed, none can be held out: train without validation (data.splits.val=null)"
        )
    return [name for name in names if name in sample]
