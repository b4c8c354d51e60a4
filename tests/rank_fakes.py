"""What the processes of ``vsrbench.inference.ranks`` can be given in tests: quick work, and accidents."""

import os
import signal
from typing import Any

from vsrbench.errors import ConfigError, DataError


def begin(rank: int) -> tuple[Any, Any]:
    """Doubles numbers; ``"broken"`` raises, ``"odd"`` fails in a way nobody foresaw, ``"killed"`` ends the process."""
    return {"rank": rank}, make


def make(piece: Any, progress: Any) -> Any:
    progress.advance(2)
    if piece == "broken":
        raise DataError("frame 3 is truncated")
    if piece == "odd":
        raise ZeroDivisionError("somewhere")
    if piece == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return piece * 2


def refuses(rank: int) -> tuple[Any, Any]:
    raise ConfigError("no such method")
