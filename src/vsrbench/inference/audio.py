"""Audio that goes from file to file as it is: packets, never decoded."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av


class Audio:
    """The packets of FFmpeg's choice among a file's audio streams, in order."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path))
        self.stream: Any = self._container.streams.best("audio")
        self._packets = self._demux() if self.stream is not None else iter(())
        self._next: Any = next(self._packets, None)

    def until(self, time: Fraction | None) -> Iterator[Any]:
        """Packets that begin before ``time`` (seconds), None: all that are left."""
        while self._next is not None and (time is None or self._next.pts * self._next.time_base < time):
            packet, self._next = self._next, next(self._packets, None)
            yield packet

    def _demux(self) -> Iterator[Any]:
        for packet in self._container.demux(self.stream):
            if packet.dts is not None:  # the last one is empty and only flushes decoders
                yield packet
