"""Sampling once, scoring many times: frames and results that earlier commands left, used again where they hold."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsrbench.data.sources import Source
from vsrbench.evaluation import output, results
from vsrbench.evaluation.protocol import Protocol
from vsrbench.published import quote
from vsrbench.runs import Run, differing, digest, making

TOLD = ("published", "needs", "command", "counts", "timings", "peaks")  # of an experiment: they make no frame
PLACE = "data.root"  # where data lie; what they are is told by ``output.fingerprint``


def made_with(settings: dict[str, Any], split: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What frames depend on: weights, a hash of the settings (where the data lie is none) and the code.

    settings: the configuration as plain containers. origin: as ``results.origin`` gives.
    """
    kept = {k: v for k, v in making(settings).items() if k.split(".")[0] not in TOLD and k != PLACE}
    code = f"{origin['vsrbench']} {origin['commit']}"
    return {"weights": origin["weights"], "settings": digest({**kept, "split": split}), "code": code}


def adopt(run: Run, sources: list[Source], made: Mapping[str, Any]) -> str | None:
    """Link the frames that this run lacks from a run folder beside it: one of the same settings, weights and LR frames
    that the same code made. Returns a line that says so, or names the command for frames that other code made.
    """
    have = output.complete(run, sources, made)
    lacking = [source for source in sources if source.name not in have]
    told = None
    for path in sorted(run.folder.parent.glob(f"*/{output.TIMINGS}")) if lacking else []:
        other = Run(path.parent)
        there = output.known(other)
        if other == run or any(there.get(key) != made[key] for key in ("weights", "settings")):
            continue
        clips = output.complete(other, lacking, made)
        if there["code"] != made["code"] or made["code"].endswith("+changes"):
            if clips and told is None:
                told = (
                    f"{other.frames} holds frames of these settings, of a version that may differ from this one "
                    f"({there['code']}): they are made anew; predictions={other.frames} judges those"
                )
            continue
        for source in lacking:
            if source.name in clips:
                _link(other.frames / source.name, run.frames / source.name, source)
        if clips:
            content = {**made, "facts": there.get("facts"), "clips": {**have, **clips}}
            run.write_json(output.TIMINGS, content)
            return f"frames of {len(clips)} clips are those of {other.folder}: same settings, weights and version"
    return told


def _link(there: Path, here: Path, source: Source) -> None:
    """The same files under a second name; copies where the file system has no links."""
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    for stem in source.frame_names:
        try:
            os.link(there / f"{stem}.png", here / f"{stem}.png")
        except OSError:
            shutil.copyfile(there / f"{stem}.png", here / f"{stem}.png")


def moved(folder: Path, settings: dict[str, Any], sources: Callable[[], list[Source]]) -> tuple[str, ...]:
    """``data.root`` where it alone differs from what the run folder was made with, and its clips are the same."""
    import yaml

    file = folder / "config.yaml"
    if not file.is_file() or differing(yaml.safe_load(file.read_text()), settings) != [PLACE]:
        return ()
    clips = output.known(Run(folder))["clips"]
    there = {name: entry.get("input") for name, entry in clips.items()}
    return (PLACE,) if there == {source.name: output.fingerprint(source) for source in sources()} else ()


def before(run: Run, protocols: Sequence[Protocol], published: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """{protocol: its result} of those under which the run's frames were judged before, beside the printed row that is
    asked for now. Raises RunError as ``load``."""
    wanted, row = {(protocol.id, protocol.hash) for protocol in protocols}, quote(published)
    known = [r for r in _all(run) if (r["protocol"]["id"], r["protocol"]["hash"]) in wanted]
    return {r["protocol"]["id"]: {**r, "published": row} for r in known}


def store(run: Run, found: Sequence[dict[str, Any]], keep: bool = True) -> None:
    """Write results: ``result.json`` is the first's, last of all, since it marks the end. Earlier ones under other
    protocols stay (``keep``) as ``result_<id>.json``, with the hash behind it where the id is taken.
    """
    ids = [result["protocol"]["id"] for result in found]
    files = dict(zip(results.file_names(ids), found, strict=True))
    now = {(r["protocol"]["id"], r["protocol"]["hash"]) for r in found}
    for old in _all(run) if keep else []:
        name, mark = old["protocol"]["id"], old["protocol"]["hash"]
        if (name, mark) not in now:
            now.add((name, mark))
            file = f"result_{name}.json"
            files[f"result_{name}_{mark}.json" if name in ids or file in files else file] = old
    for file, result in reversed(files.items()):
        run.write_json(file, result)
    for stale in run.folder.glob("result*.json"):
        if stale.name not in files:
            stale.unlink()


def _all(run: Run) -> list[dict[str, Any]]:
    """Every result of a run folder; none where ``result.json``, which is written last, is not there."""
    return [results.load(file) for file in sorted(run.folder.glob("result*.json"))] if run.finished else []
