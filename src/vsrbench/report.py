"""``python -m vsrbench.report RUN... [table=dgaf/T1]``: tables, charts, pictures and one page about evaluations.

``task=compare RUN RUN`` tests a difference, ``task=claims`` computes the papers' sentences again, ``sweep=DIR`` shows
how far a sweep is, ``task=study RUN RUN`` makes a blind A/B page and ``task=votes FILE.csv`` counts its votes.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench.config import one_line
from vsrbench.interrupts import one_line_at_the_end
from vsrbench.reports.arguments import USAGE, Arguments, parse

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: list[str] | None = None) -> None:
    """Run the task. Raises SystemExit: 2 for what cannot be done, in one line; 0 for ``--help``."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if words else 2)
    with one_line_at_the_end("report"), one_line():
        parsed = parse(words)
        tasks = {"report": report, "compare": compare, "claims": claims, "sweep": sweep, "study": study, "votes": votes}
        tasks[parsed.task](parsed)


def report(arguments: Arguments) -> None:
    """Write the report and print its page."""
    print(write(arguments, arguments.folders, arguments.output(arguments.folders[0].parent / "reports")))


def write(arguments: Arguments, folders: "Sequence[Path]", output: Path, remarks: "Sequence[str]" = ()) -> Path:
    """The page about some run folders, with all that lies beside it."""
    from vsrbench.reports.make import make

    return make(arguments, folders, output, remarks)


def compare(arguments: Arguments) -> None:
    """Print what may be said about the difference of two methods."""
    from vsrbench.reports import tables

    a, b = ([Path(f).expanduser() for f in word.split(",")] for word in arguments.words)
    print(tables.comparison(a, b))


def claims(arguments: Arguments) -> None:
    """Print the papers' sentences with what their numbers give."""
    from vsrbench.reports import claims as papers
    from vsrbench.reports.papers import find_paper

    sentences = papers.claims(find_paper(arguments.settings["paper"]) if "paper" in arguments.settings else None)
    print(papers.text(sentences))


def sweep(arguments: Arguments) -> None:
    """Print the state of a sweep, and write its page once nothing is left to do. Raises RunError without a sweep."""
    from vsrbench.cluster import manifest, progress

    progress.show(manifest.Sweep.open(Path(arguments.settings["sweep"]).expanduser().resolve()))
    if page := sweep_page(arguments):
        print(page)


def sweep_page(arguments: Arguments) -> Path | None:
    """The page of a sweep, naming the jobs that failed; None while there is something to do, and without a result."""
    from vsrbench.cluster.manifest import Sweep, labels

    state = Sweep.open(Path(arguments.settings["sweep"]).expanduser().resolve())
    jobs = state.jobs()
    runs = [Path(job.run) for job in jobs if job.state == "finished" and job.run]
    if any(job.state in ("pending", "running") for job in jobs) or state.verb not in ("eval", "compare") or not runs:
        return None
    failed = [(name, job.failure[-1:]) for job, name in zip(jobs, labels(jobs), strict=True) if job.state == "failed"]
    output = Path(arguments.settings.get("output", state.folder / "report")).resolve()
    return write(arguments, runs, output, [f"Failed: {name}: {' '.join(said)}" for name, said in failed])


def study(arguments: Arguments) -> None:
    """Write a page on which people choose between two methods without knowing which is which; print its path."""
    from vsrbench.reports import study as pages

    output = arguments.output(arguments.folders[0].parent / "reports")
    a, b = arguments.folders
    print(pages.write(a, b, output, arguments.number("clips", 8), arguments.number("seed", 0)))


def votes(arguments: Arguments) -> None:
    """Print how often each method was preferred. Raises ConfigError for files that are no votes."""
    from vsrbench.reports import study as pages

    print(pages.ratios(arguments.folders))


if __name__ == "__main__":
    main()
