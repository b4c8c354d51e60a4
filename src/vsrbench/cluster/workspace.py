"""A dashboard as a W&B workspace: built without a network, written as JSON, saved where somebody is logged in."""

import json
from pathlib import Path
from typing import Any

from vsrbench.cluster.dashboard import Dashboard, Panel
from vsrbench.compat import workspace_model
from vsrbench.errors import ConfigError, RunError
from vsrbench.runs import write_atomic
from vsrbench.stored import read_json
from vsrbench.training import names

WIDE, HIGH = 24, 6  # a row of W&B's grid, and a panel's height
WIDTHS = {"media": WIDE, "table": WIDE, "differences": WIDE}
HEIGHTS = {"media": 10, "table": 12, "differences": 12}
COLUMNS = 3  # of the other panels


def build(dashboard: Dashboard, entity: str, project: str) -> Any:
    """The ``wandb_workspaces`` object. Raises ConfigError where that package is not installed."""
    try:
        from wandb_workspaces import expr
        from wandb_workspaces import workspaces as ws
    except ImportError as error:
        raise ConfigError("dashboards need the extra `dashboard`: pip install 'vsrbench[dashboard]'") from error
    sections = [
        ws.Section(name=section.name, is_open=section.open, panels=_placed(section.panels))
        for section in dashboard.sections
    ]
    runs = ws.RunsetSettings()
    if dashboard.method is not None:
        runs = ws.RunsetSettings(filters=[expr.Config(names.METHOD) == dashboard.method])
    return ws.Workspace(
        entity=entity, project=project, name=f"vsrbench {dashboard.name}", sections=sections, runset_settings=runs
    )


def _placed(panels: tuple[Panel, ...]) -> list[Any]:
    """Panels with their places: three to a row, or one where it is wide."""
    from wandb_workspaces.reports import v2 as wr

    placed, x, y, row = [], 0, 0, 0
    for panel in panels:
        width, height = WIDTHS.get(panel.kind, WIDE // COLUMNS), HEIGHTS.get(panel.kind, HIGH)
        if x + width > WIDE:
            x, y, row = 0, y + row, 0
        item = panel_object(panel)
        item.layout = wr.Layout(x=x, y=y, w=width, h=height)
        placed.append(item)
        x, row = x + width, max(row, height)
    return placed


def panel_object(panel: Panel) -> Any:
    """One panel as ``wandb_workspaces`` has it."""
    from wandb_workspaces.reports import v2 as wr

    group: dict[str, Any] = {} if panel.group is None else {"groupby": wr.Config(panel.group)}
    mean: dict[str, Any] = {"groupby_aggfunc": "mean"} if group else {}
    if panel.kind == "curve":
        area: dict[str, Any] = {"groupby_rangefunc": "minmax"} if group else {}
        y: dict[str, Any] = {"y": list(panel.keys)} if panel.pattern is None else {"metric_regex": panel.pattern}
        return wr.LinePlot(title=panel.title, x=panel.x, log_y=panel.log or None, **y, **group, **mean, **area)
    if panel.kind == "bars":
        return wr.BarPlot(title=panel.title, metrics=list(panel.keys), **group, **mean)
    if panel.kind == "scatter":
        x, other = (wr.SummaryMetric(name) for name in panel.keys)
        return wr.ScatterPlot(title=panel.title, x=x, y=other)
    if panel.kind == "media":
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.keys), num_columns=1)
    if panel.kind == "table":
        return wr.WeavePanelSummaryTable(table_name=panel.keys[0])
    return wr.RunComparer(diff_only="split")


def specification(workspace: Any) -> dict[str, Any]:
    """What W&B would be sent."""
    return dict(json.loads(workspace_model(workspace).model_dump_json(by_alias=True)))


def write(path: Path, workspace: Any, url: str | None) -> None:
    """Write ``{"url", "workspace"}``; url: where it was saved, None where it was not."""
    content = {"url": url, "workspace": specification(workspace)}
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def address(path: Path) -> str | None:
    """Where the dashboard that ``path`` describes was saved, None where it never was.

    Raises RunError for a damaged file.
    """
    if not path.exists():
        return None
    remedy = "delete it, and the same command writes it again"
    url = read_json(path, remedy).get("url")
    if not isinstance(url, str):
        raise RunError(f"{path} is damaged (it has no url): {remedy}")
    return url


def save(workspace: Any, url: str | None) -> str:
    """Save to W&B and return the address; the view at ``url``, which an earlier call saved, is replaced.

    Raises RunError where W&B refuses or cannot be reached.
    """
    from wandb_workspaces import workspaces as ws

    try:
        target = workspace
        if url:
            target = ws.Workspace.from_url(url)
            target.name, target.sections = workspace.name, workspace.sections
            target.runset_settings = workspace.runset_settings
        target.save()
        return str(target.url)
    except Exception as error:  # the package raises errors of its own, of wandb and of requests
        raise RunError(
            f"{workspace.name!r} cannot be saved to W&B ({error}): check logger.wandb.entity and logger.wandb.project; "
            f"where the saved view is gone ({url}), delete the file in runs/dashboards"
        ) from error
