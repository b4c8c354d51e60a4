"""What ``vsrbench.demo`` is made of: steps that call the other commands in one process, announced and remembered as a
user would type them; ground truth as PNG files; a short video with a tone.
"""

import hashlib
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from vsrbench.config import compose
from vsrbench.data.colour import Colour
from vsrbench.data.sources import Source
from vsrbench.errors import ConfigError
from vsrbench.evaluation.frames import encode
from vsrbench.inference.reader import FrameTime, VideoFormat
from vsrbench.inference.writer import Audio, VideoWriter
from vsrbench.runs import write_atomic

RATE = Fraction(25)
PITCH, SAMPLES = 440, 48_000  # Hz
PASSED_ON = ("size", "seed", "force", "inference.device", "inference.precision")
TAKEN = (*PASSED_ON, "runs", "name")


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise ConfigError for a setting that no step would see."""
    for argument in arguments:
        if argument.split("=")[0] not in (*TAKEN, "verb"):
            raise ConfigError(f"the demo has no setting {argument}: it takes {', '.join(TAKEN)}")


class Steps:
    """Runs commands with the demo's settings.

    verbs: what runs each command. runs: folder for their run folders. total: number of steps to announce.
    commands: (what, command line) of those run so far.
    """

    def __init__(
        self, cfg: DictConfig, verbs: Mapping[str, Callable[[DictConfig], Any]], runs: Path, total: int
    ) -> None:
        usual = compose([], "demo")
        changed = [key for key in PASSED_ON if OmegaConf.select(cfg, key) != OmegaConf.select(usual, key)]
        passed = [f"{key}={OmegaConf.select(cfg, key)}" for key in dict.fromkeys(["size", *changed])]
        self.common = ["data=sample", *passed, f"runs={runs}"]
        self.verbs, self.console = verbs, Console()
        self.total, self.number = total, 0
        self.commands: list[tuple[str, str]] = []

    def say(self, what: str) -> None:
        """Announce the next step."""
        self.number += 1
        self.console.rule(f"{self.number}/{self.total} {what}", align="left")

    def do(self, what: str, verb: str, arguments: Sequence[str], skip: bool = False) -> Any:
        """Announce and run ``python -m vsrbench.VERB``; returns what it returns: train and eval, the run folder.

        skip: only remember the command, for a step whose output is there already.
        """
        self.say(what)
        self.commands.append((what, shlex.join(["python", "-m", f"vsrbench.{verb}", *arguments, *self.common])))
        if skip:
            self.console.print("done before: force=true does it again")
            return None
        return self.verbs[verb](compose([*arguments, *self.common], verb))


def save_truth(sources: Sequence[Source], folder: Path) -> None:
    """Write the HR frames as ``<folder>/<clip>/<frame>.png``; files that are there are kept."""
    for source in sources:
        paths = [folder / source.name / f"{stem}.png" for stem in source.frame_names]
        if not all(path.is_file() for path in paths):
            frames = source.read(0, source.frames).hr
            assert frames is not None, "the sample has ground truth"
            for path, frame in zip(paths, frames[0], strict=True):
                write_atomic(path, encode(frame))


def there_and_back(frames: Tensor, times: int) -> Tensor:
    """(T,...) played forwards and backwards ``times`` times, without a jump: a longer video from a short clip."""
    last = frames.shape[0] - 1
    order = [*range(last + 1), *range(last - 1, 0, -1)] * times
    return frames[order]


def save_video(path: Path, frames: Tensor, settings: Any) -> None:
    """Frames (T,3,h,w) in [0,1] as a video with a tone. settings: the config node ``video``."""
    size = (frames.shape[2], frames.shape[3])
    video_format = VideoFormat(RATE, 1 / RATE, Fraction(1), Colour.usual(size[0]), bits=8)
    with tempfile.TemporaryDirectory() as folder:
        save_tone(Path(folder) / "tone.mp4", float(len(frames) / RATE))
        audio = Audio(Path(folder) / "tone.mp4")
        with VideoWriter(path, size, video_format, settings, audio) as writer:
            for number, frame in enumerate(frames):
                writer.write(frame, FrameTime(number / RATE, 1 / RATE))
            writer.finish(cut=False)


def save_tone(path: Path, seconds: float) -> None:
    """A quiet sine tone, AAC."""
    wave = 0.05 * np.sin(2 * np.pi * PITCH * np.arange(round(seconds * SAMPLES)) / SAMPLES)
    sound = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
    sound.sample_rate = SAMPLES
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=SAMPLES, layout="mono")
        for packet in [*stream.encode(sound), *stream.encode(None)]:
            file.mux(packet)


def facts(path: Path) -> dict[str, str]:
    """Size, frames, rate and audio of a video file as a reader sees them; equal audio has an equal fingerprint."""
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        frames = sum(1 for _ in file.decode(video))
        properties = {"size": f"{video.width}x{video.height}", "frames": str(frames), "rate": f"{video.average_rate}/s"}
    with av.open(str(path)) as file:
        packets = [bytes(packet) for packet in file.demux(audio=0)] if file.streams.audio else []
        codec = file.streams.audio[0].codec_context.name if file.streams.audio else "none"
    digest = hashlib.blake2b(b"".join(packets), digest_size=4).hexdigest()
    return properties | {"audio": f"{codec}, fingerprint {digest}" if packets else codec}
