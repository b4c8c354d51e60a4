"""Progress bars with the time that is left, one row per kind of work."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bars:
    """A display whose rows are hidden until they have work; nothing is drawn where output is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("left"))
        self.display = Progress(*columns, *times, console=console or Console(stderr=True), transient=True)

    def __enter__(self) -> "Bars":
        self.display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.stop()

    def row(self) -> "Row":
        return Row(self.display)


class Row:
    """One bar; obeys ``vsrbench.types.Progress``. ``start`` may be called again for the next piece of work."""

    def __init__(self, display: Progress) -> None:
        self.display = display
        self.task = display.add_task("", total=None, visible=False)

    def start(self, total: int, what: str) -> None:
        self.display.reset(self.task, total=total, description=what, visible=True)

    def advance(self, count: int = 1) -> None:
        self.display.advance(self.task, count)
        task = self.display.tasks[self.task]
        if task.finished:
            self.display.update(self.task, visible=False)
