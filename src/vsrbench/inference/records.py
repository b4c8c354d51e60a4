"""What passes between a video file's reader and writer, and the opening of the file."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av

from vsrbench.data.colour import Colour
from vsrbench.errors import DataError


@dataclass(frozen=True)
class Look:
    """What an output takes over: frames per second, unit of time stamps, pixel aspect, colour, bits per value."""

    rate: Fraction
    tick: Fraction
    aspect: Fraction
    colour: Colour
    bits: int


class Moment(NamedTuple):
    """When a frame is shown and for how long, in seconds."""

    start: Fraction
    duration: Fraction


def open_stream(path: Path) -> tuple[Any, Any]:
    """A file's container and its best video stream. Raises DataError where there is none."""
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"cannot open {path} as a video ({error.strerror}): fetch it again or convert it") from error
    stream: Any = container.streams.best("video")
    if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
        container.close()
        raise DataError(f"{path} has no video stream: give a video file or a folder of frames")
    stream.thread_type = "AUTO"
    return container, stream
