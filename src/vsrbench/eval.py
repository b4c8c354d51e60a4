"""``python -m vsrbench.eval method=bicubic data=vid4 data.root=DIR``: write frames, then evaluate them.

``predictions=DIR`` evaluates frames of other software, ``DIR/<clip>/<frame>.png``. ``protocol=[a,b]`` evaluates the
same frames under both: ``result.json`` is that of the first, ``result_b.json`` that of the other.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import build, launch
from vsrbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from omegaconf import DictConfig

    from vsrbench.data.sources import Source
    from vsrbench.runs import Run


def run(cfg: "DictConfig") -> Path:
    """Evaluate, or show what the same command gave before; the run folder is printed last and returned.

    Frames are made once: under another protocol those of the run folder are evaluated again, and of another run folder
    that differs in how it evaluates them.
    Raises DataError for data or frames that cannot be evaluated, ConfigError for a protocol that cannot be met,
    RunError for a run folder of other settings or weights, and for one that another process is working in.
    """
    from omegaconf import OmegaConf

    from vsrbench.evaluation import outputs, protocol, results
    from vsrbench.evaluation.evaluate import evaluate, needs_rescoring
    from vsrbench.runs import alone, open_run, run_folder

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    protocols = protocol.from_settings(settings)
    with alone(run_folder(cfg, "eval")):
        sources = cache(lambda: build(cfg.data).clips(protocols[0].split))
        predictions = None if cfg.predictions is None else Path(cfg.predictions).expanduser()
        free = outputs.moved_data(run_folder(cfg, "eval"), settings, sources)
        folder = open_run(cfg, "eval", free)
        earlier = {} if cfg.force else results.stored_results(folder, protocols, settings["published"])
        changed = bool(earlier) and _changed(folder, sources, predictions)
        if changed:
            earlier = {}
        missing = [p for p in protocols if p.id not in earlier or needs_rescoring(p, earlier[p.id])]
        if missing:
            earlier |= {result["protocol"]["id"]: result for result in evaluate(cfg, folder, missing)}
            outputs.note_inputs(folder, sources(), predictions)
        else:
            print("evaluated before: force=true does it again")
        ordered = [earlier[p.id] for p in protocols]
        results.store_results(folder, ordered, keep=not cfg.force and not changed)
        if missing and set(cfg.logger) - {"csv"}:
            from vsrbench.training.evaluation_log import log_results

            log_results(cfg, folder, ordered)
    for result in ordered:
        results.show(result)
    print(folder.folder)
    return folder.folder


def _changed(run: "Run", sources: "Callable[[], list[Source]]", predictions: Path | None) -> bool:
    """Whether what was evaluated has changed since; says so, and where it is gone."""
    from vsrbench.evaluation import outputs

    try:
        changed = outputs.changed_inputs(run, sources(), predictions)
    except (DataError, FileNotFoundError) as error:
        print(f"note: the data cannot be compared with those that were evaluated ({error})")
        return False
    if changed:
        print("the data have changed since they were evaluated: they are evaluated again")
    return changed


if __name__ == "__main__":
    launch(run, "eval")
