"""``python -m vsrbench.verify method=dgaf variant=released reference=DIR``: replay a recording of released code.

Prints the largest difference per tensor; exit code 1 where one is beyond the tolerance or a recorded tensor was not
replayed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench.config import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: "DictConfig") -> None:
    """Replay and compare. Raises ConfigError without ``reference`` or for a method that has no recordings."""
    from vsrbench.parity.recordings import Recording
    from vsrbench.parity.verification import check, differences, show

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
