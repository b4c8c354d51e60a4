"""Run folders of ``eval`` as entries of a report, and which of them may stand beside each other."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsrbench.errors import RunError
from vsrbench.evaluation.results import load
from vsrbench.evaluation.values import NOT_APPLICABLE, Value
from vsrbench.runs import making, read_run_settings
from vsrbench.stored import CONFIG

NAMES = {
    "bicubic": "bicubic", "ldm": "diffusion baseline", "realesrgan": "Real-ESRGAN", "basicvsr": "BasicVSR",
    "basicvsrpp": "BasicVSR++", "dgaf": "DGAF-VSR", "stablevsr": "StableVSR", "sateco": "SATeCo",
    "videogigagan": "VideoGigaGAN", "adapter": "adapter", "gt": "ground truth",
}  # fmt: skip
FIRST = (
    "bicubic",
    "ldm",
    "basicvsr",
    "basicvsrpp",
)  # simplest first; the others as they are given, the ground truth last


@dataclass(frozen=True)
class Entry:
    """One method's evaluation under one protocol. folders, results: one per seed; settings: flat, of the first."""

    label: str
    folders: tuple[Path, ...]
    results: tuple[dict[str, Any], ...]
    settings: Mapping[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        return self.results[0]

    @property
    def method(self) -> str:
        return str(self.result["method"])

    def frames(self, clip: str) -> Path:
        """Where the PNG frames of a clip lie, those of the first seed.

        Raises RunError for foreign frames that lie nowhere as ``<clip>/<frame>.png``, such as those of a video.
        """
        foreign, own = self.result["predictions"], self.folders[0] / "frames" / clip
        if not foreign or own.is_dir():
            return own
        there = Path(foreign).expanduser() / clip
        if not there.is_dir():
            raise RunError(
                f"{self.folders[0]}: no folder {there} with the frames that were evaluated: a report shows PNG frames, "
                "not those of a video; evaluate predictions=... again (force=true)"
            )
        return there

    def value(self, metric: str, clip: str | None = None) -> Value:
        """Mean over seeds of the set's value, or of a clip's; the reason where one seed has no number."""
        means = [_at(result, metric, clip) for result in self.results]
        for value in means:
            if not isinstance(value, int | float):
                return value
        return sum(float(v) for v in means if isinstance(v, int | float)) / len(means)

    def cost(self, name: str) -> Value:
        """What a frame costs, of the first seed."""
        value: Value = self.result["cost"].get(name, NOT_APPLICABLE)
        return value


def _at(result: Mapping[str, Any], metric: str, clip: str | None) -> Value:
    if metric not in result["metrics"]:
        return NOT_APPLICABLE
    content = result["metrics"][metric]
    value: Value = content["mean"] if clip is None else content["clips"][clip]["mean"]
    return value


@dataclass(frozen=True)
class Group:
    """Entries on equal terms: the same frames of the same data, one protocol."""

    entries: tuple[Entry, ...]
    mark: str = ""  # what tells the group from one of the same title

    @property
    def result(self) -> dict[str, Any]:
        return self.entries[0].result

    @property
    def clips(self) -> dict[str, int]:
        clips: dict[str, int] = self.result["data"]["clips"]
        return clips

    @property
    def title(self) -> str:
        data, protocol = self.result["data"], self.result["protocol"]
        return f"{data['set']} ×{protocol['switches'].get('scale', '?')}, protocol {protocol['id']}{self.mark}"

    @property
    def methods(self) -> tuple[Entry, ...]:
        """The entries without the ground truth, which no method can beat."""
        return tuple(entry for entry in self.entries if entry.method != "gt")

    def truth(self) -> Entry | None:
        return next((entry for entry in self.entries if entry.method == "gt"), None)

    def metrics(self) -> list[str]:
        """Every metric that some entry has, in the order in which they were evaluated."""
        return list(dict.fromkeys(name for entry in self.entries for name in entry.result["metrics"]))

    def named(self, label: str) -> Entry:
        """The entry of a label. Raises RunError where there is none."""
        for entry in self.entries:
            if label in (entry.label, entry.method):
                return entry
        raise RunError(f"no entry {label!r}: there are {', '.join(e.label for e in self.entries)}")


def groups(folders: Sequence[Path]) -> list[Group]:
    """What the run folders hold, by data, protocol and clips. Raises RunError for a folder without a result."""
    members_of: dict[Any, list[tuple[Path, dict[str, Any], dict[str, Any]]]] = {}
    for folder in dict.fromkeys(folders):
        settings = read_settings(folder)
        for result in read(folder):
            members_of.setdefault(_terms(result), []).append((folder, result, settings))
    return _distinct([Group(tuple(_ordered(_joined(members)))) for members in members_of.values()])


def _distinct(all_groups: Sequence[Group]) -> list[Group]:
    """Groups of one title, whose protocols have other switches or whose clips differ, get their hash and counts."""
    titles = [group.title for group in all_groups]
    return [
        Group(group.entries, f" ({fine_print(group)})") if titles.count(group.title) > 1 else group
        for group in all_groups
    ]


def fine_print(group: Group) -> str:
    """What groups of one title may differ in: the protocol's hash, split, clips and frames."""
    data = group.result["data"]
    frames = sum(group.clips.values())
    return f"hash {group.result['protocol']['hash'][:8]}, {data['split']}, {len(group.clips)} clips, {frames} frames"


def read(folder: Path) -> list[dict[str, Any]]:
    """The results of a run folder, one per protocol. Raises RunError where none can be read."""
    if not (folder / "result.json").is_file():
        raise RunError(f"no result.json in {folder}: name run folders of vsrbench eval that have finished")
    return [load(file) for file in sorted(folder.glob("result*.json"))]


def read_settings(folder: Path) -> dict[str, Any]:
    """Flat settings of a run, those that change its frames; empty where it keeps none.

    A checkpoint is replaced by what it was trained with, ``training.*``: two trainings that differ in their seed alone
    are two seeds of one method.
    """
    file = folder / CONFIG
    settings = making(read_run_settings(file)) if file.is_file() else {}
    if trained := _training(settings.get("ckpt_path")):
        settings |= {f"training.{k}": v for k, v in making(read_run_settings(trained)).items()}
        settings["ckpt_path"] = Path(settings["ckpt_path"]).name if settings["ckpt_path"].endswith(".ckpt") else "best"
    return settings


def _training(checkpoint: str | None) -> Path | None:
    """config.yaml of the run that a checkpoint (its folder or a file in its ``checkpoints``) comes from, if there.

    Relative paths are found from the folder in which the evaluation was started.
    """
    if not checkpoint:
        return None
    place = Path(checkpoint).expanduser()
    configs = (folder / "config.yaml" for folder in (place, place.parent.parent))
    return next((file for file in configs if file.is_file()), None)


def _terms(result: Mapping[str, Any]) -> Any:
    data, protocol = result["data"], result["protocol"]
    return data["set"], data["split"], protocol["hash"], protocol["id"], tuple(sorted(data["clips"].items()))


def _joined(members: Sequence[tuple[Path, dict[str, Any], dict[str, Any]]]) -> list[Entry]:
    """Runs that differ in their seed alone become one entry; equal labels are told apart by what differs."""
    seeds: dict[Any, list[tuple[Path, dict[str, Any], dict[str, Any]]]] = {}
    for member in members:
        folder, result, settings = member
        others = tuple(sorted((k, str(v)) for k, v in settings.items() if k.split(".")[-1] != "seed"))
        alike = others if settings else str(folder)  # a run that keeps no settings stands alone
        seeds.setdefault((result["method"], alike), []).append(member)
    entries = []
    for seed_runs in seeds.values():
        folders, results, settings = zip(*seed_runs, strict=True)
        entries.append(Entry(_name(results[0], folders[0]), folders, results, settings[0]))
    return _told_apart(entries)


def _name(result: Mapping[str, Any], folder: Path) -> str:
    return folder.name if result["predictions"] else NAMES.get(result["method"], str(result["method"]))


def _told_apart(entries: list[Entry]) -> list[Entry]:
    labels = []
    for entry in entries:
        alike = [other for other in entries if other.label == entry.label]
        labels.append(f"{entry.label} ({_difference(entry, alike)})" if len(alike) > 1 else entry.label)
    if len(set(labels)) < len(labels):  # differences that settings do not hold, such as the folder of frames
        labels = [
            f"{entry.label} ({entry.folders[0].name})" if labels.count(label) > 1 else label
            for entry, label in zip(entries, labels, strict=True)
        ]
    return [Entry(n, e.folders, e.results, e.settings) for e, n in zip(entries, labels, strict=True)]


def _difference(entry: Entry, alike: Sequence[Entry]) -> str:
    """At most two settings in which entries of one name differ; the run folder where there are more."""
    keys = differing(alike)
    if not 0 < len(keys) <= 2:
        return entry.folders[0].name
    return ", ".join(f"{key}={entry.settings.get(key)}" for key in keys)


def differing(entries: Sequence[Entry]) -> list[str]:
    """Settings in which entries differ, seeds apart. A part of the configuration that repeats another (such as
    ``method.sampler.steps``, which is ``sampler.steps``) counts once, by its shorter name."""
    keys = {key for entry in entries for key in entry.settings if key.split(".")[-1] != "seed"}
    values = {key: tuple(str(entry.settings.get(key)) for entry in entries) for key in sorted(keys, key=len)}
    names: list[str] = []
    for key in values:
        copied = any(key.endswith(f".{other}") and values[key] == values[other] for other in names)
        if len(set(values[key])) > 1 and not copied:
            names.append(key)
    return sorted(names)


def _ordered(entries: Sequence[Entry]) -> list[Entry]:
    """Methods as ``FIRST`` says, then as given; runs of one method by the settings in their labels, numbers by size."""
    methods = list(dict.fromkeys(entry.method for entry in entries))

    def place(entry: Entry) -> tuple[int, int, list[tuple[float, str]]]:
        rank = FIRST.index(entry.method) if entry.method in FIRST else len(FIRST) + (entry.method == "gt")
        words = [] if entry.result["predictions"] else re.split(r"(\d+(?:\.\d+)?)", entry.label)
        return rank, methods.index(entry.method), [(float(w), "") if w[:1].isdigit() else (-1.0, w) for w in words]

    return sorted(entries, key=place)
