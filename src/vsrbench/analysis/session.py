"""What every analysis does alike: build the method, sample the chosen clips, measure each step, count."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vsrbench.analysis.recording import Recording, Span, check_method, choose_clips, record
from vsrbench.analysis.report import Nested
from vsrbench.config import build, build_method
from vsrbench.diffusion.noise import Noise
from vsrbench.types import Progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

Measure = Callable[[Recording, int, Span], Nested]  # (recording, step, its span) -> names to numbers


@dataclass
class Session:
    """One analysis of one configuration. Raises what ``check_method`` and ``choose_clips`` raise, before sampling.

    warps: whether flows are needed. sampling, measuring: told of the two kinds of work.
    """

    cfg: "DictConfig"
    warps: bool
    sampling: Progress
    measuring: Progress
    frame_counts: dict[str, int] = field(default_factory=dict)  # frames per clip
    timesteps: list[int] = field(default_factory=list)
    channels: int = 0

    def __post_init__(self) -> None:
        self.cfg = copy.deepcopy(self.cfg)  # use_factor changes it
        self.method: Any = build_method(self.cfg)
        check_method(self.method, self.cfg.task, self.warps)
        self.sources = choose_clips(build(self.cfg.data), self.cfg.analysis)
        self.noise = Noise(int(self.cfg.seed))

    @property
    def factor(self) -> float:
        """s of the configuration: ``method.rescale``, else the scale (Supp. Sec. 5: s = 4, 8, 16 for x4, x8, x16)."""
        return float(self.cfg.method.get("rescale", self.cfg.scale))

    def use_factor(self, factor: float) -> None:
        """Sample with another s from now on, where the method has one."""
        if "rescale" in self.cfg.method:
            self.cfg.method.rescale = factor
            self.method = build_method(self.cfg)

    def recordings(self) -> Iterator[Recording]:
        """The chosen clips, sampled one after the other."""
        for source in self.sources:
            clip = source.read(0, source.frames)
            recording = record(self.method, clip, self.noise, self.warps, self.sampling)
            self.frame_counts[recording.name] = recording.frames
            self.timesteps, self.channels = recording.timesteps, recording.x0[0].shape[1]
            yield recording

    def measured(self, measure: Measure, spans: dict[str, Span] | None = None) -> dict[str, dict[str, Nested]]:
        """{clip: {timestep: what ``measure`` gave}}. spans: those to use again, by clip; new ones are added."""
        spans = {} if spans is None else spans
        records: dict[str, dict[str, Nested]] = {}
        for clip in self.recordings():
            span = spans.setdefault(clip.name, Span.of(clip.x0))
            self.measuring.start(len(clip.timesteps), f"steps of {clip.name}")
            records[clip.name] = {}
            for step, t in enumerate(clip.timesteps):
                records[clip.name][str(t)] = measure(clip, step, span)
                self.measuring.advance()
        return records

    def counts(self) -> dict[str, Any]:
        """What the numbers rest on; groups: one channel of one pair at one step."""
        pairs = sum(self.frame_counts.values()) - len(self.frame_counts)
        return {
            "clips": len(self.frame_counts), "frames": sum(self.frame_counts.values()), "pairs": pairs,
            "steps": len(self.timesteps), "channels": self.channels,
            "groups": pairs * len(self.timesteps) * self.channels,
        }  # fmt: skip


def over_clips_and_steps(records: dict[str, dict[str, Nested]]) -> list[Nested]:
    """All records of ``Session.measured``; every clip has the same steps, so their mean is the mean of clip means."""
    return [record for steps in records.values() for record in steps.values()]


def over_clips(records: dict[str, dict[str, Nested]], t: str) -> list[Nested]:
    """The records of one timestep."""
    return [steps[t] for steps in records.values()]
