"""``python -m vsrbench.smoke_test [PATTERN]``: every file below ``experiments/`` once, tiny, on the sample data.

PATTERN chooses among them (``mini/*``). Each file runs the command that it is for (its key ``command``) in this
process, with the tiny networks, for two steps or on two frames of one clip, and writes nothing that stays. The table
says what replaced frames of other software and weights of flow networks, and why a row is skipped.
"""

import argparse
import sys
import time
from collections import Counter

from vsrbench import analyse, bench, train
from vsrbench import eval as evaluate
from vsrbench.experiment_run import Outcome, commands, run_small
from vsrbench.interrupts import one_line_at_the_end

RUN = {"train": train.run, "eval": evaluate.run, "bench": bench.run, "analyse": analyse.run}
COLOURS = {"ok": "green", "failed": "red", "skipped": "yellow"}


def main(arguments: list[str] | None = None) -> None:
    """Print a table of files; exit code 1 where one failed, 2 where the pattern matches none."""
    parser = argparse.ArgumentParser(prog="vsrbench.smoke_test", description="run every experiment file once, tiny")
    parser.add_argument("pattern", nargs="?", default="**/*", help="files below experiments/, for instance mini/*")
    names = commands(parser.parse_args(arguments).pattern)
    if not names:
        parser.error("no file below experiments/ matches the pattern")
    started = time.perf_counter()
    with one_line_at_the_end("smoke_test"):
        outcomes = run_all(names)
    show(outcomes, time.perf_counter() - started)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise SystemExit(1)


def run_all(names: list[str]) -> list[Outcome]:
    """One after the other, a line for each; a bar with the time that is left where there is a terminal."""
    from rich.console import Console

    from vsrbench.progress import Bars

    outcomes = []
    with Bars() as bars:
        row, console = bars.row(len(names), "experiments"), Console(file=sys.stdout)
        for number, name in enumerate(names, 1):
            outcome = run_small(name, RUN)
            outcomes.append(outcome)
            console.print(f"{number}/{len(names)} {name}: {outcome.state}, {outcome.seconds:.1f} s", highlight=False)
            row.advance()
    return outcomes


def show(outcomes: list[Outcome], seconds: float) -> None:
    """The table, and how many of which state."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout)
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(file=sys.stdout, width=150)
    table = Table("experiment", "command", "", "seconds", "why")
    for outcome in outcomes:
        state = f"[{COLOURS[outcome.state]}]{outcome.state}[/]"
        table.add_row(outcome.name, outcome.command, state, f"{outcome.seconds:.1f}", outcome.why.replace("[", r"\["))
    console.print(table)
    totals = Counter(outcome.state for outcome in outcomes)
    console.print(", ".join(f"{totals[state]} {state}" for state in COLOURS) + f" in {seconds:.0f} s", highlight=False)


if __name__ == "__main__":
    main()
