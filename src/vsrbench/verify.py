"""``python -m vsrbench.verify method=dgaf variant=released reference=DIR``: replay a recording of released code.

Prints the largest difference per tensor; exit code 1 where one is beyond the tolerance or a recorded tensor was not
replayed.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import build, launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.parity.recordings import Difference, Recording

METHODS = ("dgaf", "stablevsr")  # a module of vsrbench.parity each
NETWORKS = ("_target_", "name", "prior", "sampler", "flow")


def check(cfg: "DictConfig") -> None:
    """Raise ConfigError where a configuration is not that of released code."""
    if cfg.method.name not in METHODS:
        raise ConfigError(f"method={cfg.method.name} has no released code whose recordings could be replayed")
    if cfg.variant != "released":
        raise ConfigError(f"verify replays released code, variant={cfg.variant} follows the text: add variant=released")
    if cfg.module.get("trajectory"):
        raise ConfigError("module.trajectory=true is ours: released code does not train so, leave it out of verify")
    if not cfg.reference:
        raise ConfigError("verify needs reference=DIR, the folder of a recording (tests/golden in the repository)")


def differences(cfg: "DictConfig", recording: "Recording") -> "list[Difference]":
    """One per recorded tensor, under the configuration's settings."""
    from omegaconf import OmegaConf

    nodes: Any = [OmegaConf.to_container(node, resolve=True) for node in (cfg.method, cfg.module)]
    settings, training = ({key: value for key, value in node.items() if key not in NETWORKS} for node in nodes)
    replays = import_module(f"vsrbench.parity.{cfg.method.name}")
    return list(replays.replay(recording, settings, training, build(cfg.optimiser, _convert_="all")))


def show(items: "list[Difference]", tolerance: float) -> int:
    """Print the table; returns how many tensors are beyond the tolerance."""
    from rich.console import Console
    from rich.table import Table

    table = Table("tensor", "shape", "largest difference", "", box=None)
    count = 0
    for item in items:
        beyond = not item.value <= tolerance
        count += beyond
        table.add_row(item.name, "x".join(map(str, item.shape)) or "1", f"{item.value:.2e}", "BEYOND" if beyond else "")
    console = Console(width=120)
    console.print(table)
    worst = max(items, key=lambda item: item.value)
    console.print(
        f"{len(items)} tensors, largest difference {worst.value:.2e} ({worst.name}), tolerance {tolerance:g}: "
        + (f"{count} beyond" if count else "all within")
    )
    return count


def run(cfg: "DictConfig") -> None:
    """Replay and compare. Raises ConfigError without ``reference`` or for a method that has no recordings."""
    from vsrbench.parity.recordings import Recording

    check(cfg)
    recording = Recording(Path(cfg.reference).expanduser())
    items = differences(cfg, recording)
    beyond = show(items, float(cfg.tolerance))
    absent = sorted(set(recording.trace) - {item.name for item in items})
    if absent:
        print(f"recorded but not replayed: {', '.join(absent)}")
    if beyond or absent:
        raise SystemExit(1)


if __name__ == "__main__":
    launch(run, "verify")
