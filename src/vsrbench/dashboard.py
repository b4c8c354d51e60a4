"""``python -m vsrbench.dashboard``: W&B workspaces for every method and for the comparison, built from code.

``vsrbench dashboard dgaf`` or ``comparison`` makes one. Saved to W&B where somebody is logged in, else written only.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.command_line import home
from vsrbench.config import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: "DictConfig") -> Path:
    """Write ``<runs>/dashboards/<name>.json`` of every dashboard that is asked for; the folder is printed last.

    Raises ConfigError for an unknown name or an absent package, RunError where W&B refuses.
    """
    from vsrbench.cluster import dashboard, workspace
    from vsrbench.training.wandb_login import mode

    folder = Path(cfg.runs).expanduser().resolve() / "dashboards"
    wanted = (*dashboard.methods(), dashboard.COMPARISON) if cfg.dashboard == "all" else (cfg.dashboard,)
    described = [dashboard.dashboard(name) for name in wanted]
    project, entity = place(cfg)
    online = mode() == "online"
    for one in described:
        path = folder / f"{one.name}.json"
        built = workspace.build(one, entity, project)
        url = workspace.address(path)
        workspace.write(path, built, url)
        if online:
            url = workspace.save(built, url)
            workspace.write(path, built, url)
        print(f"{one.name}: {url if online else path}")
    print(
        folder if online else f"not logged in to W&B: written, not saved (wandb login, then the same command)\n{folder}"
    )
    return folder


def place(cfg: "DictConfig") -> tuple[str, str]:
    """Project and entity, of ``logger=wandb`` where another logger was chosen; an empty entity is the default one."""
    from omegaconf import OmegaConf

    settings: Any = cfg.logger.get("wandb") or OmegaConf.load(home() / "conf" / "logger" / "wandb.yaml").wandb
    return str(settings.project), str(settings.entity or "")


if __name__ == "__main__":
    launch(run, "dashboard")
