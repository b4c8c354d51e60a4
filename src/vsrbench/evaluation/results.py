"""result.json: assembling, checking, storing and showing it. Needs no torch: a login node may have none."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vsrbench.errors import RunError
from vsrbench.evaluation.conformance import FAMILIES, compare
from vsrbench.evaluation.protocol import Protocol
from vsrbench.evaluation.values import NOT_APPLICABLE, Value
from vsrbench.published import quote
from vsrbench.runs import Run, occasion, provenance
from vsrbench.stored import read_json

if TYPE_CHECKING:
    from rich.console import Console

    from vsrbench.evaluation.scoring import Scores

SCHEMA = "vsrbench.result/1"
KEYS = (
    "schema", "method", "size", "variant", "predictions", "protocol", "data", "partial", "metrics", "cost",
    "warnings", "provenance",
)  # fmt: skip
DIGITS = {"psnr": 4, "ssim": 5}  # in the table; other metrics have 4


class _Part(BaseModel):
    """A part of result.json, as far as readers rely on it."""

    model_config = ConfigDict(strict=True)


class _Clip(_Part):
    mean: Any
    frames: list[Any]


class _Metric(_Part):
    mean: Any
    clips: dict[str, _Clip]


class _Protocol(_Part):
    id: str
    hash: str
    conformance: str
    comparison: dict[str, Any]
    switches: dict[str, Any]
    flow: dict[str, Any] | str | None


class _Data(_Part):
    set: str
    split: str
    clips: dict[str, int]
    absent: list[str]
    short: dict[str, list[int]]
    lr: str = ""  # as ``VideoData.coverage`` has them; results of earlier versions do not
    truth: list[str] = []
    list: str = ""


class _Selection(_Part):
    metric: str
    step: int
    set: str | None
    clips: list[str] | None


class _Provenance(_Part):
    selection: _Selection | None = None


class _Result(_Part):
    method: str
    size: str | None
    variant: str | None
    predictions: str | None
    protocol: _Protocol
    data: _Data
    partial: bool
    metrics: dict[str, _Metric]
    cost: dict[str, Any]
    warnings: list[str]
    provenance: _Provenance


def assemble(
    settings: dict[str, Any],
    protocol: Protocol,
    scores: "Scores",
    coverage: dict[str, Any],
    cost: dict[str, Any],
    made_with: dict[str, Any],
    published: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of result.json, checked.

    settings: the resolved configuration. coverage: {"set", "clips": {clip: frames}, "absent": [clips],
    "short": {clip: [frames there, frames expected]}} as the data tell; clips of the protocol that they do not know
    are added to the absent ones. cost: as ``output.cost`` gives. made_with: as ``origin`` gives. published: the row of
    a paper that the experiment is for, as ``vsrbench.published.quote`` gives it. ``protocol.comparison`` is what
    ``conformance.compare`` found.
    Raises RunError for a value that no reader could trust, ConfigError for clips that the protocol does not evaluate.
    """
    foreign = settings["predictions"] is not None
    coverage = protocol.complete(coverage)
    compared = compare(scores.metrics, protocol, coverage, {"name": None} if foreign else settings["method"])
    result = {
        "schema": SCHEMA,
        "method": "predictions" if foreign else settings["method"]["name"],
        "size": None if foreign or not settings["supports"]["size"] else settings["size"],
        "variant": None if foreign else settings["variant"],
        "predictions": str(settings["predictions"]) if foreign else None,
        "protocol": {
            "id": protocol.id,
            "hash": protocol.hash,
            "conformance": compared["verdict"],
            "comparison": compared,
            "switches": protocol.switches,
            "sampling": dict(protocol.sampling),
            "flow": scores.flow,
        },
        "data": {**coverage, "split": protocol.split},
        "partial": bool(coverage["absent"] or coverage["short"]),
        "metrics": scores.metrics,
        "cost": cost,
        "published": published,
        "warnings": scores.warnings,
        "provenance": made_with,
    }
    check(result)
    return result


def origin(
    settings: dict[str, Any], weights: dict[str, str] | None, selection: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The ``provenance`` part: code, packages, device, seed, weights, what selected them, and the command that
    asked for the numbers."""
    return {**provenance(int(settings["seed"])), "weights": weights, "selection": selection, **occasion()}


def file_names(protocols: Sequence[str]) -> list[str]:
    """Where the results under several protocols lie in a run folder: the first is ``result.json``."""
    return ["result.json", *(f"result_{name}.json" for name in protocols[1:])]


def check(result: dict[str, Any]) -> None:
    """Raise RunError for a result of another schema, without a part, or with a value of no known form."""
    if result.get("schema") != SCHEMA:
        raise RunError(f"the result has schema {result.get('schema')!r}, this version reads {SCHEMA}: evaluate again")
    missing = [key for key in KEYS if key not in result]
    if missing:
        raise RunError(f"the result lacks {', '.join(missing)}: evaluate again (force=true)")
    _check_kinds(result)
    for name, metric in result["metrics"].items():
        _check_value(metric["mean"], f"{name}.mean")
        for clip, entry in metric["clips"].items():
            _check_value(entry["mean"], f"{name}.{clip}.mean")
            for n, value in enumerate(entry["frames"]):
                _check_value(value, f"{name}.{clip}.frames[{n}]")


def _check_kinds(result: dict[str, Any]) -> None:
    """Raise RunError naming the first part of another kind."""
    try:
        _Result.model_validate(result)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"the result's {place} is damaged ({first['msg']}): evaluate again (force=true)") from error


def fingerprint(file: Path) -> dict[str, str]:
    """Path and BLAKE2b hash of a weights file, as ``provenance.weights`` has it."""
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return {"file": str(file.resolve()), "blake2b": digest}


def load(path: Path) -> dict[str, Any]:
    """A result.json, checked.

    Raises RunError for a file that is no result, and where the weights that it was made with have changed on
    disk since.
    """
    result = read_json(path, "evaluate again (force=true)")
    check(result)
    weights = result["provenance"].get("weights")
    if weights and Path(weights["file"]).is_file() and fingerprint(Path(weights["file"])) != weights:
        raise RunError(f"{weights['file']} has changed since {path} was made: evaluate again (force=true)")
    return result


def stored_results(
    run: Run, protocols: Sequence[Protocol], published: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """{protocol: result} of the protocols under which the run was evaluated before, beside the reported row of now.

    Raises RunError as ``load``.
    """
    keys, row = {(protocol.id, protocol.hash) for protocol in protocols}, quote(published)
    known = [r for r in _results(run) if (r["protocol"]["id"], r["protocol"]["hash"]) in keys]
    return {r["protocol"]["id"]: {**r, "published": row} for r in known}


def store_results(run: Run, new: Sequence[dict[str, Any]], keep: bool = True) -> None:
    """Write the results of an evaluation; ``result.json`` is the first's, last of all, since it marks the end.

    Earlier ones under other protocols stay (``keep``) as ``result_<id>.json``, with the hash where the id is taken.
    """
    ids = [result["protocol"]["id"] for result in new]
    files = dict(zip(file_names(ids), new, strict=True))
    now = {(r["protocol"]["id"], r["protocol"]["hash"]) for r in new}
    for old in _results(run) if keep else []:
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


def _results(run: Run) -> list[dict[str, Any]]:
    """Every result of a run folder; none where ``result.json``, which is written last, is not there."""
    return [load(file) for file in sorted(run.folder.glob("result*.json"))] if run.finished else []


def _check_value(value: Value, where: str) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    is_reason = isinstance(value, dict) and set(value) == {"unavailable"}
    if not (is_number or is_reason or value == NOT_APPLICABLE):
        raise RunError(
            f"metric {where} is {value!r}, not a number, {NOT_APPLICABLE!r} or {{'unavailable': reason}}: "
            "evaluate again (force=true)"
        )


def show(result: dict[str, Any], console: "Console | None" = None) -> None:
    """Print the means per clip as a table, the paper's row where the experiment names one, and what a reader must
    know: missing data, reasons, warnings.
    """
    from rich.console import Console

    console = console or Console()
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(file=console.file, width=max(120, 30 + 15 * len(result["metrics"])))
    console.print(_table(result), soft_wrap=False)
    if result["protocol"].get("comparison", {}).get("row"):
        _show_conformance(result, console)
    if result.get("published"):
        console.print(_quoted(result), soft_wrap=False)
    for line in notes(result):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _table(result: dict[str, Any]) -> Any:
    from rich.table import Table

    metrics = result["metrics"]
    title = " · ".join(str(v) for v in (result["method"], result["size"], result["data"]["set"]) if v is not None)
    table = Table("clip", "frames", title=f"{title} · protocol {result['protocol']['id']}")
    for name in metrics:
        table.add_column(name, justify="right")
    for clip, frames in result["data"]["clips"].items():
        values = [_cell(name, metric["clips"][clip]["mean"]) for name, metric in metrics.items()]
        table.add_row(clip, str(frames), *values)
    table.add_section()
    means = [_cell(name, metric["mean"]) for name, metric in metrics.items()]
    table.add_row("mean", str(sum(result["data"]["clips"].values())), *means, style="bold")
    return table


def _show_conformance(result: dict[str, Any], console: "Console") -> None:
    """The verdict, then reported cells and recorded clips beside what was measured."""
    from rich.table import Table

    compared = result["protocol"]["comparison"]
    under = f"{compared['row']} row of {compared['published'] or 'no paper'}"
    console.print(
        f"conformance of protocol {result['protocol']['id']}, {under}: {compared['verdict']} ({compared['why']})",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
    table = Table("metric", "reported in, or recorded for")
    for name in ("there", "here", "difference"):
        table.add_column(name, justify="right")
    table.add_column("")
    for cell in compared["cells"]:
        here, there = _cell(cell["metric"], cell["here"]), f"{cell['printed']:.{cell['digits']}f}"
        table.add_row(cell["metric"], cell["place"], there, here, _difference(cell["difference"]), cell["state"])
    for clip, values in compared["clips"].items():
        frames = result["data"]["clips"][clip]
        for name, value in values.items():
            here = _cell(name, result["metrics"][name]["clips"][clip]["mean"])
            place = f"{clip}, first {frames} frames"
            table.add_row(name, place, str(value["recorded"]), here, _difference(value["difference"]), value["state"])
    if table.row_count:
        console.print(table, soft_wrap=False)


def _difference(value: Value | None) -> str:
    return f"{value:+.5f}" if isinstance(value, float | int) else "-"


def _quoted(result: dict[str, Any]) -> Any:
    """The paper's row, each value with its protocol, beside what was measured here of the same family of metrics."""
    from rich.table import Table

    quoted, metrics = result["published"], result["metrics"]
    parts = (", ".join(part) if isinstance(part, list) else str(part) for part in quoted["reference"].values())
    table = Table(
        title=f"quoted, not measured: {' '.join(parts)}",
        caption=f"{quoted['source']}. Weights, data and protocol are the paper's own: not comparable as they stand.",
    )
    for name, justify in (("metric", "left"), ("reported", "right"), ("under protocol", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column(f"here, under {result['protocol']['id']}")
    for value in quoted["values"].values():
        factor = "" if value["factor"] == 1 else f" x {value['factor']}"
        own = [name for name in metrics if name.split("_")[0] == FAMILIES.get(value["metric"])]
        here = ", ".join(f"{name} {_cell(name, metrics[name]['mean'])}" for name in own)
        table.add_row(value["metric"] + factor, value["text"], value["protocol"], here)
    for claim in quoted["claims"].values():
        table.add_row(claim["text"], "-", f"{claim['computed']} follows from {claim['formula']}", "")
    return table


def _cell(name: str, value: Value | None) -> str:
    if isinstance(value, dict):
        return "unavailable"
    if value is None or isinstance(value, str):
        return "-"
    return f"{value:.{DIGITS.get(name.split('_')[0], 4)}f}"


def notes(result: dict[str, Any]) -> list[str]:
    """Lines below the table: what is partial, why metrics are unavailable, which motion, warnings."""
    data = result["data"]
    lines = [f"partial: {clip} has {have} of {expected} frames" for clip, (have, expected) in data["short"].items()]
    if data["absent"]:
        lines.append(f"partial: absent clips: {', '.join(data['absent'])}")
    if data.get("lr"):
        lines.append(f"LR frames: {data['lr']}")
    if lossy := [suffix for suffix in data.get("truth", ()) if suffix in (".jpg", ".jpeg")]:
        lines.append(
            f"warning: the ground truth is {lossy[0]}, which lost detail when it was written: published sets are PNG, "
            "and numbers under it compare with nobody's"
        )
    for name, metric in result["metrics"].items():
        if isinstance(metric["mean"], dict):
            lines.append(f"{name} is unavailable: {metric['mean']['unavailable']}")
    flow, kinds = result["protocol"]["switches"].get("flow"), set(result["protocol"]["flow"].values())
    if of_scene := [name for name in ("consistency", "we_lai", "ewarp_thesis") if name in result["metrics"]]:
        lines.append(
            f"{', '.join(of_scene)}: masked warping errors x 1000, lower is better; motion: {', '.join(sorted(kinds))}"
        )
    if of_output := [name for name in ("ewarp", "rwe") if name in result["metrics"]]:
        lines.append(
            f"{', '.join(of_output)}: VideoGigaGAN's warping errors x 1000, lower is better; motion: {flow} flow of "
            "the output"
        )
    lines += selected_on(result)
    return lines + [f"warning: {line}" for line in result["warnings"]]


def selected_on(result: dict[str, Any]) -> list[str]:
    """A line that says whether the weights were selected on clips that are evaluated; none where nothing did."""
    selection, data = result["provenance"].get("selection"), result["data"]
    if not selection:
        return []
    by = f"weights: step {selection['step']}, selected by {selection['metric']}"
    if selection["clips"] is None:
        return [f"{by} on clips that an earlier version did not record"]
    shared = [name for name in selection["clips"] if selection["set"] == data["set"] and name in data["clips"]]
    if shared:
        return [f"{by} on clips that are evaluated here: {', '.join(shared)}"]
    return [f"{by} on {len(selection['clips'])} other clips ({selection['set']}), none of which is evaluated here"]
