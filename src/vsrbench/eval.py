"""``python -m vsrbench.eval method=bicubic data=vid4 data.root=DIR``: write frames, then judge them.

``predictions=DIR`` judges frames that other software wrote, ``DIR/<clip>/<frame>.png``.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import build, build_method, launch
from vsrbench.published import quote

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.data.sources import Source
    from vsrbench.evaluation.progress import Bars
    from vsrbench.runs import Run


def run(cfg: "DictConfig") -> Path:
    """Evaluate, or show what the same command found before; the run folder is printed last and returned.

    Raises DataError for data or frames that cannot be judged, ConfigError for a protocol that cannot be met,
    RunError for a run folder of other settings or weights.
    """
    from vsrbench.evaluation import results
    from vsrbench.runs import open_run

    folder = open_run(cfg, "eval")
    if folder.finished and not cfg.force:
        result = results.load(folder.result)
        print("evaluated before: force=true does it again")
    else:
        result = evaluate(cfg, folder)
        folder.write_json("result.json", result)
    results.show(result)
    print(folder.folder)
    return folder.folder


def evaluate(cfg: "DictConfig", folder: "Run") -> dict[str, Any]:
    """The content of result.json. Clips that an interrupted call of the same run completed are used again."""
    from omegaconf import OmegaConf

    from vsrbench.evaluation import output, results
    from vsrbench.evaluation.progress import Bars
    from vsrbench.evaluation.protocol import Protocol
    from vsrbench.evaluation.scoring import score
    from vsrbench.runs import provenance

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    protocol = Protocol.from_config(settings["protocol"])
    data = build(cfg.data)
    sources = data.clips(protocol.split)
    origin = {**provenance(int(cfg.seed)), "weights": weights(cfg)}
    if cfg.force and cfg.predictions is None:
        output.discard(folder)
    with Bars() as bars:
        if cfg.predictions is not None:
            frames, cost = Path(cfg.predictions).expanduser(), output.foreign_cost()
        else:
            frames, cost = folder.frames, make_frames(cfg, folder, sources, origin["weights"], bars)
        scores = score(frames, sources, protocol, cfg.inference.device, bars.row())
    coverage, quoted = data.coverage(protocol.split), quote(settings["published"])
    return results.assemble(settings, protocol, scores, coverage, cost, origin, quoted)


def make_frames(
    cfg: "DictConfig", folder: "Run", sources: "list[Source]", origin: dict[str, str] | None, bars: "Bars"
) -> dict[str, Any]:
    """Upscale every clip into the run folder; returns the ``cost`` part of the result."""
    from vsrbench.diffusion.noise import Noise
    from vsrbench.evaluation.output import cost, write_clips
    from vsrbench.inference.chunks import upscale_source

    method, noise = build_method(cfg), Noise(int(cfg.seed))
    total, piece = bars.row(), bars.row()
    upscale = partial(upscale_source, method, noise=noise, settings=cfg.inference, progress=piece)
    timings = write_clips(folder, sources, upscale, origin, total)
    steps = None if cfg.sampler is None else int(cfg.sampler.steps)
    return cost(timings, sum(p.numel() for p in method.parameters()), steps, str(method.device))


def weights(cfg: "DictConfig") -> dict[str, str] | None:
    """File and hash of the trained weights; None where there are none (bicubic, foreign frames)."""
    source = None if cfg.predictions is not None else cfg.ckpt_path or cfg.weights
    if not source:
        return None
    from vsrbench.evaluation.results import fingerprint
    from vsrbench.methods.base import checkpoint_file

    return fingerprint(checkpoint_file(Path(source).expanduser()))


if __name__ == "__main__":
    launch(run, "eval")
