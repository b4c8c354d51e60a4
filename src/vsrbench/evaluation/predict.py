"""Making the frames that ``eval`` scores: in this process, or in several (``inference.devices=N``).

For several, a piece of work is a temporal chunk of a clip, or the whole clip where a method looks at all its frames.
The chunks are those of a single process and noise is a function of the frame, so that every number of ranks makes the
same frames.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from omegaconf import OmegaConf

from vsrbench.config import build, build_method
from vsrbench.data.sources import Source
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, RunError
from vsrbench.evaluation import outputs
from vsrbench.inference.chunks import chunk_size, upscale_source
from vsrbench.inference.ranks import Failure, Make, Ranks
from vsrbench.progress import Bars
from vsrbench.runs import Run
from vsrbench.types import Progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Method


class Piece(NamedTuple):
    """Frames start..stop-1 of a clip, by the clip's number."""

    clip: int
    start: int
    stop: int


class Others:
    """The frame numbers that are other pieces' work (what ``upscale_source`` counts as done)."""

    def __init__(self, piece: Piece) -> None:
        self.own = range(piece.start, piece.stop)

    def __contains__(self, number: object) -> bool:
        return number not in self.own


def make_frames(
    cfg: "DictConfig",
    split: str,
    run: Run,
    sources: list[Source],
    origin: dict[str, Any],
    bars: Bars,
) -> dict[str, Any]:
    """Upscale every clip of a split into the run folder; returns the ``cost`` part of the result.

    Frames of a run beside this one are reused (``outputs.reuse_frames``); where all are there nothing is built.
    origin: as ``results.origin`` gives. Raises ConfigError for ``inference.max_frames``, which leaves clips unfinished.
    """

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    if (limit := settings["inference"]["max_frames"]) is not None:
        raise ConfigError(
            f"inference.max_frames={limit} is for upscale; eval evaluates the clips as the data have them: "
            f"data.splits.{split}.frames={limit} takes the first {limit} frames of each"
        )
    key = outputs.frame_key(settings, split, origin)
    if note := None if cfg.force else outputs.reuse_frames(run, sources, key):
        print(note)
    known = {} if cfg.force else outputs.read_timings(run)
    if known.get("facts") and len(outputs.complete_clips(run, sources, key)) == len(sources):
        return outputs.cost({source.name: known["clips"][source.name] for source in sources}, *known["facts"])
    timings, facts = (make_alone if cfg.inference.devices == 1 else make_by_ranks)(cfg, split, run, sources, key, bars)
    run.write_json(outputs.TIMINGS, {**key, "facts": facts, "clips": timings})
    return outputs.cost(timings, *facts)


def make_alone(
    cfg: "DictConfig", split: str, run: Run, sources: list[Source], key: dict[str, Any], bars: Bars
) -> tuple[dict[str, Any], Any]:
    """The same by this process. Returns the timings of all clips, and ``method_facts``."""

    method, noise = build_method(cfg), Noise(int(cfg.seed))
    if cfg.force:
        outputs.discard(run)  # now that nothing can be refused any more
    total, piece = bars.row(), bars.row()
    upscale = partial(upscale_source, method, noise=noise, settings=cfg.inference, progress=piece)
    timings = outputs.write_clips(run, sources, upscale, key, total)
    return timings, method_facts(method, cfg)


def method_facts(method: "Method", cfg: "DictConfig") -> tuple[int, int | None, str]:
    """Parameters of all networks that upscaling needs, the sampler's steps, and the device."""
    steps = None if cfg.sampler is None else int(cfg.sampler.steps)
    return sum(p.numel() for p in method.parameters()), steps, str(method.device)


def make_by_ranks(
    cfg: "DictConfig", split: str, run: Run, sources: list[Source], key: dict[str, Any], bars: Bars
) -> tuple[dict[str, Any], Any]:
    """The same by ``inference.devices`` processes.

    Raises RunError naming the clips that failed, after everything else is made; what is complete is kept. Raises what
    the method raises where no rank can begin.
    """

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    devices, progress = int(settings["inference"]["devices"]), bars.row()
    if devices < 1:
        raise ConfigError(f"inference.devices={devices}: use 1 process or more")
    progress.start(sum(source.frames for source in sources), "upscaling")
    timings = {} if cfg.force else outputs.complete_clips(run, sources, key)
    progress.advance(sum(source.frames for source in sources if source.name in timings))
    missing = [number for number, source in enumerate(sources) if source.name not in timings]
    begin = partial(begin_rank, settings, split, run.folder)
    imports = [node["_target_"].rpartition(".")[0] for node in (settings["method"], settings["data"])]
    with Ranks(begin, devices if missing else 1, progress, imports) as ranks:
        facts = ranks.facts()
        if cfg.force and facts is not None:
            outputs.discard(run)  # now that nothing can be refused any more
        for number in missing if facts is not None else ():
            shutil.rmtree(run.clip(sources[number].name), ignore_errors=True)
        cuts = {} if facts is None else {n: pieces(n, sources[n].frames, facts["chunk"]) for n in missing}
        parts: dict[int, list[dict[str, Any]]] = {n: [] for n in cuts}
        for piece, timing in ranks.results([piece for clip in cuts.values() for piece in clip]):
            parts[piece.clip].append(timing)
            if len(parts[piece.clip]) == len(cuts[piece.clip]):
                timings[sources[piece.clip].name] = joined_timing(parts[piece.clip]) | outputs.identify(
                    sources[piece.clip]
                )
                run.write_json(outputs.TIMINGS, {**key, "clips": timings})
    raise_failures(ranks.failures, sources, timings)
    return {source.name: timings[source.name] for source in sources}, facts["cost"]


def begin_rank(settings: dict[str, Any], split: str, folder: Path, rank: int) -> tuple[dict[str, Any], Make]:
    """Build data and method of one rank; see ``vsrbench.inference.ranks.Begin``."""

    cfg: Any = OmegaConf.create(settings)
    ranks = int(cfg.inference.devices)
    cfg.inference.device = own_device(str(cfg.inference.device), rank, torch.cuda.device_count())
    torch.set_num_threads(max(1, torch.get_num_threads() // ranks))
    sources, method, noise = build(cfg.data).clips(split), build_method(cfg), Noise(int(cfg.seed))

    def make(piece: Piece, progress: Progress) -> dict[str, Any]:
        frames = upscale_source(method, sources[piece.clip], noise, cfg.inference, done=Others(piece))
        return outputs.write_clip(Run(folder), sources[piece.clip], frames, progress)

    return {"chunk": chunk_size(method, cfg.inference), "cost": method_facts(method, cfg)}, make


def own_device(device: str, rank: int, gpus: int) -> str:
    """The device of a rank: a GPU of its own where there are any. Raises ConfigError where there are too few."""
    if device not in ("auto", "cuda") or (device == "auto" and gpus == 0):
        return "cpu" if device == "auto" else device
    if rank >= gpus:
        raise ConfigError(f"inference.devices asks for GPU {rank}, and there are {gpus}: lower inference.devices")
    return f"cuda:{rank}"


def pieces(clip: int, frames: int, chunk: int | None) -> list[Piece]:
    """A clip cut where a single process would cut it."""
    size = frames if chunk is None else chunk
    return [Piece(clip, start, min(start + size, frames)) for start in range(0, frames, size)]


def joined_timing(timings: list[dict[str, Any]]) -> dict[str, Any]:
    """The timing of a clip from those of its pieces; seconds are added up as if one process had made all."""
    return {
        "frames": sum(t["frames"] for t in timings),
        "seconds": sum(t["seconds"] for t in timings),
        "peak_memory": max(t["peak_memory"] for t in timings),
    }


def raise_failures(failures: list[Failure], sources: list[Source], outputs: dict[str, Any]) -> None:
    """Raise RunError for what failed, naming clip, frames and rank; the error itself where nothing was begun."""
    if not failures:
        return
    if all(failure.piece is None for failure in failures) and failures[0].error is not None:
        raise failures[0].error
    reports = []
    for failure in failures:
        what = "before its first clip"
        if failure.piece is not None:
            what = f"clip {sources[failure.piece.clip].name}, frames {failure.piece.start} to {failure.piece.stop - 1}"
        reports.append(f"rank {failure.rank}, {what}: {failure.why}")
    raise RunError(
        f"{'; '.join(reports)}. {len(outputs)} of {len(sources)} clips are complete and kept: "
        "the same command makes the others"
    )
