"""``task=metrics``: frames per second of batched scoring, beside a plain loop over frames that calls the same library.

The metrics are those of ``protocol``, with default switches and DIS flow. The loop is what evaluation scripts do: one
frame or pair at a time, each metric by itself, flows and features again for each.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from omegaconf import OmegaConf
from torch import Tensor

from vsrbench.benchmarks.dummy_weights import fill
from vsrbench.benchmarks.report import Report, device_name, numbers, show
from vsrbench.benchmarks.shapes import passes
from vsrbench.benchmarks.speed import synchronise
from vsrbench.config import build
from vsrbench.errors import ConfigError, DataError
from vsrbench.evaluation.protocol import from_settings
from vsrbench.flow.estimators import DIS, Farneback
from vsrbench.metrics import changes, drift, temporal
from vsrbench.metrics.catalog import METRICS
from vsrbench.metrics.frame import luma, psnr, quantise, sharpness, ssim
from vsrbench.metrics.masks import visible
from vsrbench.metrics.perceptual import RECIPES, Lpips, Perceptual, why_unavailable
from vsrbench.metrics.scorer import Scorer
from vsrbench.nn.imresize import imresize
from vsrbench.progress import Bars
from vsrbench.types import Clip, Progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

Ways: TypeAlias = dict[str, Callable[[], dict[str, list[Any]]]]
FRAMES, BATCH = 16, 8  # ours: frames of the clip, and of a batch
TOGETHER = "all together"
CLOSE = 1e-4  # largest relative difference between the two ways: float32 convolutions of other shapes
COLUMNS = numbers({
    "loop": ("frames/s, loop", "{:.3g}"), "batched": ("frames/s, batched", "{:.3g}"), "gain": ("gain", "{:.2f}"),
    "loop_cpu": ("CPU s/frame, loop", "{:.3g}"), "batched_cpu": ("CPU s/frame, batched", "{:.3g}"),
    "difference": ("largest relative difference", "{:.0e}"),
})  # fmt: skip
NOTES = (
    "Both ways give the same values. The loop calls each metric by itself for one frame or pair at a time. "
    "Medians of the passes. CPU seconds are those of the process: other work on the machine hardly changes them.",
    f"{TOGETHER}: all metrics in one pass; batched scoring then shares flows, luma and LPIPS's features.",
)


def run(cfg: "DictConfig") -> None:
    """Print the table. Raises ConfigError for a protocol without a metric that can be measured."""
    with Bars() as bars:
        report = measure(cfg, bars.row())
    show(report, cfg.output)


def measure(cfg: "DictConfig", progress: Progress | None = None) -> Report:
    """Every metric alone, then all of them, ``bench.repeats`` times after ``bench.warmup`` passes."""
    repeats, warmup = passes(cfg)
    device = _device(str(cfg.inference.device))
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    protocol = from_settings(settings)[0]
    out, data, name = material(cfg, device)
    with tempfile.TemporaryDirectory(prefix="dummy-weights-") as folder:
        selection = [name for name in protocol.metrics if METRICS[name].kind in ("frame", "pair")]
        random = fill(Path(folder), [n for n in RECIPES if n in {*selection, *_nets(selection)}])
        scorer = Scorer(selection, device=str(device), folder=Path(folder), verify=False)
        rows, absent = [], {n: why_unavailable(n) if n in RECIPES else r for n, r in scorer.unavailable.items()}
        names = [name for name in selection if name not in absent]
        if not names:
            raise ConfigError(f"protocol={protocol.id} has no metric to measure: {absent or 'none of frames or pairs'}")
        if progress is not None:
            progress.start((warmup + repeats) * 2 * (len(names) + 1), "passes")
        for group in [*([n] for n in names), names]:
            single = Scorer(group, device=str(device), folder=Path(folder), verify=False)
            plain = Loop(single, out, data)
            ways: Ways = {"loop": plain.score, "batched": partial(batched, single, out, data)}
            rows.append(_row(group, ways, len(out), device, repeats, warmup, progress))
    facts = {
        "device": device_name(device), "clip": name, "frames": len(out), "HR frame": f"{out.shape[-1]}x{out.shape[-2]}",
        "batch": BATCH, "passes": repeats,
    }  # fmt: skip
    notes = [*NOTES, *(f"{n} left out: {reason}" for n, reason in absent.items())]
    notes += [f"random weights, so its values mean nothing: {', '.join(random)}"] if random else []
    return Report("metrics", f"scoring, metrics of protocol={protocol.id}", COLUMNS, rows, notes, facts)


def material(cfg: "DictConfig", device: torch.device) -> tuple[Tensor, Clip, str]:
    """The first test clip of the data and its bicubic enlargement. Raises DataError for data without ground truth."""
    source = build(cfg.data).clips("test")[0]
    frames = min(source.frames, FRAMES if cfg.bench.frames is None else int(cfg.bench.frames))
    if frames < 2 or not source.has_hr:
        raise DataError(f"{source.name}: task=metrics needs a clip of two frames or more with ground truth")
    data = source.read(0, frames).to(device)
    return quantise(imresize(data.lr[0].double(), data.scale)), data, f"{cfg.data.set}/{source.name}"


def batched(scorer: Scorer, out: Tensor, data: Clip) -> dict[str, list[Any]]:
    """As evaluation does: batches that share a frame."""
    clip = scorer.clip()
    for start in range(0, len(out), BATCH):
        first = max(start - 1, 0)
        clip.add(out[first : start + BATCH], data.window(first, start + BATCH), overlap=start - first)
    return clip.finish()


class Loop:
    """The plain way; nets are the scorer's, so that both call the same networks."""

    def __init__(self, scorer: Scorer, out: Tensor, data: Clip) -> None:
        assert data.hr is not None
        self.nets, self.names, self.data = scorer.nets, scorer.names, data
        self.vgg = scorer.vgg
        self.bytes = (out, quantise(data.hr[0]))

    def score(self) -> dict[str, list[float]]:
        """{name: a value per frame or pair}; the pairs that TecoGAN leaves out are computed too."""
        values: dict[str, list[float]] = {}
        for name in self.names:
            count = len(self.bytes[0]) - (METRICS[name].kind == "pair")
            make = self.frame if METRICS[name].kind == "frame" else self.pair
            values[name] = [float(make(name, i)) for i in range(count)]
        return values

    def frame(self, name: str, i: int) -> Tensor | float:
        out, truth = (x[i] for x in self.bytes)
        net = self.nets.get(name)
        if isinstance(net, Perceptual):
            return net.net(*(x[None] / 255 for x in ((out, truth) if net.reference else (out,))))
        if name == "colour_shift":
            return drift.colour_shift(drift.cast(out[None] / 255, self.data.lr[:, i]))
        if not name.endswith("_rgb"):
            out, truth = luma(out), luma(truth)
        functions: dict[str, Callable[..., Tensor]] = {"psnr": psnr, "ssim": ssim, "sharpness": sharpness}
        return functions[name.split("_")[0]](out, truth)

    def pair(self, name: str, i: int) -> Tensor | float:
        out, truth = (x[i : i + 2] / 255 for x in self.bytes)
        if name in ("ewarp", "rwe"):
            return temporal.warping_error(out if name == "ewarp" else truth, *temporal.estimated(out, DIS()))
        if name == "we":
            back, forward = DIS()(truth[1:], truth[:1]), DIS()(truth[:1], truth[1:])
            return temporal.stablevsr(out, back, visible(back, forward, "stablevsr"))
        if name in ("consistency", "we_lai", "ewarp_thesis"):
            frames = self.vgg(out) if self.vgg is not None and name == "ewarp_thesis" else out
            formulas = {"consistency": temporal.consistency, "we_lai": temporal.lai, "ewarp_thesis": temporal.features}
            return formulas[name](frames, *self.scene(truth, i, "lai" if name == "we_lai" else "occlusion"))
        if name == "tof_tecogan":
            return changes.tof_tecogan(*(Farneback()(x[:1], x[1:]) for x in (out, truth)))
        if name == "tof_stablevsr":
            return changes.tof_stablevsr(*(DIS()(x[1:], x[:1]) for x in (out, truth)))
        if name == "error_change":
            return drift.error_change(out, truth)
        net = self.nets["lpips_alex"]
        assert isinstance(net, Lpips)
        cut = changes.inner if name == "tlpips_tecogan" else lambda x: x
        distances = [net.net(cut(x[:1]), cut(x[1:])) for x in (out, truth)]
        return getattr(changes, name)(*distances)

    def scene(self, truth: Tensor, i: int, mask: str) -> tuple[Tensor, Tensor]:
        """The scene's motion, exact where the data know it."""
        if self.data.flow_forward is None or self.data.occlusion is None:
            return temporal.estimated(truth, DIS(), mask)
        flow, hidden = self.data.flow_forward[0, i : i + 1], self.data.occlusion[0, i : i + 1, 0]
        return temporal.on_hr_grid(flow, hidden, self.data.scale)


def _row(
    names: list[str],
    ways: Ways,
    frames: int,
    device: torch.device,
    repeats: int,
    warmup: int,
    progress: Progress | None,
) -> dict[str, Any]:
    values: dict[str, dict[str, list[Any]]] = {}
    wall: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(warmup + repeats):
        for way, score in ways.items():  # in turn, so that what else the machine does hits both
            synchronise(device)
            started, busy = time.perf_counter(), time.process_time()
            with torch.inference_mode():
                values[way] = score()
            synchronise(device)
            wall[way].append(time.perf_counter() - started)
            cpu[way].append(time.process_time() - busy)
            if progress is not None:
                progress.advance()
    rates = {way: frames / median(seconds[warmup:]) for way, seconds in wall.items()}
    work = {f"{way}_cpu": median(seconds[warmup:]) / frames for way, seconds in cpu.items()}
    part = names[0] if len(names) == 1 else TOGETHER
    return {
        "part": part,
        **rates,
        "gain": rates["batched"] / rates["loop"],
        **work,
        "difference": _differ(names, values),
    }


def _differ(names: list[str], values: dict[str, dict[str, list[Any]]]) -> float:
    """Largest relative difference. Raises DataError where the two ways disagree: no speed counts then."""
    largest = 0.0
    for name in names:
        for a, b in zip(values["loop"][name], values["batched"][name], strict=True):
            if b is not None and a != b:  # None: TecoGAN leaves the pair out
                largest = max(largest, abs(a - b) / max(abs(a), 1e-3))
        if largest > CLOSE:
            raise DataError(f"{name}: batched scoring and the plain loop differ by {largest:.0e}, relatively")
    return largest


def _nets(names: list[str]) -> set[str]:
    return {"lpips_alex"} if any(name.startswith("tlpips") for name in names) else set()


def _device(name: str) -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)
