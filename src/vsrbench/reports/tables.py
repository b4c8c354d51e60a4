"""Tables of what was measured: values with the best marked, costs, intervals, paired tests, what clips can support."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from vsrbench.errors import RunError
from vsrbench.evaluation.values import NOT_APPLICABLE, Value
from vsrbench.metrics.catalog import METRICS
from vsrbench.reports import statistics
from vsrbench.reports.entries import Entry, Group, fine_print, groups
from vsrbench.reports.formats import Line, Table, markdown
from vsrbench.reports.statistics import Frames

DIGITS = {
    "psnr": 2,
    "ssim": 4,
    "lpips": 4,
    "dists": 4,
    "random": 4,
    "sharpness": 3,
    "musiq": 2,
    "clipiqa": 4,
}  # others: 3
TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "dists": "DISTS", "musiq": "MUSIQ", "niqe": "NIQE"}
TITLES |= {"clipiqa": "CLIP-IQA", "fid": "FID", "dover": "DOVER", "ewarp": "E_warp", "rwe": "RWE", "tof": "tOF"}
TITLES |= {"tlpips": "tLPIPS", "we": "WE", "vmaf": "VMAF", "stlpips": "ST-LPIPS"}
KINDS = {"y": "Y", "rgb": "RGB", "alex": "Alex", "vgg": "VGG"}
# ours: one claim per quality; a test of every metric would leave none after Holm's correction
TESTED = (
    ("psnr_y", "psnr_rgb"),
    ("ssim_y", "ssim_rgb"),
    ("lpips_alex", "lpips_vgg"),
    ("dists",),
    ("rwe", "consistency"),
)
TOO_FEW = "no claim: too few clips"
COSTS = {
    "parameters": ("parameters (M)", 1e-6, 2),
    "seconds_per_frame": ("s/frame", 1.0, 3),
    "peak_memory": ("peak memory (GB)", 1e-9, 2),
    "steps": ("steps", 1.0, 0),
}


UNITS = {"dB": "dB", "1e-3": "×1000", "1e-2": "×100", "pixels": "px", "0.1 pixels": "px/10", "8-bit levels": "levels"}


def better(metric: str) -> int:
    """1 where a higher value is better, -1 where a lower one is, 0 where neither.

    Sharpness is neither: it counts wrong detail like right detail.
    """
    if metric not in METRICS or metric == "sharpness":
        return 0
    return 1 if METRICS[metric].better == "higher" else -1


def name_of(metric: str) -> str:
    """The metric as sentences call it: ``PSNR Y``."""
    family, _, kind = metric.partition("_")
    return " ".join(part for part in (TITLES.get(family, family), KINDS.get(kind, kind.replace("_", " "))) if part)


def title(metric: str) -> str:
    """The metric as tables and axes call it, with unit and better direction: ``PSNR Y (dB) ↑``."""
    unit = UNITS.get(METRICS[metric].unit) if metric in METRICS else None
    return name_of(metric) + (f" ({unit})" if unit else "") + {1: " ↑", -1: " ↓", 0: ""}[better(metric)]


def digits(metric: str) -> int:
    return DIGITS.get(metric.split("_")[0], 3)


def shown(value: Value | None, places: int) -> str:
    """A number with so many decimals, "–" where a metric does not apply, "unavailable" where there is a reason."""
    if isinstance(value, dict):
        return "unavailable"
    return f"{value:.{places}f}" if isinstance(value, int | float) else "–"


def best(values: Sequence[Value], direction: int, places: int) -> set[int]:
    """Positions of the best values as shown; none where only one is a number or there is no better."""
    numbers = {n: round(float(v), places) for n, v in enumerate(values) if isinstance(v, int | float)}
    if not direction or len(numbers) < 2:
        return set()
    top = max(direction * v for v in numbers.values())
    return {n for n, value in numbers.items() if direction * value == top}


def overview(group: Group) -> Table:
    """One line per entry: every metric that somebody has a number or a reason for, then the costs."""
    metrics = [m for m in group.metrics() if any(isinstance(e.value(m), int | float) for e in group.entries)]
    columns = [(title(m), [e.value(m) for e in group.entries], better(m), digits(m)) for m in metrics]
    for name, (text, factor, places) in COSTS.items():
        values = [_scaled(e.cost(name), factor) for e in group.entries]
        columns.append((text, values, -1 if name == "seconds_per_frame" else 0, places))
    return Table(
        f"{group.title}: means over {len(group.clips)} clips",
        ("method", *(text for text, *_ in columns)),
        _lines(group, columns),
        tuple(_remarks(group)),
    )


def _lines(group: Group, columns: Sequence[tuple[str, list[Value], int, int]]) -> tuple[Line, ...]:
    count = len(group.methods)  # the ground truth comes last and wins nothing
    marked = [best(values[:count], direction, places) for _, values, direction, places in columns]
    return tuple(
        Line(
            entry.label + (f" ({len(entry.results)} seeds)" if len(entry.results) > 1 else ""),
            tuple(shown(values[n], places) for _, values, _, places in columns),
            best=frozenset(c for c, places in enumerate(marked) if n in places),
        )
        for n, entry in enumerate(group.entries)
    )


def _scaled(value: Value, factor: float) -> Value:
    return value * factor if isinstance(value, int | float) else value


def _remarks(group: Group) -> list[str]:
    lines = []
    data = group.result["data"]
    if group.result["partial"]:
        lines.append(f"Partial data: {len(data['absent'])} clips absent, {len(data['short'])} cut short.")
    devices = sorted({str(e.cost("device")) for e in group.methods} - {NOT_APPLICABLE})
    if len(devices) > 1:
        lines.append(f"Costs were taken on different devices ({', '.join(devices)}): do not compare them.")
    elif devices:
        lines.append(f"Seconds and memory were taken on {devices[0]}, with whatever else ran there.")
    if group.truth():
        lines.append(
            "The ground truth is no competitor: it shows what the metrics give where nothing is wrong. The PSNR of "
            "equal frames is infinite, which no mean takes."
        )
    missing = [m for m in group.metrics() if not any(isinstance(e.value(m), int | float) for e in group.entries)]
    if missing:
        lines.append(f"Without any number: {', '.join(missing)}.")
    return lines


def frames(entry: Entry, metric: str) -> Frames:
    """The entry's numbers by clip; clip means over the seeds where there are several."""
    runs = [statistics.frames_of(result, metric) for result in entry.results]
    return runs[0] if len(runs) == 1 else statistics.over_seeds(runs)[0]


def tested(group: Group) -> list[str]:
    """The metrics that claims are made about: of each kind the first with numbers for every method in every clip."""
    there = [m for m in group.metrics() if all(_complete(entry, m, group) for entry in group.methods)]
    return [next(m for m in kind if m in there) for kind in TESTED if set(kind) & set(there)]


def _complete(entry: Entry, metric: str, group: Group) -> bool:
    """Whether every clip has a mean: one frame without a number (an infinite PSNR) leaves its clip without."""
    clips = [r["metrics"][metric]["clips"] if metric in r["metrics"] else {} for r in entry.results]
    return all(c in values and isinstance(values[c]["mean"], int | float) for values in clips for c in group.clips)


def intervals(group: Group) -> Table:
    """Means with their 95 % intervals; runs of several seeds with the standard deviation of their means."""
    metrics = tested(group)
    lines = [Line(e.label, tuple(_interval(e, m) for m in metrics)) for e in group.methods]
    notes: tuple[str, ...] = ("Intervals: 95 %, bootstrap of clips, then of frames within each.",)
    if len(group.clips) < 5:
        notes += (
            f"With {len(group.clips)} clips an interval is a rough guess: few clips cannot show how clips differ.",
        )
    if group.result["protocol"]["switches"].get("averaging") == "frames":
        notes += ("These are means of clip means; the protocol averages over all frames, as the table above does.",)
    return Table("How sure the means are", ("method", *map(title, metrics)), tuple(lines), notes)


def _interval(entry: Entry, metric: str) -> str:
    values, places = frames(entry, metric), digits(metric)
    low, high = statistics.interval(values)
    text = f"{statistics.mean(values):.{places}f} [{low:.{places}f}, {high:.{places}f}]"
    if len(entry.results) > 1:
        spread = statistics.over_seeds([statistics.frames_of(r, metric) for r in entry.results])[1]
        text += f" ± {spread:.{places}f} over {len(entry.results)} seeds"
    return text


def against(group: Group, label: str | None = None) -> Entry:
    """What the others are tested against: the named entry, else the prior, else the first."""
    if label is not None:
        return group.named(label)
    return next((e for e in group.methods if e.method == "ldm"), group.methods[0])


def paired_tests(group: Group, label: str | None = None) -> Table:
    """Every method against one, metric by metric, with Holm's correction over all comparisons of the table.

    Raises RunError where there is nothing to compare.
    """
    reference, metrics = against(group, label), tested(group)
    others = [e for e in group.methods if e is not reference]
    if not others or not metrics:
        raise RunError(f"{group.title}: a comparison needs two methods and a metric with numbers in all clips")
    cases = [(e, m, statistics.paired(frames(e, m), frames(reference, m))) for e in others for m in metrics]
    corrected = statistics.holm([test.p for *_, test in cases])
    lines = []
    for (entry, metric, test), p in zip(cases, corrected, strict=True):
        places = digits(metric)
        difference = f"{test.difference:+.{places}f} [{test.low:+.{places}f}, {test.high:+.{places}f}]"
        claim = statistics.sentence(test, p, better(metric)) if test.decidable else TOO_FEW
        lines.append(Line(entry.label, (title(metric), difference, f"{test.p:.3g}", f"{p:.3g}", claim)))
    columns = ("method", "metric", "difference [95 %]", "p", "p (Holm)", "what may be claim")
    return Table(f"Against {reference.label}", columns, tuple(lines), (support(len(group.clips), len(cases)),))


def support(clips: int, comparisons: int) -> str:
    """The honest line: whether so many clips can support a claim when so many comparisons are made."""
    minimum = 1 + math.ceil(math.log2(comparisons / statistics.ALPHA))
    smallest = 2.0 ** (1 - clips)
    if clips >= minimum:
        return f"{clips} clips, {comparisons} comparisons: a sign-flip test over clip means, Holm's correction."
    return (
        f"{clips} clip{'s' * (clips > 1)} cannot support a claim here: a sign-flip test over clip means gives p = "
        f"{smallest:.3g} at best, and {comparisons} comparison{'s' * (comparisons > 1)} with Holm's correction need "
        f"{minimum} clips. Differences describe these clips and no others."
    )


def long_csv(groups: Sequence[Group]) -> str:
    """Every value at full precision: a line per data, protocol, method, seed, metric, clip."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["data", "protocol", "method", "seed", "metric", "clip", "value"])
    for group in groups:
        for entry in group.entries:
            for result in entry.results:
                place = [result["data"]["set"], result["protocol"]["id"], entry.label, result["provenance"].get("seed")]
                for name, metric in result["metrics"].items():
                    rows = {**{c: e["mean"] for c, e in metric["clips"].items()}, "mean": metric["mean"]}
                    writer.writerows([*place, name, clip, _plain(value)] for clip, value in rows.items())
    return text.getvalue()


def _plain(value: Value) -> str:
    return f"unavailable: {value['unavailable']}" if isinstance(value, dict) else str(value)


def comparison(a: Sequence[Path], b: Sequence[Path]) -> str:
    """Markdown: for every protocol that both were evaluated under, intervals and tests of a minus b.

    Raises RunError where they were not evaluated on equal terms, or where the runs of one side differ in more than
    their seed.
    """
    of_a, of_b = groups(a), groups(b)
    pairs = [(x, y) for x in of_a for y in of_b if _terms(x) == _terms(y)]
    if not pairs:
        there = " against ".join(", ".join(f"{g.title} ({fine_print(g)})" for g in side) for side in (of_a, of_b))
        raise RunError(f"the runs cannot be compared, data, clips or protocol differ: {there}")
    tables = []
    for x, y in pairs:
        first, second = _only(x), _only(y)
        if first.label == second.label:
            first, second = _with_folder(first, a[0]), _with_folder(second, b[0])
        group = Group((first, second))
        tables += [intervals(group), paired_tests(group, second.label)]
    return "\n".join(markdown(table) for table in tables)


def _terms(group: Group) -> tuple[object, ...]:
    data, protocol = group.result["data"], group.result["protocol"]
    return data["set"], data["split"], data["clips"], protocol["id"], protocol["hash"]


def _only(group: Group) -> Entry:
    if len(group.entries) > 1:
        labels = ", ".join(entry.label for entry in group.entries)
        raise RunError(f"one side of a comparison is runs that differ in their seed alone; here are {labels}")
    return group.entries[0]


def _with_folder(entry: Entry, folder: Path) -> Entry:
    return Entry(f"{entry.label} ({folder.name})", entry.folders, entry.results, entry.settings)
