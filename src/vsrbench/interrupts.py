"""Ctrl-C and SIGTERM end every command with one line and the exit code that shells expect, 130 and 143."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
KEPT = {  # by command: what is on disk after an interruption, and counts when the same command is given again
    "train": "the last checkpoint is kept, and the same command goes on from it",
    "conformance": "complete clips are kept, and the same command goes on with the others",
    "eval": "complete clips are kept, and the same command goes on with the others",
    "upscale": "complete frames in a folder are kept, and the same command goes on; of a video nothing is kept",
    "compare": "finished rows are kept, and the same command goes on with the others",
    "demo": "finished parts are kept, and the same command goes on with the others",
    "data": "whole clips of a pack are kept, and the same command goes on with the others",
    "weights": "whole files are kept, and the same command goes on with the others",
}


class Interrupted(SystemExit):
    """Raised in the main thread where the signal came; files that are being written are removed on the way out.

    A SystemExit, so that nobody who catches Exception or KeyboardInterrupt keeps the command from ending.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def end_with_parent() -> None:
    """Let this process be killed when the one that started it ends, however that ends (Linux; nothing elsewhere).

    For the other ranks of a distributed run: at its start they would wait for a lost one for ever.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def one_line_at_the_end(verb: str) -> Iterator[None]:
    """Signals inside become ``Interrupted``, and that becomes a line on stderr that says what is kept.

    A second signal ends the process at once. Handlers that somebody installed stay, and so do those of the outermost
    of several such contexts.
    """
    own = os.getpid()
    default = (signal.SIG_DFL, signal.default_int_handler)

    def end(number: int, frame: FrameType | None) -> None:
        for each in mine:
            signal.signal(each, signal.SIG_DFL)
        if os.getpid() != own:  # a child process that was forked: it ends as without this
            os.kill(os.getpid(), number)
        raise Interrupted(number)

    main = threading.current_thread() is threading.main_thread()  # elsewhere Python allows no handlers
    mine = [number for number in SIGNALS if main and signal.getsignal(number) in default]
    before = {number: signal.signal(number, end) for number in mine}
    try:
        yield
    except Interrupted as error:
        if mine:
            name = signal.Signals(error.number).name
            print(f"interrupted by {name}: {KEPT.get(verb, 'nothing was written')}", file=sys.stderr)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
