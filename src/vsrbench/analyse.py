"""``python -m vsrbench.analyse task=warping method=dgaf size=mini data=vid4 data.root=DIR``: the papers' analyses.

DGAF-VSR: correlation (Figure 1), warping (Figure 2), steps, factors, components (Supp. Sec. 3, 4, 5, 10).
StableVSR: textures (Figures 3 and 4).
Writes table.json, table.md, figure.png and figure.svg into the run folder.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import launch
from vsrbench.errors import ConfigError, RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.analysis.report import Result
    from vsrbench.runs import Run

# task: (module of vsrbench.analysis, function, whether it needs flows)
TASKS = {
    "correlation": ("correlation", "correlations", False),
    "warping": ("warping", "warping", True),
    "steps": ("warping", "steps", True),
    "factors": ("warping", "factors", True),
    "components": ("warping", "components", True),
    "textures": ("textures", "textures", True),
}


def run(cfg: "DictConfig") -> Path:
    """Analyse, or show what the same command found before; the run folder is printed last and returned.

    Raises ConfigError for an unknown task, for settings that mean nothing and for a method that cannot be analysed,
    DataError for clips that cannot, RunError for a run folder of other settings.
    """
    from vsrbench.analysis import report
    from vsrbench.runs import open_run

    if cfg.task not in TASKS:
        raise ConfigError(f"task={cfg.task}: use one of {', '.join(TASKS)}")
    folder = open_run(cfg, "analyse")
    table = folder.folder / "table.json"
    if table.is_file() and not cfg.force:
        result = report.load(table)
        if result["provenance"]["weights"] != weights(cfg):
            raise RunError(f"the weights have changed since {table} was made: analyse again (force=true)")
        print("analysed before: force=true does it again")
    else:
        result = analyse(cfg, folder)
    report.show(result)
    print(folder.folder)
    return folder.folder


def analyse(cfg: "DictConfig", folder: "Run") -> dict[str, Any]:
    """Sample, measure, and write the run folder's files; table.json, returned, is the last of them."""
    from omegaconf import OmegaConf

    from vsrbench.analysis import report
    from vsrbench.analysis.session import Session
    from vsrbench.progress import Bars
    from vsrbench.reports.drawing import encode
    from vsrbench.reports.figures import draw
    from vsrbench.runs import provenance, write_atomic

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    module, function, warps = TASKS[cfg.task]
    task: Callable[[Session], Result] = getattr(import_module(f"vsrbench.analysis.{module}"), function)
    with Bars() as bars:
        session = Session(cfg, warps, bars.row(), bars.row())
        values = task(session)
    origin = {**provenance(int(cfg.seed)), "weights": weights(cfg)}
    if session.method.device.type == "cpu":
        origin["device"] = "cpu"  # a GPU that was there and not used says nothing
    result = report.assemble(settings, values, session.frame_counts, origin)
    figure = draw(result, values.pictures)
    for kind in ("png", "svg"):
        write_atomic(folder.folder / f"figure.{kind}", encode(figure, kind))
    folder.write_text("table.md", report.markdown(result))
    folder.write_json("table.json", result)
    return result


def weights(cfg: "DictConfig") -> dict[str, str] | None:
    """File and hash of the trained weights; None where there are none."""
    from vsrbench.evaluation.results import fingerprint
    from vsrbench.weights.choice import trained_source
    from vsrbench.weights.trained import checkpoint_file

    source = trained_source(cfg)
    return fingerprint(checkpoint_file(Path(source).expanduser())) if source else None


if __name__ == "__main__":
    launch(run, "analyse")
