"""The clips of a split: what is there, and what the data set has besides."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vsrbench.data.degradations import Degradation
from vsrbench.data.sources import Pairing, Source
from vsrbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from vsrbench.data.photos import Album


@dataclass(frozen=True)
class Settings:
    """Where the data are and how they are read (``data`` of the configuration, without training).

    set: reds, vimeo, vid4, udm10, videolq, folder, video, photos or sample. lr: "auto" takes LR from disk where
    the data set has it there, "disk" insists on it, "made" makes it from HR. role: what a folder or video
    without HR and LR subfolders holds, "hr" or "lr". frame_size: HR (H,W) of rendered clips. motion: ranges of
    random camera paths.
    """

    set: str
    root: str | None
    pairing: Pairing
    lr: str = "auto"
    role: str = "hr"
    frame_size: tuple[int, int] = (192, 320)
    motion: Mapping[str, Any] | None = None
    packed: str | None = None

    @classmethod
    def of(cls, node: Mapping[str, Any], degradation: Degradation) -> "Settings":
        """Take this record's keys out of ``conf/data/<set>.yaml``.

        Raises ConfigError for a scale that the degradation is not defined for, and for values of another kind.
        """
        degradation.check(node["scale"])
        values = {key: node[key] for key in cls.__dataclass_fields__ if key in node}
        if "frame_size" in values:
            values["frame_size"] = _height_and_width(values["frame_size"])
        for key in ("root", "packed"):
            if not isinstance(values.get(key), str | os.PathLike | None):
                raise ConfigError(f"data.{key}={values[key]}: give a path; one that is a number is ./{values[key]}")
        return cls(pairing=Pairing(node["scale"], degradation, node.get("crop_to_multiple", False)), **values)

    def __post_init__(self) -> None:
        for key, value, allowed in (("lr", self.lr, ("auto", "disk", "made")), ("role", self.role, ("hr", "lr"))):
            if value not in allowed:
                raise ConfigError(f"data.{key}={value}: use one of {', '.join(allowed)}")

    @property
    def folder(self) -> str:
        """``root``, which every set but ``sample`` needs. Raises DataError where it is not set."""
        if not self.root:
            raise DataError(
                f"data={self.set} needs data.root=PATH; `python -m vsrbench.data check data={self.set}` "
                "prints the expected tree"
            )
        return str(self.root)


@dataclass
class Catalog:
    """sources: clips that are there, in the protocol's order; absent: clips of the partition that are not.

    short: {clip: [frames, frames of the full clip]}; photos: training photographs instead of clips.
    unit: "frames" or "clips", what an epoch counts.
    """

    sources: list[Source] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    short: dict[str, list[int]] = field(default_factory=dict)
    photos: "Album | None" = None
    unit: str = "frames"

    def coverage(self, set_name: str) -> dict[str, Any]:
        """{"set", "clips": {name: frames}, "absent": [names], "short": {name: [have, expected]}}."""
        clips = {s.name: s.frames for s in self.sources}
        return {"set": set_name, "clips": clips, "absent": list(self.absent), "short": dict(self.short)}


def _height_and_width(size: Any) -> tuple[int, int]:
    sides = [] if isinstance(size, int | float | str | None) else list(size)
    if len(sides) != 2 or any(type(n) is not int or n < 1 for n in sides):
        raise ConfigError(f"data.frame_size={size}: give two whole numbers from 1, height and width")
    return sides[0], sides[1]


def whole(value: Any, setting: str) -> None:
    """Raise ConfigError for a limit that is neither null, which means none, nor a whole number from 1."""
    if value is not None and (type(value) is not int or value < 1):
        raise ConfigError(f"{setting}={value}: give a whole number from 1, or null for all")


def chosen(known: list[str], partition: Any, what: str) -> list[str]:
    """Names of a user's selection among ``known``: "all", one name or a list. Raises DataError for others."""
    if partition in (None, "all"):
        return known
    names = [partition] if isinstance(partition, str) else [str(p) for p in partition]
    unknown = [n for n in names if n not in known]
    if unknown or not names:
        label = unknown[0] if unknown else "an empty list"
        raise DataError(f"{what} has no clip {label!r}: it has {', '.join(known[:12])}{' ...' * (len(known) > 12)}")
    return names
