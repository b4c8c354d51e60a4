"""A paper's table in its own order: what it reports, ours beside it, the difference, and whether the two compare."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vsrbench import published
from vsrbench.errors import ConfigError
from vsrbench.evaluation.conformance import same_metric
from vsrbench.metrics.catalog import METRICS
from vsrbench.reports.entries import Entry, Group
from vsrbench.reports.formats import INDENT, Line, Table

PRINTED = {  # how papers call what the project's methods are
    "bicubic": "Bicubic", "realesrgan": "Real-ESRGAN", "basicvsr": "BasicVSR", "basicvsrpp": "BasicVSR++",
    "dgaf": "DGAF-VSR", "stablevsr": "StableVSR", "sateco": "SATeCo", "videogigagan": "VideoGigaGAN",
    "gt": "Ground truth", "adapter": "Ours",
}  # fmt: skip
NO_DATA = ("none", "per row")  # of columns: settings and costs, or data that each row names
DEGRADATIONS = {"bicubic": "BI", "blur_down": "BD"}
FACTORS = {"1e-3": 1e3, "1e-2": 1e2, "0.1 pixels": 10.0}  # what units of ours are multiplied by already


@dataclass(frozen=True)
class Ours:
    """A measured row of a paper's table. row: the reported one that it answers; None where the paper has none.

    columns: ids of the columns that are on its data.
    """

    entry: Entry
    group: Group
    row: str | None
    columns: frozenset[str]


def find(reference: str) -> list[tuple[str, str]]:
    """(paper, table) of ``dgaf/T1``, ``stablevsr/table2``, ``dgaf/ST3`` (supplement), ``videogigagan/F6``.

    Tables that are printed in parts are all meant. Raises ConfigError for what is not there, with what is.
    """
    name, _, short = reference.partition("/")
    paper = find_paper(name)
    tables = list(published.load()["papers"][paper]["tables"])
    table = _table_name(short)
    places = [(paper, t) for t in tables if t == table or t.startswith(f"{table}_")]
    if not short or not places:
        raise ConfigError(f"no table {short!r} in {paper}: use {paper}/ and one of {', '.join(tables)}")
    return places


def find_paper(name: str) -> str:
    """``dgaf`` means ``dgaf_vsr``. Raises ConfigError for a paper that is not there."""
    papers: list[str] = list(published.load()["papers"])
    matches = [p for p in papers if p == name or p.split("_")[0] == name]
    if len(matches) != 1:
        raise ConfigError(f"no paper {name!r} among the published numbers: use one of {', '.join(papers)}")
    return matches[0]


def _table_name(short: str) -> str:
    text = short.lower().replace(".", "_")
    for pattern, name in ((r"t(\d.*)", "table"), (r"st(\d.*)", "s_table"), (r"f(\d.*)", "figure")):
        if match := re.fullmatch(pattern, text):
            return name + match.group(1)
    return text


def table(paper: str, name: str, groups: Sequence[Group]) -> Table:
    """Reported rows in their order, each followed by ours and the difference; ours that are not reported at the end."""
    content = published.load()["papers"][paper]
    columns = content["tables"][name]["columns"]
    reported = {row: published.row(paper, name, row) for row in published.rows(paper, name)}
    ours = list(_ours(paper, name, columns, list(reported), groups))
    first = next(iter(reported.values()))
    lines, notes = [], list(content["tables"][name]["notes"] or [])
    for row, values in reported.items():
        lines.append(Line(row, (*(v.text for v in values.values()), ""), "quoted"))
        for mine in (m for m in ours if m.row == row):
            lines += _beside(mine, values)
    for mine in (m for m in ours if m.row is None):
        lines += _beside(mine, first)[:1]
    notes += _why(ours, reported, first)
    if not ours:
        there = ", ".join(g.title for g in groups) or "nothing"
        sets = ", ".join(_sets(columns)) or "of several kinds"
        notes.append(f"None of the runs is on this table's data ({sets}); given: {there}.")
    heads = [_head(c, columns) for c in columns]
    title = f"{content['title']}: {content['tables'][name]['caption']} ({paper}.{name})"
    return Table(title, ("", *heads, "comparable?"), tuple(lines), tuple(notes))


def _head(column: dict[str, Any], columns: Sequence[dict[str, Any]]) -> str:
    """Metric, factor and direction; data and degradation where the table has several."""
    factor = "" if column["factor"] == 1 else f" ×{column['factor']:g}"
    alike = [c for c in columns if c["metric"] == column["metric"]]
    place = "".join(
        f"{column[key]} " for key in ("dataset", "deg") if len({c[key] for c in alike}) > 1 and column[key] != "none"
    )
    return f"{place}{column['metric']}{factor}{ {'up': ' ↑', 'down': ' ↓'}.get(column['dir'], '') }"


def _sets(columns: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(c["dataset"]) for c in columns if c["dataset"] not in NO_DATA))


def _ours(
    paper: str, table: str, columns: Sequence[dict[str, Any]], rows: Sequence[str], groups: Sequence[Group]
) -> Iterator[Ours]:
    """Entries on the table's data; of a method with several evaluations those under the table's own protocol."""
    default = published.load()["papers"][paper]["tables"][table]["protocol"]
    answers = [(group, _answered(group, columns, default)) for group in groups]
    matching = [(group, ids) for group, ids in answers if ids]
    protocols = {c.get("p") or default for c in columns}
    own = [(group, ids) for group, ids in matching if _identity(group) in protocols] or matching
    for group, ids in own:
        suffix = f" ({group.result['data']['set']}, {group.result['protocol']['id']})" if len(own) > 1 else ""
        for entry in group.entries:
            yield Ours(replace(entry, label=entry.label + suffix), group, _row(entry, paper, table, rows), ids)


def _answered(group: Group, columns: Sequence[dict[str, Any]], default: str | None) -> frozenset[str]:
    """Ids of the columns on the group's data; those of its own protocol alone where there are such (BI and BD)."""
    there = [c for c in columns if _same_data(group, str(c["dataset"])) and _same_task(group, c.get("p") or default)]
    own = [c for c in there if (c.get("p") or default) == _identity(group)]
    if not there and not _sets(columns):
        there = list(columns)
    return frozenset(c["id"] for c in own or there)


def _same_data(group: Group, dataset: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", dataset.lower())
    return plain.startswith(str(group.result["data"]["set"]).lower())


def _same_task(group: Group, protocol: str | None) -> bool:
    """Whether scale and degradation are those of a published protocol, as far as both state them."""
    if protocol is None:
        return True
    there, here = published.load()["protocols"][protocol], group.result["protocol"]["switches"]
    kind = DEGRADATIONS.get(str((here.get("degradation") or {}).get("name")))
    other = kind is not None and there["degradation"] in set(DEGRADATIONS.values()) - {kind}
    return here.get("scale") in (there["scale"], None) and not other


def _identity(group: Group) -> str | None:
    """The published protocol that the group's protocol states to be, on this data."""
    identity: str | None = group.result["protocol"].get("comparison", {}).get("published")
    return identity


def _row(entry: Entry, paper: str, table: str, rows: Sequence[str]) -> str | None:
    """The reported row that an entry is for: what its experiment names, else its method's."""
    quoted = (entry.result.get("published") or {}).get("reference", {})
    if quoted.get("paper") == paper and quoted.get("table") == table:
        return str(quoted["row"])
    matching = [row for row in rows if row.split("/")[-1] == PRINTED.get(entry.method)]
    return matching[0] if len(matching) == 1 else None


def _beside(mine: Ours, values: dict[str, published.Value]) -> list[Line]:
    """Our values in the paper's units, and ours minus theirs."""
    numbers = [_in_their_units(mine, value) if c in mine.columns else "" for c, value in values.items()]
    cells, differences = [], []
    for number, value in zip(numbers, values.values(), strict=True):
        digits = value.digits or 0
        there = (
            value.printed if isinstance(value.printed, float | int) and not isinstance(value.printed, bool) else None
        )
        cells.append(number if isinstance(number, str) else f"{number:.{digits}f}")
        both = not isinstance(number, str) and there is not None
        differences.append(f"{float(number) - float(there or 0):+.{digits}f}" if both else "")
    answers = ", ".join(f"{what} {answer}" for what, (answer, _) in comparable(mine, values).items())
    lines = [Line(f"{INDENT}ours: {mine.entry.label}", (*cells, answers))]
    if any(differences):
        lines.append(Line(f"{INDENT}difference", (*differences, ""), "difference"))
    return lines


def _in_their_units(mine: Ours, value: published.Value) -> float | str:
    """Our number times the paper's factor, or why there is none: "–" not measured, "unavailable", "ambiguous"."""
    own = [name for name in mine.entry.result["metrics"] if same_metric(name, value)]
    if len(own) != 1:
        return "ambiguous" if own else "–"  # such as lpips_alex and lpips_vgg
    number = mine.entry.value(own[0])
    if not isinstance(number, int | float):
        return "unavailable" if isinstance(number, dict) else "–"
    return float(number) * value.factor / FACTORS.get(METRICS[own[0]].unit, 1.0)


def _why(ours: Sequence[Ours], reported: dict[str, dict[str, published.Value]], first: dict[str, Any]) -> list[str]:
    """Notes: the reasons behind the answers, each once with the methods that it is true of."""
    reasons: dict[str, list[str]] = {}
    for mine in ours:
        answers = comparable(mine, reported[mine.row] if mine.row else first)
        reason = "; ".join(f"{what}: {answer}, {why}" for what, (answer, why) in answers.items())
        reasons.setdefault(reason, []).append(mine.entry.label)
    return [f"Comparable? {', '.join(labels)}: {reason}." for reason, labels in reasons.items()]


def comparable(mine: Ours, values: dict[str, published.Value]) -> dict[str, tuple[str, str]]:
    """Whether protocol and weights are those of the paper: an answer of a word each, and the reason."""
    reported = {value.protocol for column, value in values.items() if column in mine.columns}
    return {"protocol": _protocol(mine, reported), "weights": _weights(mine.entry)}


def _protocol(mine: Ours, reported: set[str]) -> tuple[str, str]:
    identity, result = _identity(mine.group), mine.group.result
    partial = ", data partial" if result["partial"] else ""
    if identity not in reported:
        return "no", f"{result['protocol']['id']} here, {' and '.join(sorted(reported))} there{partial}"
    if partial:
        return "partial", f"{identity} on a part of the paper's frames"
    verdicts = [e.result["protocol"]["conformance"] for e in mine.group.entries if e.method == "bicubic"]
    if not verdicts:
        return "unverified", f"{identity}, but no bicubic run is given"
    return ("yes", f"{identity}, bicubic as reported") if verdicts[0] == "verified" else (verdicts[0], str(identity))


def _weights(entry: Entry) -> tuple[str, str]:
    if entry.method in ("bicubic", "gt"):
        return "yes", "none needed"
    if entry.result["predictions"]:
        return "unknown", "frames made elsewhere"
    if entry.result["size"] != "paper":
        return "no", f"size={entry.result['size']}"
    file = (entry.result["provenance"].get("weights") or {}).get("file")
    return ("unknown", f"{file} may or may not be the paper's") if file else ("no", "random")
