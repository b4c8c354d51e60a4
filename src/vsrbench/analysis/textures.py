"""What StableVSR's temporal texture rests on: x_t and x0 over the steps (Figure 3), and where to warp (Figure 4).

Everything is decoded by the prior's VAE, as guidance is, and measured on whole frames in grey levels (0..255).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vsrbench.analysis.report import Nested, Result, Table
from vsrbench.analysis.session import Session
from vsrbench.analysis.strength import Strength, high_pass, high_pass_strength
from vsrbench.data.sources import Source
from vsrbench.diffusion.frames import initial_latents, on_prior_grid
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.errors import ConfigError, DataError
from vsrbench.flow.rescaled import on_grid
from vsrbench.flow.warp import warp
from vsrbench.methods.padding import pad
from vsrbench.metrics.frame import PEAK, luma, psnr
from vsrbench.types import Clip

PAPER: dict[str, Any] = {
    "reference": "StableVSR Sec. 4.2, Figures 3 and 4 (pictures, no numbers)",
    "setting": "Stable Diffusion x4 upscaler, 50 DDPM steps, RAFT; frame and clip are not named",
    "says": "x0 holds very little noise at any t, comes closer to the last x0 and gains detail as t falls, while x_t "
    "is noise until t is near 0; motion compensation of the latent leaves visible artifacts, that of the decoded frame "
    "does not",
}
WAYS = {"latent": "latent warped", "pixel": "decoded, warped"}


@dataclass
class Recorder:
    """Trace that keeps x0 and what x became after every step, of two frames (neighbour, frame): (2,4,h,w) each."""

    frames: list[int]
    x0: list[Tensor] = field(default_factory=list)
    following: list[Tensor] = field(default_factory=list)

    def on_step(
        self, step: int, frame: int | None, x0: Tensor | None = None, x: Tensor | None = None, **others: Tensor
    ) -> None:
        if frame is None and x0 is not None and x is not None:
            self.x0.append(x0[0, self.frames].detach().float())
            self.following.append(x[0, self.frames].detach().float())


@dataclass(frozen=True)
class Run:
    """One frame of a sampled clip and the frame before it.

    x, x0: per visited timestep (2,4,h,w), the neighbour first; x is what the step starts from. flow: flow[frame →
    neighbour] (1,2,H,W). size: (H,W) of the decoded frame without padding. truth: (3,H,W) in 0..255, or None.
    """

    name: str
    timesteps: list[int]
    x: list[Tensor]
    x0: list[Tensor]
    flow: Tensor
    size: tuple[int, int]
    truth: Tensor | None


@torch.inference_mode()
def sampled(session: Session, source: Source, frame: int) -> Run:
    """Sample a clip, whole, and keep what concerns a frame and the one before it, padding included.

    Raises ConfigError where the method takes no step on all frames before the next.
    """
    method, clip = session.method, source.read(0, source.frames)
    padded, noise = pad(clip, method, session.noise)
    trace = Recorder([frame - 1, frame])
    method.upscale(padded, noise, trace=trace, progress=session.sampling)
    timesteps = method.sampler.timesteps(method.prior.schedule)
    if len(trace.x0) != len(timesteps):
        raise ConfigError("task=textures needs a method that takes each step on all frames before the next")
    first = first_latents(session, padded, noise)[0, trace.frames]
    session.frame_counts[source.name], session.timesteps, session.channels = source.frames, timesteps, 3
    height, width = (source.scale * n for n in clip.lr.shape[-2:])
    return Run(
        source.name,
        timesteps,
        [first.float(), *trace.following[:-1]],
        trace.x0,
        method.flows(padded).flow_to(frame, frame - 1),
        (height, width),
        None if clip.hr is None else clip.hr[0, frame] * PEAK,
    )


def first_latents(session: Session, padded: Clip, noise: NoiseSource) -> Tensor:
    """x at the first visited timestep (B,T,4,h,w): the same draws as in sampling, since noise is keyed."""
    method = session.method
    clip = on_prior_grid(padded, session.cfg.method.get("lr_enlargement", "bicubic"))
    with method.autocast():
        return initial_latents(method.prior, method.sampler, clip, noise, method.batch)


@dataclass(frozen=True)
class Measures:
    """Decodes, warps and measures. align, padding: of the warp. strength: the high-pass filter."""

    method: Any
    run: Run
    strength: Strength
    align: str
    padding: str

    @torch.inference_mode()
    def decoded(self, latent: Tensor) -> Tensor:
        """RGB (3,H,W) in 0..255 of a latent (1,4,h,w), with the padding still there."""
        with self.method.autocast():
            return self.method.prior.decode(latent)[0].float() * PEAK

    def frame(self, decoded: Tensor) -> Tensor:
        """Without padding, clamped like output, on the CPU."""
        height, width = self.run.size
        return decoded[:, :height, :width].clamp(0, PEAK).cpu()

    def warped(self, image: Tensor) -> Tensor:
        """The neighbour's (1,C,h,w) on the frame's grid."""
        flow = on_grid(self.run.flow, (image.shape[-2], image.shape[-1])).to(image)
        return warp(image, flow, self.align, self.padding)

    def compensated(self, step: int) -> dict[str, Tensor]:
        """The neighbour's texture on the frame's grid (3,H,W), both ways of Figure 4."""
        latent = self.run.x0[step][:1]
        return {
            "latent": self.frame(self.decoded(self.warped(latent))),
            "pixel": self.frame(self.warped(self.decoded(latent)[None])[0]),
        }

    def detail(self, frame: Tensor) -> Tensor:
        """High frequencies of the luma (H,W) of a frame (3,H,W), in grey levels.

        ours: what the figure's fourth column shows is not said. The threshold is that of the other analyses, a sixth
        of a cycle per pixel of the frame's shorter side, above what the LR frame can hold (an eighth).
        """
        y = luma(frame)[0]
        return high_pass(y, self.strength.radius(y))

    def energy(self, frame: Tensor) -> float:
        """High-frequency energy per pixel in squared grey levels, or its share (``analysis.highpass.measure``)."""
        y = luma(frame)[0]
        return high_pass_strength(y, self.strength.radius(y), self.strength.highpass).item()


def textures(session: Session) -> Result:
    """Figures 3 and 4 for one frame of the first clip: a table over t and a few pictures."""
    node = session.cfg.analysis
    place, source = node.textures, session.sources[0]
    strength = Strength.from_config(node)
    if not 1 <= place.frame < source.frames:
        raise DataError(
            f"analysis.textures.frame={place.frame}: {source.name} gives frames 1 to {source.frames - 1}; "
            "frame 0 has no previous frame, and analysis.frames limits the last"
        )
    if place.steps < 1:
        raise ConfigError(f"analysis.textures.steps={place.steps}: use 1 or more")
    run = sampled(session, source, int(place.frame))
    measures = Measures(session.method, run, strength, node.align, node.padding)
    last = measures.frame(measures.decoded(run.x0[-1][1:]))
    reference = last if run.truth is None else run.truth
    pictured_steps, crop = pictured(len(run.timesteps), int(place.steps)), centre(run.size, place.crop)
    values: Nested = {}
    pictures: dict[str, dict[str, Any]] = {}
    session.measuring.start(len(run.timesteps), f"steps of {run.name}")
    for step, t in enumerate(run.timesteps):
        x_t, x0 = (measures.frame(measures.decoded(latents[step][1:])) for latents in (run.x, run.x0))
        ways = measures.compensated(step)
        values[str(t)] = step_values(measures, x_t, x0, last, ways, reference)
        if step in pictured_steps:
            away, detail = (x0 - last).abs().mean(0), measures.detail(x0).abs()
            pictures[f"t = {t}"] = drawable(crop, x_t=x_t, x0=x0, distance=away, detail=detail)
        session.measuring.advance()
    errors = {f"{way}_error": (frame - reference).abs().mean(0) for way, frame in ways.items()}
    pictures["warp"] = drawable(crop, **ways, **errors)
    against = "the last x0" if run.truth is None else "the ground truth"
    record = {"clip": run.name, "frame": int(place.frame), "reference": against, "steps": values}
    return Result(record, tables(record, strength.highpass), PAPER, counts(session, int(place.frame)), pictures)


def step_values(
    measures: Measures, x_t: Tensor, x0: Tensor, last: Tensor, ways: dict[str, Tensor], reference: Tensor
) -> Nested:
    """All numbers of one step; frames (3,H,W) in 0..255."""
    return {
        "distance": mae(x0, last),
        "distance_x_t": mae(x_t, last),
        "highpass": {"x_t": measures.energy(x_t), "x0": measures.energy(x0)},
        "warp": {
            way: {
                "mae": mae(frame, reference),
                "psnr": psnr(frame, reference).item(),
                "highpass": measures.energy(frame),
            }
            for way, frame in ways.items()
        },
    }


def tables(record: Nested, measure: str) -> list[Table]:
    """Figure 3 and Figure 4 as numbers, one row per step."""
    where = f"{record['clip']}, frame {record['frame']}"
    unit = "energy" if measure == "energy" else "share"
    three = [
        [f"t = {t}", v["distance_x_t"], v["distance"], v["highpass"]["x_t"], v["highpass"]["x0"]]
        for t, v in record["steps"].items()
    ]
    four = [
        [f"t = {t}", *(v["warp"][way][m] for m in ("mae", "psnr", "highpass") for way in WAYS)]
        for t, v in record["steps"].items()
    ]
    columns = [f"{name}, {text}" for name in ("MAE", "PSNR", unit) for text in WAYS.values()]
    return [
        Table(
            f"Figure 3, {where}: mean distance to the last x0 (grey levels) and high-frequency {unit}",
            ["step", "distance of x_t", "distance of x0", f"{unit} of x_t", f"{unit} of x0"],
            three,
        ),
        Table(
            f"Figure 4, {where}: x0 of frame {record['frame'] - 1} warped there, its latent warped, then decoded, or "
            f"decoded, then warped; against {record['reference']}",
            ["step", *columns],
            four,
        ),
    ]


def counts(session: Session, frame: int) -> dict[str, Any]:
    """What the numbers rest on."""
    numbers = {**session.counts(), "pairs": 1, "groups": len(session.timesteps)}
    frames, steps = sum(session.frame_counts.values()), len(session.timesteps)
    basis = f"frame {frame} of one clip sampled with {frames} frames, {steps} steps"
    return {**numbers, "measured": f"{basis}; means over the pixels and colours of the whole frame, decoded"}


def mae(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference."""
    return (a - b).abs().mean().item()


def pictured(steps: int, count: int) -> list[int]:
    """``count`` steps, evenly, the first and the last among them; all where there are fewer. One: the last."""
    if count == 1:
        return [steps - 1]
    return sorted({round(n * (steps - 1) / (count - 1)) for n in range(count)})


def centre(size: tuple[int, int], side: int | None) -> tuple[slice, slice]:
    """The middle ``side`` pixels of a frame (H,W), at most what there is; None: all of it."""

    def middle(whole: int) -> slice:
        length = min(side or whole, whole)
        return slice((whole - length) // 2, (whole - length) // 2 + length)

    return middle(size[0]), middle(size[1])


def drawable(crop: tuple[slice, slice], **images: Tensor) -> dict[str, Any]:
    """Frames (3,H,W) and maps (H,W) in grey levels as arrays (h,w,3) and (h,w): frames in [0,1], maps as they are."""
    return {name: picture(image[(..., *crop)]) for name, image in images.items()}


def picture(image: Tensor) -> Any:
    """One of them."""
    return (rearrange(image, "c h w -> h w c") / PEAK).numpy() if image.ndim == 3 else image.numpy()
