"""Clips of any length: temporal chunks that overlap by the method's context, read as they are needed."""

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from vsrbench.errors import ConfigError
from vsrbench.inference.tiles import check_tiles, upscale_tiled
from vsrbench.types import FULL_CLIP, Clip, Progress

if TYPE_CHECKING:
    from vsrbench.diffusion.noise import NoiseSource
    from vsrbench.methods.base import Method


class Readable(Protocol):
    """What is upscaled: a source of ``vsrbench.data``, or a stream whose length shows at its end."""

    @property
    def frames(self) -> int | None:
        """Number of frames, None where nobody knows yet."""

    def read(self, start: int, stop: int) -> Clip:
        """Frames start..stop-1, B = 1; a stream of unknown length gives fewer, or none, at its end.

        Neither start nor stop ever goes back from one call to the next.
        """


def upscale_source(
    method: "Method",
    source: Readable,
    noise: "NoiseSource",
    settings: Any,
    progress: Progress | None = None,
    done: Container[int] = (),
) -> Iterator[tuple[int, Tensor]]:
    """Upscale a clip chunk by chunk; yields (frame number, (3,s*h,s*w) float32 in [0,1] on the CPU) in order.

    settings: the config node ``inference`` (chunk, whole, tile, overlap, batch, max_frames). progress: told of the
    method's own work, chunk by chunk (the caller counts the frames). done: numbers of frames that exist
    already: they are not yielded, and a chunk that holds nothing else is not computed.
    With ``method.context`` frames of overlap on both sides the frames are those of one whole chunk. A method whose
    context is longer than a chunk gets clips of up to ``settings.whole`` frames whole; longer ones come in chunks,
    which change values a little where the method looks at all frames and chunks overlap by its ``long_context``.
    Raises ConfigError for settings that cannot work, at once.
    """
    for name in ("chunk", "batch"):
        if settings[name] < 1:
            raise ConfigError(f"inference.{name}={settings[name]}: use 1 frame or more")
    if settings["max_frames"] is not None and settings["max_frames"] < 1:
        raise ConfigError(f"inference.max_frames={settings['max_frames']}: use 1 frame or more, or null for all")
    if method.context < 0:
        raise ConfigError(f"method.max_context={method.context}: use 0 frames or more, or null")
    check_tiles(settings["tile"], settings["overlap"])
    return _frames(method, source, noise, settings, progress, done)


def chunk_size(method: "Method", settings: Any) -> int | None:
    """Frames of a chunk: every multiple of it begins one. None where the whole clip is one, if it is not too long.

    # ours: chunks that would overlap by more than they have, on each side, cost thrice the whole clip or more.
    """
    if method.context > settings["chunk"]:
        return None
    # Frames of a method without context do not see each other: more than a batch at a time only costs memory.
    size = settings["chunk"] if method.context else min(settings["chunk"], settings["batch"])
    return int(size)


def long_clip_context(method: "Method", frames: int | None, settings: Any) -> int:
    """Frames that chunks of a clip longer than ``settings.whole`` overlap by. frames: None where nobody knows yet.

    Raises ConfigError for a method that can take such a clip in no chunks.
    """
    if method.context < FULL_CLIP:
        return method.context
    if method.long_context is not None:
        return method.long_context
    length = "of unknown length" if frames is None else f"of {frames} frames"
    raise ConfigError(
        f"this method looks at all frames of a clip at once, and one {length} may not fit: set "
        "method.max_context=8 (frames that chunks overlap by; frames further away then no longer matter), "
        f"or raise inference.whole={settings['whole']}"
    )


def _frames(
    method: "Method",
    source: Readable,
    noise: "NoiseSource",
    settings: Any,
    progress: Progress | None,
    done: Container[int],
) -> Iterator[tuple[int, Tensor]]:
    limits = [n for n in (source.frames, settings["max_frames"]) if n is not None]
    end = min(limits) if limits else None
    context, start = method.context, 0
    size = chunk_size(method, settings)
    if size is None:
        if end is not None and end <= settings["whole"]:
            size = end
        else:
            context, size = long_clip_context(method, end, settings), int(settings["chunk"])
    while end is None or start < end:
        if source.frames is not None and all(n in done for n in range(start, min(start + size, end or 0))):
            start += size
            continue
        first, last = max(start - context, 0), start + size + context
        last = last if end is None else min(last, end)
        clip = source.read(first, last)
        if first + clip.frames < last:
            end = first + clip.frames
        stop = start + size if end is None else min(start + size, end)
        wanted = [n for n in range(start, stop) if n not in done]
        if wanted:
            frames = upscale_tiled(method, clip, noise, settings["tile"], settings["overlap"], progress)
            for number in wanted:
                yield number, frames[0, number - first]
            del frames  # before the next chunk is computed: two would be held at once
        start = stop if stop > start else start + size
