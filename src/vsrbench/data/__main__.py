"""``python -m vsrbench.data WORD data=reds ...``: look after a data set on disk.

check data.root=DIR: what is there, what is missing, the expected tree; exit code 1 where something is missing.
pack data.root=DIR output=PACK: copy the frames of all splits into memory maps, for data.packed=PACK.
degrade data.root=DIR degradation=real output=OUT: write a test set, OUT/HR and OUT/LR, for data=folder data.root=OUT.
verify data.packed=PACK: compare every packed byte with its checksum; exit code 1 where a clip is damaged.
"""

from typing import TYPE_CHECKING, Any

from vsrbench.config import build, launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.data.catalog import Settings


def run(cfg: "DictConfig") -> None:
    """Do what the word says. Raises ConfigError for another word."""
    from omegaconf import OmegaConf

    from vsrbench.data.catalog import Settings

    words = {"check": check, "pack": pack, "degrade": degrade, "verify": verify}
    if cfg.task not in words:
        raise ConfigError(f"unknown task {cfg.task!r}: write `python -m vsrbench.data check data=reds data.root=DIR`")
    node: Any = OmegaConf.to_container(cfg.data, resolve=True)
    if "packed" not in node and cfg.task != "check":
        raise ConfigError(f"data={node['set']} has no stored frames to {cfg.task}: choose data=reds, folder or another")
    words[cfg.task](cfg, Settings.of(node, build(cfg.degradation)), node)


def check(cfg: "DictConfig", settings: "Settings", node: dict[str, Any]) -> None:
    """Print the report on ``data.root``."""
    from vsrbench.data.check import report

    if settings.packed:
        raise ConfigError("check looks at data.root: for a pack write `python -m vsrbench.data verify` instead")
    lines, complete = report(settings, node["splits"])
    print("\n".join(lines))
    if not complete:
        raise SystemExit(1)


def pack(cfg: "DictConfig", settings: "Settings", node: dict[str, Any]) -> None:
    """Pack all splits into ``output``."""
    from vsrbench.data.packing import pack

    if not cfg.output or settings.packed:
        raise ConfigError("pack reads data.root=DIR and writes output=PACK: give both, without data.packed")
    index = pack(settings, node["splits"], cfg.output, node["workers"])
    size = sum(entry.bytes for entry in index.entries.values())
    print(
        f"{len(index.entries)} clips, {size / 1e9:.2f} GB: use them with data={settings.set} data.packed={cfg.output}"
    )


def degrade(cfg: "DictConfig", settings: "Settings", node: dict[str, Any]) -> None:
    """Write the clips of all splits with the LR frames of ``degradation`` into ``output``."""
    from vsrbench.data.degrade import degrade

    if not cfg.output or settings.packed:
        raise ConfigError("degrade reads data.root=DIR and writes output=DIR: give both, without data.packed")
    clips = degrade(settings, node["splits"], cfg.output)
    print(f"{len(clips)} clips: use them with data=folder data.root={cfg.output}")


def verify(cfg: "DictConfig", settings: "Settings", node: dict[str, Any]) -> None:
    """Name the damaged clips of ``data.packed``."""
    from vsrbench.data.packing import verify

    if not settings.packed:
        raise ConfigError(f"verify needs data.packed=PACK, the folder that `pack data={settings.set}` made")
    count, damaged = verify(settings.packed)
    print(f"{settings.packed}: {count} clips, {len(damaged)} damaged")
    for clip, shard in damaged.items():
        print(f"  clip {clip} in {shard}")
    if damaged:
        shards = " and ".join(dict.fromkeys(damaged.values()))
        print(f"remove {shards} there and pack again into the same folder: only what was in it is written again")
        raise SystemExit(1)


if __name__ == "__main__":
    launch(run, "data")
