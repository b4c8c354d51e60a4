import io

import pytest
from rich.console import Console

from vsrbench import progress
from vsrbench.progress import Bars, track


def test_a_row_shows_while_it_has_work_and_can_start_again() -> None:
    with Bars(Console(file=io.StringIO(), force_terminal=True)) as bars:
        row = bars.row()
        task = bars.display.tasks[0]
        assert not task.visible
        for _ in range(2):
            row.start(2, "scoring")
            assert task.visible and (task.total, task.completed, task.description) == (2, 0, "scoring")
            row.advance()
            assert task.visible
            row.advance()
            assert not task.visible and task.finished


def test_a_log_gets_plain_lines_with_the_time_left_and_none_of_short_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    log = io.StringIO()
    with Bars(Console(file=log)) as bars:
        short = bars.row(3, "upscaling")
        for _ in range(3):
            now[0] += 5
            short.advance()
        assert log.getvalue() == ""
        long = bars.row(10, "scoring [set]")  # brackets are no markup
        for _ in range(10):
            now[0] += 20
            long.advance()
        bars.print("notice: [1] stream")
    assert log.getvalue().splitlines() == [
        "scoring [set] 2/10, 0.05/s, 0:02:40 left",
        "scoring [set] 4/10, 0.05/s, 0:02:00 left",
        "scoring [set] 6/10, 0.05/s, 0:01:20 left",
        "scoring [set] 8/10, 0.05/s, 0:00:40 left",
        "scoring [set] 10/10, 0.05/s, 0:00:00 left",
        "notice: [1] stream",
    ]


def test_a_terminal_gets_a_bar() -> None:
    terminal = io.StringIO()
    with Bars(Console(file=terminal, force_terminal=True, width=100)) as bars:
        bars.row(4, "scoring").advance()
        bars.display.refresh()
    assert "scoring" in terminal.getvalue() and "1/4" in terminal.getvalue()


def test_track_gives_the_items_whether_or_not_a_bar_is_shown() -> None:
    assert list(track([3, 1, 2], "sizes", shown=False)) == list(track([3, 1, 2], "sizes")) == [3, 1, 2]
