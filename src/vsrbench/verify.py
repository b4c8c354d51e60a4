"""``python -m vsrbench.verify method=dgaf variant=released reference=DIR``: replay a recording of released code.

Prints the largest difference per tensor; exit code 1 where one is beyond the tolerance or a recorded tensor was not
replayed.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import build, launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.diffusion.recordings import Difference

NETWORKS = ("_target_", "name", "prior", "sampler", "flow")


def run(cfg: "DictConfig") -> None:
    """Replay and judge. Raises ConfigError without ``reference`` or for a method that has no recordings."""
    if not cfg.replay:
        raise ConfigError(f"method={cfg.method.name} has no released code whose recordings could be replayed")
    if cfg.variant != "released":
        raise ConfigError(f"verify replays released code, variant={cfg.variant} follows the text: add variant=released")
    if cfg.method.get("trajectory"):
        raise ConfigError("method.trajectory=true is ours: released code does not train so, leave it out of verify")
    if not cfg.reference:
        raise ConfigError("verify needs reference=DIR, the folder of a recording (tests/golden in the repository)")
    from vsrbench.diffusion.recordings import Recording

    recording = Recording(Path(cfg.reference).expanduser())
    found = list(differences(cfg, recording))
    told = show(found, float(cfg.tolerance))
    left = sorted(set(recording.trace) - {d.name for d in found})
    if left:
        print(f"recorded but not replayed: {', '.join(left)}")
    if told or left:
        raise SystemExit(1)


def differences(cfg: "DictConfig", recording: Any) -> "list[Difference]":
    """What the method's own replay finds, under the configuration's settings."""
    from importlib import import_module

    from omegaconf import OmegaConf

    node: Any = OmegaConf.to_container(cfg.method, resolve=True)
    settings = {key: value for key, value in node.items() if key not in NETWORKS}
    module = import_module(cfg.replay)
    return list(module.replay(recording, settings, build(cfg.optimiser, _convert_="all")))


def show(found: "list[Difference]", tolerance: float) -> int:
    """Print the table; returns how many tensors are beyond the tolerance."""
    from rich.console import Console
    from rich.table import Table

    table = Table("tensor", "shape", "largest difference", "", box=None)
    broken = 0
    for item in found:
        beyond = not item.value <= tolerance
        broken += beyond
        table.add_row(item.name, "x".join(map(str, item.shape)) or "1", f"{item.value:.2e}", "BEYOND" if beyond else "")
    console = Console(width=120)
    console.print(table)
    worst = max(found, key=lambda item: item.value)
    console.print(
        f"{len(found)} tensors, largest difference {worst.value:.2e} ({worst.name}), tolerance {tolerance:g}: "
        + (f"{broken} beyond" if broken else "all within")
    )
    return broken


if __name__ == "__main__":
    launch(run, "verify")
