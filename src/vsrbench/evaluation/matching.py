"""Which file is which frame: the naming schemes that people use are recognised, a frame is never guessed.

Names may differ from the data's in padding, in counting from 0 or 1, in what stands before and behind the number, in
clip folders or flat ``<clip>_<frame>.png``. What may not differ is the number of frames: a missing or an extra one
would shift all others without looking wrong.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vsrbench.data.sources import Source
from vsrbench.data.video import VideoReader
from vsrbench.errors import DataError

VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm")
BASES = (0, 1)  # numbers that a first frame may have wherever the data's own begin
_SEPARATORS = re.compile(r"[-_. /]+")
_PADDING = re.compile(r"(?<!\d)0+(?=\d)")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Frame:
    """One frame to evaluate: a PNG file, or a position in a video file."""

    path: Path
    video: VideoReader | None = field(default=None, compare=False)
    position: int = 0

    @property
    def assumed(self) -> str | None:
        """See ``VideoReader.assumed``; None for a PNG file."""
        return None if self.video is None else self.video.assumed

    @property
    def label(self) -> str:
        """How messages call it: clip folder and file."""
        name = f"{self.path.parent.name}/{self.path.name}"
        return name if self.video is None else f"{name} frame {self.position}"


@dataclass
class ClipFrames:
    """files: {clip: {frame number: frame}} of the frames that count, ``there``: of all; notes: how names were read."""

    files: dict[str, dict[int, Frame]] = field(default_factory=dict)
    there: dict[str, dict[int, Frame]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def normal(name: str) -> str:
    """A clip's name without what people change: case, separators, padding. "000" is "0", "00001/0266" is "1_266"."""
    return _PADDING.sub("", _SEPARATORS.sub("_", name.casefold()))


def assign(names: Iterable[str], sources: Sequence[Source]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Files by clip: {clip: {file: what names the frame}}, and the files that belong to no clip.

    names: paths relative to the folder that is evaluated. What names the frame is the stem, without the clip's name
    where files lie flat; "" where nothing is left of it.
    """
    clips = _spellings(sources)
    files: dict[str, dict[str, str]] = {s.name: {} for s in sources}
    strays = []
    for name in sorted(names):
        path = PurePosixPath(name)
        clip, stem = _clip_of(path, clips, sources)
        if clip is None or path.name.startswith(".") or path.suffix.lower() not in (".png", *VIDEOS):
            strays.append(name)
        else:
            files[clip][name] = stem
    return files, strays


def clip_of(name: str, sources: Sequence[Source]) -> str | None:
    """The clip that a folder or file of this name would hold; None where there is none."""
    clips = _spellings(sources)
    return clips.get(name) or clips.get(normal(name))


def _spellings(sources: Sequence[Source]) -> dict[str, str]:
    """Clips by their names, and by ``normal`` of them where that belongs to one alone."""
    keys = [normal(s.name) for s in sources]
    unique = {key: s.name for key, s in zip(keys, sources, strict=True) if keys.count(key) == 1}
    return {**unique, **{s.name: s.name for s in sources}}


def _clip_of(path: PurePosixPath, clips: Mapping[str, str], sources: Sequence[Source]) -> tuple[str | None, str]:
    """The clip that a file belongs to, and what is left of its stem to name the frame."""
    parent = path.parent.as_posix()
    if path.suffix.lower() in VIDEOS:
        whole = path.with_suffix("").as_posix()
        return clips.get(whole) or clips.get(normal(whole)), ""
    if parent != ".":
        return clips.get(parent) or clips.get(normal(parent)), path.stem
    stem = normal(path.stem)
    owners = [key for key in clips if stem == key or stem.startswith(f"{key}_")]
    if owners:
        key = max(owners, key=len)
        return clips[key], stem[len(key) :].lstrip("_")
    return (sources[0].name, path.stem) if len(sources) == 1 else (None, "")


def number_frames(
    source: Source, files: Mapping[str, str], required: Sequence[int]
) -> tuple[dict[int, str], str | None]:
    """{frame number: file} of one clip, and a note where the numbers were read in another way than the data's.

    files: {file: what names the frame}. needed: numbers of the frames that count. Frames that are missing are left
    out where all names are the data's own; every other set of names must be complete.
    Raises DataError for names that tell no number, a hole, two files of one number, too few or too many frames.
    """
    known = {stem: n for n, stem in enumerate(source.frame_names)}
    if files and all(stem in known for stem in files.values()):
        return {known[stem]: name for name, stem in files.items()}, None
    if len(files) == 1 and len(required) == 1 and list(files.values()) == [""]:
        return {required[0]: next(iter(files))}, None
    own = [_last_number(stem) for stem in source.frame_names]
    numbered = _numbers(source.name, files, own)
    if len(numbered) != source.frames:
        if set(numbered) <= set(own) and {own[n] for n in required} <= set(numbered):
            return {own.index(number): name for number, name in numbered.items()}, None
        raise DataError(_wrong_count(source, numbered, own))
    numbers = sorted(numbered)
    for before, after in zip(numbers, numbers[1:], strict=False):
        if after != before + 1:
            raise DataError(f"{source.name}: the frames' numbers jump from {before} to {after}: restore the others")
    if numbers[0] not in (own[0], *BASES):
        raise DataError(
            f"{source.name}: the frames' numbers begin at {numbers[0]}, the data's at {own[0]}: number them as the "
            "data do, from 0, or from 1"
        )
    note = None
    if numbers[0] != own[0]:
        note = f"{source.name}: frames are numbered from {numbers[0]}, the data's from {own[0]}; taken in their order"
    return {n: numbered[number] for n, number in enumerate(numbers)}, note


def _numbers(clip: str, files: Mapping[str, str], own: Sequence[int]) -> dict[int, str]:
    """{number: file}: the one run of digits that differs between the stems of a clip."""
    texts = {name: _DIGITS.split(stem) for name, stem in files.items()}
    first = next(iter(files))
    for name, text in texts.items():
        if text != texts[first]:
            raise DataError(f"{clip}: {first} and {name} are named in two ways: name all frames of a clip alike")
    runs = {name: [int(run) for run in _DIGITS.findall(stem)] for name, stem in files.items()}
    width = len(runs[first])
    varying = [k for k in range(width) if len({run[k] for run in runs.values()}) > 1]
    if len(files) == 1:
        varying = [k for k in range(width) if runs[first][k] in (*own, *BASES)]
    if len(varying) != 1:
        raise DataError(
            f"{clip}: the name {first} does not tell the frame's number: name frames as the data do, "
            "00000000.png, 00000001.png, ..."
        )
    numbered: dict[int, str] = {}
    for name, run in runs.items():
        number = run[varying[0]]
        if number in numbered:
            raise DataError(
                f"{clip}: {numbered[number]} and {name} are both frame {number}: move one of the two sets elsewhere"
            )
        numbered[number] = name
    return numbered


def _wrong_count(source: Source, numbered: Mapping[int, str], own: Sequence[int]) -> str:
    """One line about too few or too many frames."""
    numbers = sorted(numbered)
    have = f"{len(numbers)} frames, numbered {numbers[0]} to {numbers[-1]}"
    expected = f"{source.frames} frames, {own[0]} to {own[-1]}"
    gaps = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    hole = f"; number {gaps[0]} is missing" if gaps else ""
    return (
        f"{source.name} has {have}, in the data it has {expected}{hole}: restore or remove frames; with one too many "
        "or too few each would be compared with its neighbour"
    )


def _last_number(stem: str) -> int:
    digits = _DIGITS.findall(stem)
    return int(digits[-1]) if digits else 0


def frames_of_video(source: Source, path: Path) -> dict[int, Frame]:
    """All frames of a video file that holds a whole clip. Raises DataError where their number is another."""
    reader = VideoReader(path)
    if reader.count != source.frames:
        raise DataError(
            f"{path} has {reader.count} frames, {source.name} has {source.frames}: write every frame once, "
            "at a constant frame rate"
        )
    return {n: Frame(path, reader, n) for n in range(source.frames)}
