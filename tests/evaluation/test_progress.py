import io

from rich.console import Console

from vsrbench.evaluation.progress import Bars


def test_a_row_shows_while_it_has_work_and_can_start_again():
    with Bars(Console(file=io.StringIO())) as bars:
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
