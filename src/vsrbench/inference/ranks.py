"""Work shared out over several processes of one machine: whoever is free takes the next piece.

The processes need not talk to each other, so there is no process group: a parent hands out pieces, one at a time.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from vsrbench.errors import VsrbenchError
from vsrbench.types import Progress

# A server that has imported what the ranks need forks each of them: no second import, and neither threads nor a GPU
# context are inherited. Windows has none.
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

# begin(rank) is called once in each process. It gives facts for the parent, and what makes one piece.
Make = Callable[[Any, Progress], Any]
Begin = Callable[[int], tuple[Any, Make]]


@dataclass(frozen=True)
class Failure:
    """A piece that was not made (None: the process did not get as far), on which rank, and why."""

    piece: Any
    rank: int
    why: str
    error: VsrbenchError | None = None  # one that the user can act on


class Ranks:
    """Context in which ``ranks`` processes wait for pieces.

    begin must be importable in a fresh process (a function of a module, or a partial of one). imports: names of the
    modules that it will import.
    """

    def __init__(self, begin: Begin, ranks: int, progress: Progress | None = None, imports: Sequence[str] = ()) -> None:
        self.begin, self.count, self.progress, self.imports = begin, ranks, progress, imports
        self.failures: list[Failure] = []
        self._processes: dict[Connection, Any] = {}
        self._ranks: dict[Connection, int] = {}
        self._early: list[tuple[Connection, tuple[str, Any]]] = []

    def __enter__(self) -> "Ranks":
        context: Any = multiprocessing.get_context(METHOD)
        if METHOD == "forkserver":
            context.set_forkserver_preload([__name__, *self.imports])
        for rank in range(self.count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_rank, args=(theirs, rank, self.begin), daemon=True)
            process.start()
            theirs.close()
            self._processes[ours], self._ranks[ours] = process, rank
        return self

    def __exit__(self, *error: object) -> None:
        for connection, process in self._processes.items():
            connection.close()  # its process ends where it waits for a piece
            if error[0] is not None:
                process.terminate()
            process.join()

    def facts(self) -> Any:
        """What ``begin`` tells the parent, from the rank that is ready first; None where no rank gets ready."""
        while True:
            for connection, message in self._messages():
                if message[0] == "ready":
                    self._early.append((connection, message))
                    return message[1]
            if not self._processes:
                return None

    def results(self, pieces: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """(piece, what was made) in the order in which they are done; pieces that fail go to ``failures``.

        A rank that fails takes no other piece; the other ranks make what is left.
        """
        left, busy = list(reversed(pieces)), dict[Connection, Any]()
        while self._processes and (left or busy or self._early):
            early, self._early = self._early, []
            for connection, (kind, content) in early or self._messages(busy):
                if kind == "done":
                    yield busy.pop(connection), content
                if kind in ("ready", "done") and left:
                    busy[connection] = left.pop()
                    with suppress(ConnectionError):  # it has just died: its end of the pipe tells so next
                        connection.send(busy[connection])

    def _messages(self, busy: dict[Connection, Any] | None = None) -> Iterator[tuple[Connection, tuple[str, Any]]]:
        """What the ranks say next. Progress is passed on, failures are noted."""
        busy = {} if busy is None else busy
        for connection in wait(list(self._processes)):
            assert isinstance(connection, Connection)
            try:
                kind, content = connection.recv()
            except (EOFError, ConnectionError):
                process = self._processes.pop(connection)
                process.join()
                kind, content = "failed", (f"its process ended with exit code {process.exitcode}{_hint(process)}", None)
            if kind == "failed":
                self._forget(connection)
                self.failures.append(Failure(busy.pop(connection, None), self._ranks[connection], *content))
            elif kind == "advance":
                if self.progress is not None:
                    self.progress.advance(content)
            else:
                yield connection, (kind, content)

    def _forget(self, connection: Connection) -> None:
        process = self._processes.pop(connection, None)
        if process is not None:
            process.join()
        connection.close()


def _hint(process: Any) -> str:
    return " (killed: out of memory?)" if process.exitcode == -signal.SIGKILL else ""


class _Tell:
    """Progress of a piece, sent to the parent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def start(self, total: int, what: str) -> None:
        """The parent knows the total."""

    def advance(self, count: int = 1) -> None:
        self.connection.send(("advance", count))


def _rank(connection: Connection, rank: int, begin: Begin) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    try:
        facts, make = begin(rank)
        connection.send(("ready", facts))
        while True:
            connection.send(("done", make(connection.recv(), _Tell(connection))))
    except (EOFError, ConnectionError):
        return  # the parent has closed the pipe, or is gone
    except VsrbenchError as error:
        connection.send(("failed", (str(error), error)))
    except Exception as error:
        connection.send(("failed", (f"{type(error).__name__}: {error}\n{traceback.format_exc()}", None)))
