"""A protocol: every switch that changes a number, stated once, a block per data set, with an id and a content hash.

``conf/protocol/<id>.yaml`` holds ``switches`` (all of them) and ``blocks``; a block is chosen by the data set that is
evaluated and states what is different there. Needs no torch.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from vsrbench.errors import ConfigError
from vsrbench.metrics.catalog import METRICS

ANY = "any"  # a condition: LR frames that no degradation made (VideoLQ)
OTHER = "other"  # the block of every data set that has none of its own

# What each switch may be. A single value is stated all the same: a result must say which it was.
CHOICES: dict[str, tuple[Any, ...]] = {
    "container": ("png",),
    "order": ("rgb",),
    "quantisation": ("round_half_up",),
    "luma": ("bt601_studio", "opencv_i420"),
    "psnr": ("mean_of_decibels",),
    "ssim": ("gaussian_11_1.5_valid",),
    "channel": ("rgb", "luma"),
    "averaging": ("clips", "frames"),
    "scene_flow": ("exact", "estimated", "exact_or_estimated"),
    "flow": ("dis", "farneback", "spynet", "raft"),
    "mask": ("occlusion", "ruder", "lai"),
}
FRAMES = ("convention", "all")
BESIDE = ("published", "bicubic", "incomparable", "sampling")  # what a block knows besides switches


@dataclass(frozen=True)
class Protocol:
    """The switches of one block of a ``conf/protocol/*.yaml``; docs/protocols.md explains each.

    block: its name. degradation: settings of what makes LR where the data bring none. clips: names of the clips that
    count, or how many there are; None: whatever the data have. published: id under which published.yaml has the
    reported values of this block and condition, None without any. bicubic: which kernel the reported bicubic row was
    made with, by reported metric. incomparable: why a reported metric is not ours of the same name. sampling: how the
    paper made its frames (null: not stated).

    Raises ConfigError for a value that is not among the switch's choices.
    """

    id: str
    block: str
    split: str
    scale: int
    degradation: dict[str, Any]
    clips: tuple[str, ...] | int | None
    metrics: tuple[str, ...]
    container: str
    order: str
    quantisation: str
    luma: str
    psnr: str
    ssim: str
    channel: str
    crop: int
    window: int | None
    frames: str | int
    trim: int
    averaging: str
    scene_flow: str
    flow: str
    mask: str
    published: str | None
    bicubic: Mapping[str, str | None]
    incomparable: Mapping[str, str]
    sampling: Mapping[str, Any]

    def __post_init__(self) -> None:
        for switch, choices in CHOICES.items():
            if getattr(self, switch) not in choices:
                raise ConfigError(f"protocol.{switch}={getattr(self, switch)}: use {' or '.join(choices)}")
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise ConfigError(f"protocol.metrics: unknown {unknown[0]!r}; known are {', '.join(METRICS)}")
        if not self.metrics:
            raise ConfigError(f"protocol.metrics is empty: name at least one of {', '.join(METRICS)}")
        if self.frames not in FRAMES and not (isinstance(self.frames, int) and self.frames > 0):
            raise ConfigError(f"protocol.frames={self.frames}: use {', '.join(FRAMES)}, or how many from the start")
        for name, value, least in (("crop", self.crop, 0), ("trim", self.trim, 0), ("window", self.window, 1)):
            if value is not None and value < least:
                raise ConfigError(f"protocol.{name}={value}: use {least} or more pixels or frames")

    @property
    def switches(self) -> dict[str, Any]:
        """All switches that change a number, as plain JSON values."""
        values = {k: v for k, v in asdict(self).items() if k not in BESIDE}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @property
    def hash(self) -> str:
        """BLAKE2b of the switches as canonical JSON (sorted keys, no spaces), 16 hex digits.

        Names are left out: protocols of equal switches have equal hashes whatever they and their blocks are called.
        """
        content = {k: v for k, v in self.switches.items() if k not in ("id", "block")}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()

    def complete(self, coverage: Mapping[str, Any]) -> dict[str, Any]:
        """The data's coverage against the clips that the protocol names: what it lacks of them is absent.

        Raises ConfigError for a clip that the protocol does not evaluate.
        """
        there, absent = list(coverage["clips"]), list(coverage["absent"])
        if isinstance(self.clips, tuple):
            if others := [name for name in there if name not in self.clips]:
                raise ConfigError(
                    f"protocol={self.id} evaluates {', '.join(self.clips)} of {coverage['set']}, not {others[0]}: set "
                    f"data.splits.{self.split}.partition to those, or choose protocol=vsrbench"
                )
            absent += [name for name in self.clips if name not in {*there, *absent}]
        elif self.clips is not None and not absent and len(there) < self.clips:
            absent = [f"{self.clips - len(there)} of the {self.clips} clips"]
        return {**coverage, "absent": absent}


def condition(degradation: Mapping[str, Any], scale: int) -> str:
    """A degradation and a scale in one word: "bicubic_x4", "blur_down_basicvsr_x4"."""
    flavour = degradation.get("flavour")
    return f"{degradation['name']}{f'_{flavour}' if flavour else ''}_x{scale}"


def from_settings(settings: Mapping[str, Any]) -> list[Protocol]:
    """The protocols of a configuration, resolved to plain dicts and lists, in the order in which they were named.

    Reads ``protocols`` (the chosen files), ``protocol`` (switches that the user replaces in all of them),
    ``data.set``, ``degradation`` and ``scale``. Raises ConfigError as ``select`` does, and where their splits differ.
    """
    replaced = {k: v for k, v in settings["protocol"].items() if v is not None}
    block = replaced.pop("block", None)
    protocols = [
        select(node, settings["data"]["set"], settings["degradation"], settings["scale"], replaced, block)
        for node in settings["protocols"].values()
    ]
    if len({protocol.split for protocol in protocols}) > 1:
        raise ConfigError("the protocols evaluate different splits: evaluate under one after the other")
    return protocols


def split_of(settings: Mapping[str, Any]) -> str:
    """The split that the chosen protocols evaluate."""
    return str(settings["protocol"]["split"] or next(iter(settings["protocols"].values()))["switches"]["split"])


def select(
    node: Mapping[str, Any],
    data_set: str,
    degradation: Mapping[str, Any],
    scale: int,
    replaced: Mapping[str, Any] | None = None,
    block: str | None = None,
) -> Protocol:
    """One protocol for a data set.

    node: content of its file. replaced: switches that win over the file's. block: its name where a data set has
    several; None: the one named as the data set. Raises ConfigError for a data set, degradation or scale that the
    protocol does not know, and for a switch that is missing or unknown.
    """
    name, content = _block(node, data_set, block)
    switches = {**node["switches"], **content.get("switches", {}), **(replaced or {})}
    beside = {"id", "block", "scale", "degradation", "clips", *BESIDE}
    known = {field.name for field in fields(Protocol)} - beside
    if known != set(switches):
        missing, unknown = sorted(known - set(switches)), sorted(set(switches) - known)
        raise ConfigError(
            f"protocol {node['id']}: missing switches {missing}, unknown switches {unknown}; state every one"
        )
    clips = content.get("clips")
    return Protocol(
        id=node["id"],
        block=name,
        scale=scale,
        # which class makes the degradation is no switch; its settings are
        degradation={k: v for k, v in degradation.items() if not k.startswith("_")},
        clips=tuple(clips) if isinstance(clips, list) else clips,
        published=_published(node["id"], content, condition(degradation, scale)),
        bicubic=content.get("bicubic") or {},
        incomparable=content.get("incomparable") or {},
        sampling={**node.get("sampling", {}), **content.get("sampling", {})},
        **{**switches, "metrics": tuple(switches["metrics"])},
    )


def _block(node: Mapping[str, Any], data_set: str, name: str | None) -> tuple[str, dict[str, Any]]:
    blocks: dict[str, dict[str, Any]] = {k: v or {} for k, v in node["blocks"].items()}
    sets = {k: block.get("set", k) for k, block in blocks.items()}
    block_name = name or (data_set if data_set in blocks else OTHER)
    if block_name in blocks and sets[block_name] is None:
        raise ConfigError(
            f"block {block_name} of protocol={node['id']} evaluates no frames: {blocks[block_name]['bench']}"
        )
    fitting = [k for k, name in sets.items() if name in (data_set, OTHER)]
    if block_name not in fitting:
        names = ", ".join(sorted({str(name) for name in sets.values() if name}))
        can = f"its blocks for it are {', '.join(fitting)}" if fitting else f"it evaluates {names}"
        raise ConfigError(
            f"protocol={node['id']} has no block {name or data_set} for data={data_set}: {can}; protocol=vsrbench "
            "evaluates every data set"
        )
    return block_name, blocks[block_name]


def _published(protocol: str, block: Mapping[str, Any], under: str) -> str | None:
    """The id of reported values under a condition. Raises ConfigError for a condition that the block does not know."""
    known: Mapping[str, str | None] | None = block.get("published")
    if known is None or ANY in known:
        return None if known is None else known[ANY]
    if under not in known:
        raise ConfigError(
            f"protocol={protocol} evaluates this set under {', '.join(known)}, not {under}: change degradation=... "
            "or scale=..., or choose protocol=vsrbench"
        )
    return known[under]


def blocks_of(published: str, nodes: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(protocol, block, condition) of every block that states how the values of a published id were measured.

    nodes: {protocol: content of its file}, as ``shipped`` gives.
    """
    return [
        (protocol, name, under)
        for protocol, node in nodes.items()
        for name, block in node["blocks"].items()
        for under, identity in ((block or {}).get("published") or {}).items()
        if identity == published
    ]


def shipped() -> dict[str, dict[str, Any]]:
    """{id: content} of all files in ``conf/protocol``."""
    import yaml

    from vsrbench.command_line import home

    read: Sequence[dict[str, Any]] = [
        yaml.safe_load(path.read_text()) for path in sorted((home() / "conf" / "protocol").glob("*.yaml"))
    ]
    return {node["id"]: node for node in read}
