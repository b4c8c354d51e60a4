"""Two methods, clip by clip: what their difference supports. Several runs of a method are its seeds."""

from collections.abc import Sequence
from pathlib import Path

from vsrbench.errors import RunError
from vsrbench.reports import measured, tables
from vsrbench.reports.entries import Entry, Group, fine_print, groups


def text(a: Sequence[Path], b: Sequence[Path]) -> str:
    """Markdown: for every protocol that both were judged under, intervals and tests of a minus b.

    Raises RunError where they were not judged on equal terms, or where the runs of one side differ in more than
    their seed.
    """
    of_a, of_b = groups(a), groups(b)
    pairs = [(x, y) for x in of_a for y in of_b if _terms(x) == _terms(y)]
    if not pairs:
        there = " against ".join(", ".join(f"{g.title} ({fine_print(g)})" for g in side) for side in (of_a, of_b))
        raise RunError(f"the runs cannot be compared, data, clips or protocol differ: {there}")
    found = []
    for x, y in pairs:
        first, second = _only(x), _only(y)
        if first.label == second.label:
            first, second = _named(first, a[0]), _named(second, b[0])
        group = Group((first, second))
        found += [measured.intervals(group), measured.paired_tests(group, second.label)]
    return "\n".join(tables.markdown(table) for table in found)


def _terms(group: Group) -> tuple[object, ...]:
    data, protocol = group.result["data"], group.result["protocol"]
    return data["set"], data["split"], data["clips"], protocol["id"], protocol["hash"]


def _only(group: Group) -> Entry:
    if len(group.entries) > 1:
        named = ", ".join(entry.label for entry in group.entries)
        raise RunError(f"one side of a comparison is runs that differ in their seed alone; here are {named}")
    return group.entries[0]


def _named(entry: Entry, folder: Path) -> Entry:
    return Entry(f"{entry.label} ({folder.name})", entry.folders, entry.results, entry.settings)
