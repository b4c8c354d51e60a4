"""Strict reading of frames that are to be evaluated: 8-bit RGB PNG files, or videos that hold whole clips.

Names may follow any scheme that ``matching`` recognises. Their content may not: exactly the frames of the data, of
exactly the size of the ground truth; everything else is an error that names the file, because a missing or shifted
frame changes numbers without looking wrong.
"""

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from vsrbench.data.readers import image_size, read_image
from vsrbench.data.sources import Source
from vsrbench.errors import DataError
from vsrbench.evaluation import matching
from vsrbench.evaluation.matching import VIDEOS, ClipFrames, Frame
from vsrbench.evaluation.protocol import Protocol
from vsrbench.metrics.frame import quantise

LARGEST = 2.0  # a value beyond is no overshoot of [0,1]: frames in 0..255 would become white without a word


def frame_numbers(source: Source, frames: str | int, trim: int = 0) -> list[int]:
    """Numbers of the frames that count; frames, trim: the protocol's switches."""
    numbers = list(range(source.frames))
    if isinstance(frames, int):
        numbers = numbers[:frames]
    elif frames == "convention" and source.scored is not None:
        numbers = sorted(source.scored)
    return numbers[trim : len(numbers) - trim] if trim else numbers


def find(folder: Path, sources: Sequence[Source], protocol: Protocol) -> ClipFrames:
    """Every frame that counts. Frames of the clips that do not count may be there as well.

    folder: holds ``<clip>/<frame>.png``, ``<clip>_<frame>.png`` or ``<clip>.mp4``; or it is a run folder of ``eval``.
    Raises DataError for a folder that is absent, empty or the ground truth's own, for a clip or frame that is
    missing, any file that the data do not name, and names that ``matching`` refuses.
    """
    if not folder.is_dir():
        raise DataError(f"predictions={folder}: no such folder; it must hold <clip>/<frame>.png")
    folder = folder / "frames" if (folder / "config.yaml").is_file() and (folder / "frames").is_dir() else folder
    _refuse_truth(folder, sources)
    names = [path.relative_to(folder).as_posix() for path in _files(folder)]
    if not names:
        raise DataError(f"predictions={folder}: the folder is empty; it must hold <clip>/<frame>.png")
    clips, strays = matching.assign(names, sources)
    clip_frames, missing = ClipFrames(), list[str]()
    for source in sources:
        numbers = frame_numbers(source, protocol.frames, protocol.trim)
        frames, note = _frames(folder, source, clips[source.name], numbers)
        missing += [f"{source.name}/{source.frame_names[n]}.png" for n in numbers if n not in frames]
        clip_frames.files[source.name] = {n: frames[n] for n in numbers if n in frames}
        clip_frames.there[source.name] = frames
        clip_frames.notes += [note] if note else []
    _refuse(folder, missing, strays, sources)
    if not any(clip_frames.files.values()):
        raise DataError("the data have no frame to evaluate: choose another set or split")
    return clip_frames


def _frames(
    folder: Path, source: Source, files: dict[str, str], numbers: Sequence[int]
) -> tuple[dict[int, Frame], str | None]:
    """{number: frame} of one clip and a note; no frame where there is no file."""
    videos = [name for name in files if Path(name).suffix.lower() in VIDEOS]
    if videos and len(files) > 1:
        other = next(name for name in files if name != videos[0])
        raise DataError(f"{folder}: {videos[0]} and {other} both hold frames of {source.name}: remove one kind")
    if videos:
        remark = f"{videos[0]} is a video: what its codec lost counts against the method; protocols evaluate PNG frames"
        frames = matching.frames_of_video(source, folder / videos[0])
        if assumed := next(iter(frames.values())).assumed:
            remark += (
                f"; it names no colour matrix and is read as {assumed}: a writer that took the other one (OpenCV, "
                "imageio and FFmpeg take BT.601 for RGB frames) gives lower numbers, write PNG frames or tag the file"
            )
        return frames, remark
    if not files:
        return {}, None
    numbered, note = matching.number_frames(source, files, numbers)
    return {n: Frame(folder / name) for n, name in numbered.items()}, note


def _refuse(folder: Path, missing: list[str], strays: list[str], sources: Sequence[Source]) -> None:
    if missing:
        hint = f" (there is also {strays[0]}, which the data do not name)" if strays else ""
        inner = {str(Path(n).parent.parent) for n in strays if matching.clip_of(Path(n).parent.name, sources)}
        hint += f"; did you mean predictions={folder / inner.pop()}?" if inner and inner != {"."} else ""
        raise DataError(
            f"{folder}: {len(missing)} frames are missing, the first is {missing[0]}{hint}; names must be those of the "
            "data, or numbered alike"
        )
    if strays:
        raise DataError(
            f"{folder}: {len(strays)} files are no frames of the data, the first is {strays[0]}; "
            "remove them or choose the data they belong to"
        )


def _refuse_truth(folder: Path, sources: Sequence[Source]) -> None:
    """The ground truth compared with itself gives perfect scores."""
    for source in sources:
        files = getattr(source, "hr_files", None)
        if files is not None and Path(files.folder).resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"predictions={folder} holds the ground truth of {source.name}: give the folder of the method's output "
                "(method=gt evaluates the ground truth itself)"
            )


def check_sizes(source: Source, files: dict[int, Frame]) -> None:
    """Raise DataError for a frame of another size than the ground truth; reads headers alone."""
    height, width = (source.scale * n for n in source.size)
    for frame in files.values():
        size = image_size(frame.path) if frame.video is None else frame.video.size
        if size != (height, width):
            raise DataError(
                f"{frame.path} has {size[1]}x{size[0]} pixels, {source.name} at scale={source.scale} has "
                f"{width}x{height}: frames are never resized to fit; set the scale they were made for"
            )


def pixels(frame: Frame) -> Tensor:
    """One frame, uint8 (3,H,W) RGB, of a PNG file or a video. Raises DataError as ``read`` does."""
    if frame.video is None:
        return read(frame.path)
    return rearrange(torch.tensor(frame.video[frame.position]), "h w c -> c h w").contiguous()


def read(path: Path) -> Tensor:
    """The frame of a PNG file, uint8 (3,H,W) RGB.

    Raises DataError for a file that is truncated or anything but 8-bit RGB PNG: what a library would convert
    silently (16 to 8 bit, palette, alpha, grey, JPEG) changes numbers.
    """
    values = read_image(path)
    with open(path, "rb") as file:
        header = file.read(26)
    if header[1:4] != b"PNG" or header[25] != 2:  # colour type of the IHDR chunk: 2 is RGB
        raise DataError(f"{path} is no RGB PNG: write frames as 8-bit RGB PNG")
    return rearrange(torch.tensor(values), "h w c -> c h w").contiguous()


def encode(frame: Tensor) -> bytes:
    """PNG of a frame (3,H,W) in [0,1], 8-bit RGB. Raises DataError where a value is not finite or far outside."""
    if frame.abs().max() > LARGEST:
        raise DataError(
            f"a frame has values up to {float(frame.abs().max()):.3g} instead of [0,1]: the method gave another range"
        )
    pixels = rearrange(quantise(frame), "c h w -> h w c").cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def _files(folder: Path) -> Iterable[Path]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            yield Path(parent) / name
