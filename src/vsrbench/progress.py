"""Progress of every command: bars with the time that is left on a terminal, a few plain lines in a log."""

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

QUIET = 30.0  # seconds between two lines of a log; work that takes less leaves none

T = TypeVar("T")


def display(
    console: Console | None = None, counts: Sequence[ProgressColumn] | None = None, disable: bool = False
) -> Progress:
    """An empty display on stderr. counts: the columns behind the bar, "3/10" by default."""
    columns = (TextColumn("{task.description}"), BarColumn(), *(counts or [MofNCompleteColumn()]))
    times = (TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("left"))
    console = console or Console(stderr=True)
    return Progress(*columns, *times, console=console, transient=True, disable=disable or not console.is_terminal)


def track(items: Sequence[T], what: str, shown: bool = True) -> Iterable[T]:
    """The items one by one behind a bar. shown: False where they take no time."""
    if not shown:
        yield from items
        return
    with Bars() as bars:
        row = bars.row(len(items), what)
        for item in items:
            yield item
            row.advance()


class Bars:
    """A display whose rows are hidden until they have work, for as many kinds of work as there are rows."""

    def __init__(self, console: Console | None = None) -> None:
        self.display = display(console)

    def __enter__(self) -> "Bars":
        self.display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.stop()

    def row(self, total: int | None = None, what: str = "") -> "Row":
        """A new bar, started where its work is known already."""
        row = Row(self.display)
        if total is not None:
            row.start(total, what)
        return row

    def print(self, line: str) -> None:
        """A line of plain text above the bars."""
        self.display.console.print(line, highlight=False, markup=False, soft_wrap=True)


class Row:
    """One bar; obeys ``vsrbench.types.Progress``. ``start`` may be called again for the next piece of work."""

    def __init__(self, display: Progress) -> None:
        self.display = display
        self.task = display.add_task("", total=None, visible=False)
        self._start = self._last = time.monotonic()

    def start(self, total: int, what: str) -> None:
        self.display.reset(self.task, total=total, description=what, visible=True)
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.display.advance(self.task, count)
        task = self.display.tasks[self.task]
        if task.finished:
            self.display.update(self.task, visible=False)
        if not self.display.console.is_terminal:
            self._log(task.description, int(task.completed), int(task.total or 0))

    def _log(self, what: str, count: int, total: int) -> None:
        """A line with the time that is left, at most one every ``QUIET`` seconds."""
        now = time.monotonic()
        if now - self._last < QUIET or not 0 < count <= total:
            return
        rate = count / (now - self._start)
        remaining = timedelta(seconds=round((total - count) / rate))
        line = f"{what} {count}/{total}, {rate:.3g}/s, {remaining} left"
        self.display.console.print(line, highlight=False, markup=False)
        self._last = now
