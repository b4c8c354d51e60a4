"""``python -m vsrbench.data check data=reds data.root=DIR``: what is there, what is missing, the expected tree.

Exit code 1 where something is missing.
"""

from typing import TYPE_CHECKING, Any

from vsrbench.config import build, launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: "DictConfig") -> None:
    """Print the report. Raises ConfigError for another word than ``check``."""
    from omegaconf import OmegaConf

    from vsrbench.data.catalog import Settings
    from vsrbench.data.check import report

    if cfg.task != "check":
        raise ConfigError(f"unknown task {cfg.task!r}: write `python -m vsrbench.data check data=reds data.root=DIR`")
    node: Any = OmegaConf.to_container(cfg.data, resolve=True)
    settings = Settings.of(node, build(cfg.degradation))
    lines, complete = report(settings, node["splits"])
    print("\n".join(lines))
    if not complete:
        raise SystemExit(1)


if __name__ == "__main__":
    launch(run, "data")
