"""A blind A/B page for a small user study, and what its votes say (SATeCo Figure 6 is such a study).

Every clip is shown twice over: side by side, moving, the sides drawn by chance from the seed. The page never names the
methods: it writes votes as left and right to a CSV file, and ``key.csv``, which stays with who asks, names them.
"""

import base64
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

from vsrbench.errors import ConfigError, RunError
from vsrbench.reports.crops import frame_files
from vsrbench.reports.entries import Entry, groups
from vsrbench.reports.formats import Line, Table, markdown
from vsrbench.reports.html import environment
from vsrbench.runs import write_atomic

QUESTION = "Which of the two looks better, all in all: sharper, truer, steadier?"
CHOICES = ("left", "right", "same")
PACE = 120  # milliseconds per frame
LONGEST = 24  # frames of a clip that are shown
VOTES = ("voter", "trial", "choice")
KEY = ("trial", "clip", "left", "right")


def write(first: Path, second: Path, output: Path, clips: int, seed: int) -> Path:
    """``study.html`` for the people who choose, ``key.csv`` for who asks; returns the page's path.

    clips: trials at most. Raises RunError where the runs were not evaluated on the same clips.
    """
    a, b = _pair(first, second)
    names = list(a.result["data"]["clips"])[:clips]
    random = np.random.default_rng(seed)
    order, sides = random.permutation(len(names)), random.permutation(len(names)) % 2  # each method half on the left
    trials, key = [], []
    for number, (clip, side) in enumerate(zip([names[n] for n in order], sides, strict=True), start=1):
        left, right = (a, b) if side else (b, a)
        trials.append({"number": number, "left": _moving(left.frames(clip)), "right": _moving(right.frames(clip))})
        key.append((number, clip, left.label, right.label))
    text = environment().get_template("study.html.j2").render(question=QUESTION, trials=trials, choices=CHOICES)
    write_atomic(output / "key.csv", _csv(KEY, key).encode())
    write_atomic(output / "study.html", text.encode())
    return output / "study.html"


def _pair(first: Path, second: Path) -> tuple[Entry, Entry]:
    pair = [groups([folder])[0] for folder in (first, second)]
    if pair[0].clips != pair[1].clips or pair[0].result["data"]["set"] != pair[1].result["data"]["set"]:
        raise RunError(f"{first} and {second} are not on the same clips: people must compare like with like")
    a, b = (group.entries[0] for group in pair)
    if a.label == b.label:
        a, b = (Entry(f"{e.label} ({e.folders[0].name})", e.folders, e.results, e.settings) for e in (a, b))
    return a, b


def _moving(folder: Path) -> str:
    """The frames of a clip as a lossless animated WebP inside the page; there and back, so that nothing jumps."""
    frames = [Image.open(file).convert("RGB") for file in frame_files(folder)[:LONGEST]]
    first, *others = frames + frames[-2:0:-1]
    data = io.BytesIO()
    first.save(data, "webp", save_all=True, append_images=others, duration=PACE, loop=0, lossless=True, method=2)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def ratios(files: Sequence[Path]) -> str:
    """Markdown: how often each method was preferred, over all and per clip, from ``key.csv`` and files of votes.

    ``key.csv`` is among ``files`` or lies beside one of them. Raises ConfigError for a file that is neither, a vote
    that means nothing, and a voter who answered a trial twice.
    """
    keys = [f for f in files if f.name == "key.csv"] or [f.parent / "key.csv" for f in files[:1]]
    key = {row["trial"]: row for row in _read(keys[0], KEY)}
    rows = [row | {"file": str(file)} for file in files if file not in keys for row in _read(file, VOTES)]
    if not rows:
        raise ConfigError("no vote is given: name the files that the study's page saved")
    pairs: set[tuple[str, str]] = set()
    for row in rows:
        if row["trial"] not in key or row["choice"] not in CHOICES:
            raise ConfigError(
                f"{row['file']}: trial {row['trial']!r}, choice {row['choice']!r} is no vote of this study"
            )
        if (row["voter"], row["trial"]) in pairs:
            raise ConfigError(f"{row['file']}: {row['voter']!r} answered trial {row['trial']} twice")
        pairs.add((row["voter"], row["trial"]))
    return markdown(_table(rows, key))


def _table(rows: Sequence[dict[str, str]], key: dict[str, dict[str, str]]) -> Table:
    methods = sorted({row[side] for row in key.values() for side in ("left", "right")})
    tally = Counter((key[r["trial"]]["clip"], key[r["trial"]].get(r["choice"], "same")) for r in rows)
    lines = []
    for clip in [*dict.fromkeys(row["clip"] for row in key.values()), "all"]:
        counts = [
            sum(n for (c, m), n in tally.items() if m == what and clip in (c, "all")) for what in (*methods, "same")
        ]
        total = sum(counts)
        lines.append(Line(clip, tuple(f"{n} ({100 * n / total:.0f} %)" if total else "–" for n in counts)))
    decided = sum(n for (_, what), n in tally.items() if what != "same")
    won = sum(n for (_, what), n in tally.items() if what == methods[0])
    low, high = wilson(won, decided)
    voters = len({row["voter"] for row in rows})
    people = f"{voters} voter{'s' * (voters > 1)}"
    summary = (
        f"{methods[0]} was preferred in {won} of {decided} decided votes, 95 % interval {100 * low:.0f} to "
        f"{100 * high:.0f} %. Votes of one person resemble each other: with {people} it is too narrow."
    )
    return Table(
        f"{len(rows)} vote{'s' * (len(rows) > 1)} of {people}", ("clip", *methods, "same"), tuple(lines), (summary,)
    )


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) where nobody voted."""
    if total == 0:
        return 0.0, 1.0
    low, high = stats.binomtest(count, total).proportion_ci(method="wilson")
    return float(low), float(high)


def _read(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not file.is_file():
        raise ConfigError(f"no {file}: name key.csv and the files of votes of one study")
    with file.open(newline="") as content:
        reader = csv.DictReader(content)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise ConfigError(f"{file} has columns {reader.fieldnames}, wanted {', '.join(columns)}")
        return list(reader)
