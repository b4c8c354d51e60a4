"""Does a protocol give the numbers that papers report? The bicubic row on the very data at hand answers it.

Needs no torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vsrbench import published
from vsrbench.config import build, compose
from vsrbench.errors import DataError
from vsrbench.evaluation.protocol import Protocol, condition
from vsrbench.evaluation.values import Value

VERDICTS = ("verified", "deviates", "partial", "no_published_row", "data_absent")
CLOSE = {
    "psnr": 1e-4,
    "ssim": 1e-4,
    "niqe": 1e-2,
}  # to recorded values: last digits, another NIQE code
ROWS = {"bicubic": "Bicubic", "gt": "Ground truth"}  # methods whose reported rows test a protocol
RECORDED = Path(published.FILE).with_name("bicubic_rows.yaml")
FAMILIES = {  # how papers call what the project's metrics measure; equal names do not make equal protocols
    "PSNR": "psnr", "SSIM": "ssim", "LPIPS": "lpips", "DISTS": "dists", "NIQE": "niqe", "MUSIQ": "musiq",
    "CLIP-IQA": "clipiqa", "DOVER": "dover", "tLPIPS": "tlpips", "tOF": "tof", "WE": "we", "E_warp": "ewarp",
    "E_warp_ref": "rwe", "FID": "fid",
}  # fmt: skip


def compare(
    metrics: Mapping[str, Any], protocol: Protocol, coverage: Mapping[str, Any], method: Mapping[str, Any]
) -> dict[str, Any]:
    """The ``conformance`` part of a result: verdict, why, reported cells and recorded clips with their differences.

    metrics: as in result.json. coverage: as the protocol completed it. method: its settings (``name``; ``kernel`` of
    bicubic). Returns {"verdict", "why", "published", "row", "cells": [{place, metric, here, printed, difference,
    state}], "clips": {clip: {metric: {recorded, difference, state}}}}; state is "met", "missed" or why it is neither.
    A reported value is met where ours rounds to it.
    """
    row, kernel = ROWS.get(str(method["name"])), method.get("kernel")
    cells = [] if row is None or protocol.published is None else _cells(metrics, protocol, row, kernel)
    clips = _clips(metrics, protocol, coverage, kernel)
    if _partial(coverage):
        cells = [{**c, "state": "data are partial" if c["state"] in ("met", "missed") else c["state"]} for c in cells]
    verdict, why = _verdict(cells, clips, coverage, protocol, row)
    return {
        "verdict": verdict,
        "why": why,
        "published": protocol.published,
        "row": row,
        "cells": cells,
        "clips": clips,
    }


def _partial(coverage: Mapping[str, Any]) -> bool:
    return bool(coverage["absent"] or coverage["short"])


def _verdict(
    cells: list[dict[str, Any]],
    clips: Mapping[str, Any],
    coverage: Mapping[str, Any],
    protocol: Protocol,
    row: str | None,
) -> tuple[str, str]:
    if not coverage["clips"]:
        return "data_absent", "no clip of the data is there"
    if _partial(coverage):
        states = [value["state"] for values in clips.values() for value in values.values()]
        coverage_text = f"{len(coverage['absent'])} clips are absent, {len(coverage['short'])} cut short"
        met = f"; {states.count('met')} of {len(states)} values recorded for these frames are met" if states else ""
        return "partial", coverage_text + met
    if row is None:
        return "no_published_row", "only rows of method=bicubic and method=gt test a protocol"
    if not cells:
        return "no_published_row", f"no {row} row is reported under {protocol.published or f'protocol {protocol.id}'}"
    missed = [cell for cell in cells if cell["state"] == "missed"]
    if missed:
        return "deviates", ", ".join(f"{c['metric']} {c['difference']:+.{c['digits'] + 2}f}" for c in missed)
    if met := sum(cell["state"] == "met" for cell in cells):
        return "verified", f"{met} of {len(cells)} reported values are met, the others could not be compared"
    return "no_published_row", "none of the reported values could be compared"


def _cells(metrics: Mapping[str, Any], protocol: Protocol, row: str, kernel: str | None) -> list[dict[str, Any]]:
    """Reported values of the row under the protocol's id, beside ours."""
    cells = []
    for place, value in reported(str(protocol.published), row):
        own = [name for name in metrics if same_metric(name, value)]
        here = metrics[own[0]]["mean"] if len(own) == 1 else None
        difference = here - float(str(value.printed)) if isinstance(here, float | int) else None
        cell: dict[str, Any] = {"place": place, "metric": own[0] if len(own) == 1 else value.metric}
        cell |= {"here": here, "printed": value.printed, "digits": value.digits, "difference": difference}
        cells.append({**cell, "state": _state(value, cell, protocol, row, kernel)})
    return cells


def same_metric(name: str, value: published.Value) -> bool:
    """True for the metric of ours that a reported one is called after, in the colours that it was taken in."""
    colour = {"RGB": "rgb", "Y": "y"}.get(published.load()["protocols"][value.protocol]["color"])
    family, _, kind = name.partition("_")
    return family == FAMILIES.get(value.metric) and not (family in ("psnr", "ssim") and colour and kind != colour)


def _state(value: published.Value, cell: dict[str, Any], protocol: Protocol, row: str, kernel: str | None) -> str:
    target = protocol.bicubic.get(value.metric)
    if value.metric in protocol.incomparable:
        return f"not comparable: {protocol.incomparable[value.metric]}"
    if cell["here"] is None:
        return "not among the metrics"
    if cell["difference"] is None:
        return "unavailable" if isinstance(cell["here"], dict) else str(cell["here"])
    if row == ROWS["bicubic"] and target != kernel:
        return f"reported for method.kernel={target}" if target else "which bicubic kernel was reported is not settled"
    half = 0.5 * 10 ** -(value.digits or 0)
    return "met" if abs(cell["difference"]) <= half + 1e-9 else "missed"


def reported(identity: str, row: str) -> list[tuple[str, published.Value]]:
    """(place, value) of every number of a row that is reported under a protocol's id."""
    cells = []
    for paper, content in published.load()["papers"].items():
        for table in content["tables"]:
            for name in published.rows(paper, table):
                if name.split("/")[-1] == row:
                    values = published.row(paper, table, name).items()
                    cells += [
                        (f"{paper} {table} {column}", value)
                        for column, value in values
                        if value.protocol == identity and isinstance(value.value, float | int)
                    ]
    return cells


def _clips(
    metrics: Mapping[str, Any], protocol: Protocol, coverage: Mapping[str, Any], kernel: str | None
) -> dict[str, Any]:
    """Recorded rows of the very frames that are there, and how far ours are from them."""
    usual = protocol.luma == "bt601_studio" and protocol.window is None and not protocol.crop and not protocol.trim
    if not usual or kernel is None or isinstance(protocol.frames, int):
        return {}
    under = condition(protocol.degradation, protocol.scale)
    rows = recorded().get(coverage["set"], {}).get(under, {}).get(kernel, {})
    return {
        clip: {
            name: _beside(name, metrics[name]["clips"][clip]["mean"], value)
            for name, value in rows.get(clip, {}).get(frames, {}).items()
            if name in metrics
        }
        for clip, frames in coverage["clips"].items()
    }


def _beside(name: str, here: Value, value: float) -> dict[str, Any]:
    """A recorded value, how far ours is from it, and whether that is near."""
    if not isinstance(here, float | int):
        return {"recorded": value, "difference": None, "state": "unavailable"}
    near = abs(here - value) <= CLOSE[name.split("_")[0]]
    return {"recorded": value, "difference": here - value, "state": "met" if near else "missed"}


@cache
def recorded() -> dict[str, Any]:
    """{set: {condition: {kernel: {clip: {frames: {metric: value}}}}}}, assets/bicubic_rows.yaml."""
    import yaml

    rows: dict[str, Any] = yaml.safe_load(RECORDED.read_text())
    return rows


@dataclass(frozen=True)
class BicubicRow:
    """One evaluation of bicubic frames, evaluated under every protocol that reports a row of them.

    set: the data set; LR by MATLAB's bicubic at ``scale``. kernel: of the enlargement. protocols: their ids.
    """

    set: str
    scale: int
    kernel: str
    protocols: tuple[str, ...]

    def overrides(self, root: Path | str) -> list[str]:
        """The command line behind ``vsrbench eval``."""
        chosen = ["method=bicubic", f"method.kernel={self.kernel}", f"protocol=[{','.join(self.protocols)}]"]
        return [*chosen, f"data={self.set}", f"data.root='{root}'", f"scale={self.scale}"]


def bicubic_rows(nodes: Mapping[str, Mapping[str, Any]], scales: tuple[int, ...] = (4, 8, 16)) -> list[BicubicRow]:
    """Every data set, scale and kernel that a paper reports a bicubic row for. nodes: as ``protocol.shipped`` gives."""
    protocols_of: dict[tuple[str, int, str], list[str]] = {}
    for protocol, node in nodes.items():
        for data_set, block in node["blocks"].items():
            for scale in scales:
                identity = ((block or {}).get("published") or {}).get(condition({"name": "bicubic"}, scale))
                if identity is None or "set" in block or not reported(identity, ROWS["bicubic"]):
                    continue
                for kernel in sorted({k for k in block.get("bicubic", {}).values() if k}):
                    protocols_of.setdefault((data_set, scale, kernel), []).append(protocol)
    return [BicubicRow(*key, tuple(protocols)) for key, protocols in sorted(protocols_of.items())]


def root_of(row: BicubicRow, folder: Path) -> Path | None:
    """The folder itself or one of its subfolders that holds clips of the job's data set; None where none does."""
    for root in _candidates(folder):
        try:
            if build(compose(row.overrides(root), verb="eval").data).clips("test"):
                return root
        except DataError:
            continue
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    yield folder
    yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
