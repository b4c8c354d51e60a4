"""``python -m vsrbench.eval method=bicubic data=vid4 data.root=DIR``: write frames, then judge them.

``predictions=DIR`` judges frames that other software wrote, ``DIR/<clip>/<frame>.png``. ``protocol=[a,b]`` judges the
same frames under both: ``result.json`` is that of the first, ``result_b.json`` that of the other.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import build, launch
from vsrbench.errors import DataError
from vsrbench.eval_ranks import make_frames

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.evaluation.protocol import Protocol
    from vsrbench.runs import Run


def run(cfg: "DictConfig") -> Path:
    """Evaluate, or show what the same command found before; the run folder is printed last and returned.

    Frames are made once: under another protocol those of the run folder are judged again, and of another run folder
    that differs in how it judges them.
    Raises DataError for data or frames that cannot be judged, ConfigError for a protocol that cannot be met,
    RunError for a run folder of other settings or weights, and for one that another process is working in.
    """
    from omegaconf import OmegaConf

    from vsrbench.evaluation import again, protocol, results
    from vsrbench.evaluation.judging import judged_again
    from vsrbench.runs import alone, open_run, run_folder

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    asked = protocol.from_settings(settings)
    with alone(run_folder(cfg, "eval")):
        free = again.moved(run_folder(cfg, "eval"), settings, lambda: build(cfg.data).clips(asked[0].split))
        folder = open_run(cfg, "eval", free)
        found = {} if cfg.force else again.before(folder, asked, settings["published"])
        due = [p for p in asked if p.id not in found or judged_again(p, found[p.id])]
        if due:
            found |= {result["protocol"]["id"]: result for result in evaluate(cfg, folder, due)}
        else:
            print("evaluated before: force=true does it again")
        ordered = [found[p.id] for p in asked]
        again.store(folder, ordered, keep=not cfg.force)
        if due and cfg.logger.get("_target_"):
            from vsrbench.training.evaluated import log_results

            log_results(cfg, folder, ordered)
    for result in ordered:
        results.show(result)
    print(folder.folder)
    return folder.folder


def evaluate(cfg: "DictConfig", folder: "Run", protocols: "list[Protocol]") -> list[dict[str, Any]]:
    """The result under each protocol. Clips that an interrupted call of the same run completed are used again."""
    from omegaconf import OmegaConf

    from vsrbench.evaluation import output, results
    from vsrbench.evaluation.frames import find
    from vsrbench.evaluation.judging import judge
    from vsrbench.progress import Bars

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    data, split = build(cfg.data), protocols[0].split
    sources, origin = data.clips(split), results.origin(settings, weights(cfg))
    if not sources:
        raise DataError(f"data={cfg.data.set} has no clips to judge: set data.splits.{split}")
    for judged in protocols:
        judged.complete(data.coverage(split))  # refuses clips that it does not judge, before any work
    if cfg.force and cfg.predictions is None:
        output.discard(folder)
    with Bars() as bars:
        if cfg.predictions is not None:
            frames, cost = Path(cfg.predictions).expanduser(), output.foreign_cost()
            output.link(folder, find(frames, sources, protocols[0]), sources)
        else:
            frames, cost = folder.frames, make_frames(cfg, split, folder, sources, origin, bars)
        return judge(settings, protocols, frames, sources, data.coverage(split), cost, origin, bars)


def weights(cfg: "DictConfig") -> dict[str, str] | None:
    """File and hash of the trained weights; None where there are none (bicubic, foreign frames)."""
    source = None if cfg.predictions is not None else cfg.ckpt_path or cfg.weights
    if not source:
        return None
    from vsrbench.evaluation.results import fingerprint
    from vsrbench.weights.trained import checkpoint_file

    return fingerprint(checkpoint_file(Path(source).expanduser()))


if __name__ == "__main__":
    launch(run, "eval")
