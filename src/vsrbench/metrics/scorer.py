"""All metrics of a protocol over the frames of a clip, a batch at a time on the device; shared work is done once.

A value is a number, one line why there is none, or None where the metric does not apply.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from vsrbench.errors import ConfigError, DataError
from vsrbench.flow.estimators import Farneback
from vsrbench.metrics import changes, drift, temporal
from vsrbench.metrics.catalog import METRICS
from vsrbench.metrics.chunk import Chunk
from vsrbench.metrics.dover import Dover, why_no_dover
from vsrbench.metrics.features import VGGFeatures
from vsrbench.metrics.flows import estimator
from vsrbench.metrics.frame import LUMAS, psnr, sharpness, ssim
from vsrbench.metrics.masks import RULES, visible
from vsrbench.metrics.perceptual import RECIPES, Lpips, Perceptual, create, too_small, why_unavailable
from vsrbench.metrics.sets import InceptionFeatures, frechet
from vsrbench.metrics.vmaf import Vmaf, why_no_vmaf
from vsrbench.nn.perceptual import RandomFeatures
from vsrbench.types import Clip

Outcome: TypeAlias = float | str | None

LPIPS_OF = {"tlpips_tecogan": "lpips_alex", "tlpips_stablevsr": "lpips_alex"}
SCENE = ("consistency", "we_lai", "ewarp_thesis")  # under the scene's motion
ESTIMATED = ("ewarp", "rwe", "we", "tof_stablevsr")  # under motion that has to be estimated
NOTHING_VISIBLE = "no pixel is visible in both frames of a pair"


@dataclass(frozen=True)
class Settings:
    """Switches of metrics; each belongs into a protocol, except ``flow_weights``, a file.

    crop: pixels left out on each side, of PSNR, SSIM and sharpness. channel: what lpips_* and dists of single frames
    see, "rgb" or "luma" (DGAF-VSR on Vid4). luma: of psnr_y, ssim_y and that, a name of ``frame.LUMAS``. scene_flow:
    "exact", "estimated" or "exact_or_estimated", the motion of consistency, we_lai and ewarp_thesis. flow: the
    estimator, a name of ``flows.FLOWS``. mask: of ewarp and rwe, a rule of ``masks.RULES``. chunk: frames per chunk,
    of chunk_seam; None: the worst place.
    Raises ConfigError for a value that is none of these.
    """

    crop: int = 0
    channel: str = "rgb"
    luma: str = "bt601_studio"
    scene_flow: str = "exact_or_estimated"
    flow: str = "dis"
    flow_weights: str | None = None
    mask: str = "occlusion"
    chunk: int | None = None

    def __post_init__(self) -> None:
        choices = {
            "channel": ("rgb", "luma"), "scene_flow": ("exact", "estimated", "exact_or_estimated"), "mask": RULES,
            "luma": LUMAS,
        }  # fmt: skip
        for switch, allowed in choices.items():
            if getattr(self, switch) not in allowed:
                raise ConfigError(f"protocol.{switch}={getattr(self, switch)}: use {' or '.join(allowed)}")


class Scorer:
    """Made once per evaluation, before the first frame is read; ``unavailable`` says what cannot be computed and why.

    names: of ``catalog.METRICS``. device: where networks, PSNR and SSIM run. folder, verify: as in
    ``perceptual.create``. Raises ConfigError for an unknown name.
    """

    def __init__(
        self,
        names: Iterable[str],
        settings: Settings | None = None,
        device: str = "cpu",
        folder: Path | None = None,
        verify: bool = True,
    ) -> None:
        self.names, self.settings, self.device = tuple(names), settings or Settings(), device
        unknown = [name for name in self.names if name not in METRICS]
        if unknown:
            raise ConfigError(f"protocol.metrics: unknown {unknown[0]!r}; known are {', '.join(METRICS)}")
        networks = {LPIPS_OF.get(name, name) for name in self.names}
        self.nets = create((n for n in RECIPES if n in networks and METRICS[n].kind == "frame"), device, folder, verify)
        self.flow = estimator(self.settings.flow, self.settings.flow_weights, device)
        self.released = self.flow
        if self.settings.flow == "raft" and {"we", "tof_stablevsr"} & networks:
            self.released = estimator("raft", self.settings.flow_weights, device, released=True)
        self.farneback = Farneback()
        self.unavailable = {name: reason for name in self.names if (reason := self._why_not(name, folder, verify))}
        available = set(self.names) - self.unavailable.keys()
        self.vgg = VGGFeatures(folder).to(device) if "ewarp_thesis" in available else None
        self.inception = InceptionFeatures(device, folder) if "fid" in available else None
        self.dover = Dover(device, folder) if "dover" in available else None
        self.vmaf = Vmaf(device) if "vmaf" in available else None
        self.random = RandomFeatures().to(device) if "random_features" in available else None
        self.features: dict[str, list[Tensor]] = {"out": [], "truth": []}

    def _why_not(self, name: str, folder: Path | None, verify: bool) -> str | None:
        net = self.nets.get(LPIPS_OF.get(name, name))
        if isinstance(net, str):
            return net
        if name in ("fid", "ewarp_thesis"):
            return why_unavailable(name, folder, verify)
        if name == "dover":
            return why_no_dover(folder)
        if name == "vmaf":
            return why_no_vmaf()
        return self.flow if name in ESTIMATED and isinstance(self.flow, str) else None

    def clip(self) -> "ClipScorer":
        """A fresh account for one clip."""
        return ClipScorer(self)

    def set_values(self) -> dict[str, Outcome]:
        """Metrics of all frames of all clips so far; ``features`` holds what they rest on, for gathering over ranks."""
        if "fid" not in self.names:
            return {}
        if "fid" in self.unavailable:
            return {"fid": self.unavailable["fid"]}
        out, truth = (torch.cat(parts) if parts else torch.zeros(0) for parts in self.features.values())
        return {"fid": frechet(out, truth) if min(len(out), len(truth)) > 1 else None}


class ClipScorer:
    """Values of one clip; frames come front to back in batches.

    motion: behind consistency, we_lai and ewarp_thesis: "exact", "estimated" or "not_applicable".
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.motion = scorer, "not_applicable"
        self.reasons = dict(scorer.unavailable)  # why a metric has no value here
        self.values: dict[str, list[Outcome]] = {name: [] for name in scorer.names if METRICS[name].kind != "set"}
        self.casts: list[Tensor] = []
        self.changes: list[Tensor] = []
        self.frames: list[Tensor] = []
        self.truths: list[Tensor] = []
        self.has_truth = False

    @torch.no_grad()
    def add(self, out: Tensor, data: Clip, overlap: int = 0) -> None:
        """Evaluate the next frames and the pairs between them.

        out: uint8 (N,3,H,W). data: the same N frames, one sample, with what is known of them. overlap: 1 where the
        first frame was the last of the call before, so that only its pair is new; 0 at the start and behind a gap.
        Raises DataError for frames that do not fit the data.
        """
        scorer = self.scorer
        if out.dtype != torch.uint8 or len(out) != data.frames or len(data.name) != 1 or overlap not in (0, 1):
            raise DataError(f"{len(out)} frames of {out.dtype} do not fit one clip of {data.frames} frames and uint8")
        chunk = Chunk(
            out.to(scorer.device),
            data.to(scorer.device),
            scorer.settings.scene_flow,
            scorer.flow,
            scorer.released,
            scorer.settings.luma,
        )
        new = slice(overlap, None)
        self.has_truth = "truth" in chunk.bytes
        for name in self.values.keys() - self.reasons.keys():
            net = LPIPS_OF.get(name, name)
            if net in RECIPES and (reason := too_small(net, *out.shape[-2:])):
                self.reasons[name] = reason
        for name, values in self.values.items():
            if METRICS[name].kind == "frame" and len(out) > overlap:
                values += self._outcomes(name, partial(self._frame, name, chunk, new), len(out) - overlap)
            elif METRICS[name].kind == "pair" and len(out) > 1:
                values += self._pairs(name, chunk)
        self._keep(chunk, new)

    def finish(self) -> dict[str, list[Outcome]]:
        """{name: one value per frame, or per pair, or a single one for metrics of a clip}."""
        for name, values in self.values.items():
            skip = METRICS[name].skip
            if skip:
                last = len(values) - skip
                values[:] = [value if skip <= n < last else None for n, value in enumerate(values)]
            if METRICS[name].kind == "clip":
                values[:] = [self.scorer.unavailable.get(name) or self._clip(name)]
        return self.values

    def _outcomes(self, name: str, make: Callable[[], Tensor], count: int) -> list[Outcome]:
        if name in self.reasons:
            return [self.reasons[name]] * count
        if METRICS[name].reference and not self.has_truth:
            return [None] * count
        return list(make().tolist())

    def _frame(self, name: str, chunk: Chunk, new: slice) -> Tensor:
        """Values of the chunk's new frames."""
        crop = self.scorer.settings.crop
        if name == "colour_shift":
            return drift.colour_shift(self._casts(chunk)[new])
        if name in self.scorer.nets:
            return self._learned(name, chunk, new)
        if self.scorer.random is not None and name == "random_features":
            pairs = zip(*(chunk.pixels(w)[new].split(1) for w in ("out", "truth")), strict=True)
            return torch.stack([self.scorer.random(*pair) for pair in pairs]).double()
        out, truth = (chunk.bytes[w] if name.endswith("_rgb") else chunk.luma(w) for w in ("out", "truth"))
        if name == "sharpness":
            return sharpness(out[new], truth[new], crop)
        return {"psnr": psnr, "ssim": ssim}[name.split("_")[0]](out[new], truth[new], crop)

    def _learned(self, name: str, chunk: Chunk, new: slice) -> Tensor:
        net, channel = self.scorer.nets[name], self.scorer.settings.channel
        assert isinstance(net, Perceptual)
        if not net.reference:
            return net.batch(chunk.pixels("out")[new])
        if isinstance(net, Lpips) and name == "lpips_alex" and "tlpips_stablevsr" in self.scorer.names:
            out, truth = ([x[new] for x in chunk.features(w, net, channel)] for w in ("out", "truth"))
            return net.distance(out, truth)
        return net.batch(chunk.image("out", channel)[new], chunk.image("truth", channel)[new])

    def _pairs(self, name: str, chunk: Chunk) -> list[Outcome]:
        count = len(chunk.bytes["out"]) - 1
        if name in SCENE:
            self.motion = chunk.scene
            if chunk.scene == "not_applicable":
                return [None] * count
            if chunk.scene == "estimated" and isinstance(self.scorer.flow, str):
                return [self.scorer.flow] * count
        if name not in (*SCENE, "ewarp", "rwe", "we"):
            return self._outcomes(name, partial(self._change, name, chunk), count)
        if name in self.reasons or (METRICS[name].reference and not self.has_truth):
            return self._outcomes(name, lambda: torch.zeros(0), count)
        frames, flow, mask, function = self._warped(name, chunk)
        empty = ~mask.flatten(1).any(1)
        errors = function(frames, flow, mask | empty.view(-1, 1, 1)).tolist()
        return [NOTHING_VISIBLE if none else value for none, value in zip(empty.tolist(), errors, strict=True)]

    def _warped(self, name: str, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor, Callable[..., Tensor]]:
        """Frames, flow, mask and formula of a warping error."""
        if name == "we":
            back, forward = (chunk.flow("truth", forward, "released") for forward in (False, True))
            return chunk.pixels("out"), back, visible(back, forward, "stablevsr"), temporal.stablevsr
        if name in ("ewarp", "rwe"):
            frames = chunk.pixels("out" if name == "ewarp" else "truth")
            return frames, *chunk.motion("out", self.scorer.settings.mask), temporal.warping_error
        if name == "ewarp_thesis":
            assert self.scorer.vgg is not None
            return self.scorer.vgg(chunk.pixels("out")), *chunk.scene_motion(), temporal.features
        if name == "we_lai":
            return chunk.pixels("out"), *chunk.scene_motion("lai"), temporal.lai
        return chunk.pixels("out"), *chunk.scene_motion(), temporal.consistency

    def _change(self, name: str, chunk: Chunk) -> Tensor:
        """Values (N-1,) of metrics that compare the change of the output with the change of the ground truth."""
        if name == "error_change":
            return self._error_change(chunk)
        if name == "tof_stablevsr":
            return changes.tof_stablevsr(*(chunk.flow(who, False, "released") for who in ("out", "truth")))
        if name == "tof_tecogan":
            pixels = [chunk.pixels(who) for who in ("out", "truth")]
            return changes.tof_tecogan(*(self.scorer.farneback(x[:-1], x[1:]) for x in pixels))
        net = self.scorer.nets[LPIPS_OF[name]]
        assert isinstance(net, Lpips)
        function = changes.tlpips_tecogan if name == "tlpips_tecogan" else changes.tlpips_stablevsr
        return function(*(chunk.neighbours(who, net, name == "tlpips_tecogan") for who in ("out", "truth")))

    def _casts(self, chunk: Chunk) -> Tensor:
        return chunk.once("casts", lambda: drift.cast(chunk.pixels("out"), chunk.data.lr[0]))

    def _error_change(self, chunk: Chunk) -> Tensor:
        return chunk.once("change", lambda: drift.error_change(chunk.pixels("out"), chunk.pixels("truth")))

    def _keep(self, chunk: Chunk, new: slice) -> None:
        """What metrics of the whole clip or the whole set rest on."""
        if "colour_drift" in self.values:
            self.casts.append(self._casts(chunk)[new])
        if "chunk_seam" in self.values and self.has_truth:
            self.changes.append(self._error_change(chunk))
        if self.scorer.dover is not None or self.scorer.vmaf is not None:
            self.frames.append(chunk.bytes["out"][new].cpu())
        if self.scorer.vmaf is not None and self.has_truth:
            self.truths.append(chunk.bytes["truth"][new].cpu())
        if self.scorer.inception is not None and self.has_truth:
            for who, features in self.scorer.features.items():
                features.append(self.scorer.inception(chunk.bytes[who][new]))

    def _clip(self, name: str) -> Outcome:
        if name == "dover":
            assert self.scorer.dover is not None
            return self.scorer.dover(torch.cat(self.frames))
        if name == "vmaf":
            assert self.scorer.vmaf is not None
            return self.scorer.vmaf(torch.cat(self.frames), torch.cat(self.truths)) if self.truths else None
        if name == "colour_drift":
            casts = torch.cat(self.casts) if self.casts else torch.zeros(0, 3)
            return drift.colour_drift(casts) if len(casts) > 1 else None
        changes = torch.cat(self.changes) if self.changes else torch.zeros(0)
        return drift.chunk_seam(changes, self.scorer.settings.chunk) if len(changes) else None
