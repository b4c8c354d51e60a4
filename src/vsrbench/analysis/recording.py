"""x0 of every diffusion step of a real sampling run, clip by clip, with the flows that belong to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vsrbench.data.sources import Source
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.errors import ConfigError, DataError
from vsrbench.methods.base import Method
from vsrbench.methods.padding import pad
from vsrbench.types import Clip, Progress


class Data(Protocol):
    """A data set as the analyses need it."""

    def clips(self, split: str) -> list[Source]: ...


class X0Recorder:
    """Trace that keeps x0 (B,T,4,h,w) of every step on the CPU; what concerns single frames is passed over."""

    def __init__(self) -> None:
        self.steps: dict[int, Tensor] = {}

    def on_step(self, step: int, frame: int | None, x0: Tensor | None = None, **others: Tensor) -> None:
        if frame is None and x0 is not None:
            self.steps[step] = x0.detach().float().cpu()


@dataclass(frozen=True)
class Recording:
    """x0: one (T,4,h,w) per visited timestep, noisiest first. to_previous: flow[i→i-1] of frames 1..T-1,
    (T-1,2,H,W) in pixels of that grid; None where the analysis warps nothing. All on the CPU."""

    name: str
    timesteps: list[int]
    x0: list[Tensor]
    to_previous: Tensor | None

    @property
    def frames(self) -> int:
        return len(self.x0[0])

    def pairs(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(x0 of the previous frame (1,4,h,w), flow[frame→previous] (1,2,H,W)) for every frame but the first."""
        assert self.to_previous is not None
        for i, flow in enumerate(self.to_previous):
            yield self.x0[step][i : i + 1], flow[None]


def check_method(method: Method, task: str, warps: bool) -> None:
    """Raise ConfigError for a method without latent features, or without flows where the task warps."""
    missing = [n for n in ("prior", "sampler", *(["flows"] if warps else [])) if not hasattr(method, n)]
    if missing:
        latent, flow = "latent features (dgaf, stablevsr, ldm)", "latent features and optical flow (dgaf, stablevsr)"
        requirement = flow if warps else latent
        raise ConfigError(f"task={task} needs a method with {requirement}")


def choose_clips(data: Data, node: Mapping[str, Any]) -> list[Source]:
    """The clips named by ``analysis.clips``, cut to ``analysis.frames``.

    Raises DataError for an unknown clip or one without two frames, ConfigError for fewer than two frames asked for.
    """
    if node["frames"] is not None and node["frames"] < 2:
        raise ConfigError(f"analysis.frames={node['frames']}: adjacent frames are compared, two are needed")
    sources = data.clips(node["split"])
    names = [s.name for s in sources]
    unknown = sorted(set(node["clips"] or ()) - set(names))
    if unknown:
        raise DataError(f"analysis.clips: no clip {', '.join(unknown)}; there are {', '.join(names)}")
    sources_used = [s.first(node["frames"]) for s in sources if not node["clips"] or s.name in node["clips"]]
    if not sources_used:
        raise DataError(f"no clip in split {node['split']!r}: choose another data set, or analysis.split")
    for source in sources_used:
        if source.frames < 2:
            raise DataError(
                f"clip {source.name} has one frame: adjacent frames are compared, two are needed; "
                "name other clips with analysis.clips=[...]"
            )
    return sources_used


@torch.inference_mode()
def record(method: Any, clip: Clip, noise: NoiseSource, flows: bool, progress: Progress | None = None) -> Recording:
    """Sample a clip (B = 1), whole, and keep x0 of every step; frames are padded as for upscaling, and cropped again.

    method: one that ``check_method`` lets pass. Raises ConfigError where the method shows no x0 of the whole clip.
    """
    padded, noise = pad(clip, method, noise)
    trace = X0Recorder()
    method.upscale(padded, noise, trace=trace, progress=progress)
    timesteps = method.sampler.timesteps(method.prior.schedule)
    if sorted(trace.steps) != list(range(len(timesteps))):
        raise ConfigError("this method and variant show no x0 of whole clips: use method=dgaf variant=paper")
    wanted, full = clip.lr.shape[-2:], padded.lr.shape[-2:]
    to_previous = None
    if flows:
        bank = method.flows(padded)
        stacked = torch.cat([bank.flow_to(i, i - 1) for i in range(1, clip.frames)])
        to_previous = _cropped(stacked, wanted, full).float().cpu()
    x0 = [_cropped(trace.steps[step][0], wanted, full) for step in sorted(trace.steps)]
    return Recording(clip.name[0], timesteps, x0, to_previous)


def _cropped(x: Tensor, wanted: tuple[int, ...], full: tuple[int, ...]) -> Tensor:
    """Without the padding; x lives on a grid that is a whole multiple of the padded LR frame's, or any other."""
    height, width = (round(n * w / f) for n, w, f in zip(x.shape[-2:], wanted, full, strict=True))
    return x[..., :height, :width].contiguous()


@dataclass(frozen=True)
class Span:
    """The affine map that maps latents (...,4,h,w) to [0,1], channel by channel.

    ours: the paper does not say to what range latents are mapped. The smallest and largest value of the clip become 0
    and 1, over all frames and steps, so that steps can be compared.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, x0: list[Tensor]) -> "Span":
        """From one (T,4,h,w) per step."""
        low = torch.stack([x.amin(dim=(0, 2, 3)) for x in x0]).amin(0)
        high = torch.stack([x.amax(dim=(0, 2, 3)) for x in x0]).amax(0)
        return cls(low.view(-1, 1, 1), high.view(-1, 1, 1))

    def unit(self, x: Tensor) -> Tensor:
        """To [0,1]; a channel of one value becomes 0."""
        width = self.high - self.low
        return (x - self.low) / torch.where(width > 0, width, 1)
