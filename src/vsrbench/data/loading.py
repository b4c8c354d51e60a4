"""The loader of training batches: what goes wrong in its workers becomes one error, and no worker outlives it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import get_temp_dir
from typing import Any

from torch.utils.data import DataLoader

from vsrbench.compat import dead_workers, kill_workers
from vsrbench.errors import RunError, VsrbenchError
from vsrbench.types import Clip

# How torch speaks of a worker that is gone: by an exception that it raises wherever the main thread happens to be.
LOST = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is|exited)")


class Batches(DataLoader[Clip]):
    """torch's loader. An error of ours that a worker raises comes out as it is, without the worker's traceback."""

    def __iter__(self) -> Iterator[Clip]:  # type: ignore[override]
        if self.num_workers:
            get_temp_dir()  # this process removes it at its end; each worker, being killed, would leave its own
        iterator: Any = super().__iter__()
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except VsrbenchError as error:
                raise unwrapped(error) from None
            except (ConnectionError, EOFError) as error:  # a batch whose sender has died, before torch noticed that
                dead = dead_workers(iterator, timeout=5)
                if not dead:
                    raise
                raise RuntimeError(f"DataLoader worker (pid(s) {str(dead)[1:-1]}) exited unexpectedly") from error
            yield batch

    def stop(self) -> None:
        """End the workers at once, whatever they are at.

        They hold nothing that would have to be saved. torch's own way asks them to end, which waits for ever for
        a lock that a killed worker held, and for a worker that neither answers nor heeds SIGTERM.
        """
        kill_workers(self)


def unwrapped(error: VsrbenchError) -> VsrbenchError:
    """The error as it was raised; torch hands on the text of its traceback."""
    kind = type(error)
    return kind(str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2].strip())


def lost_worker(error: BaseException) -> bool:
    """Whether this is torch's report of a worker that is gone."""
    return isinstance(error, RuntimeError) and LOST.match(str(error)) is not None


@contextmanager
def lost_workers_told(remedy: str) -> Iterator[None]:
    """A worker that was killed becomes one RunError with its likely cause and the remedy."""
    try:
        yield
    except RuntimeError as error:
        if not lost_worker(error):
            raise
        said = str(error)
        pid, how = LOST.match(said)[1], re.search(r"signal: ([^.]*)", said)  # type: ignore[index]
        cause = "most likely memory ran out"
        if how is not None and "Bus" in how[1]:
            cause = "shared memory (/dev/shm) ran out"
        elif how is not None and how[1] not in ("Killed", "Terminated"):
            cause = f"signal {how[1]}"
        raise RunError(f"a data worker (process {pid}) was killed, {cause}: {remedy}") from error
