"""Validation while training: sample a few clips, measure them, show them, tell which weights are the best."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, DataError
from vsrbench.methods.base import Method
from vsrbench.metrics.frame import luma, psnr, quantise, ssim
from vsrbench.metrics.temporal import consistency, on_hr_grid
from vsrbench.nn.perceptual import feature_loss
from vsrbench.training import names
from vsrbench.training.callbacks import AfterStep, Averaging
from vsrbench.training.checkpoints import Checkpoints
from vsrbench.training.loggers import log_media, log_table
from vsrbench.training.media import show
from vsrbench.training.sharding import ShardedStrategy
from vsrbench.types import Clip, Progress


class Source(Protocol):
    """A clip of the data set that is read on demand."""

    name: str

    @property
    def frames(self) -> int: ...

    def read(self, start: int, stop: int) -> Clip: ...


class Validation(AfterStep):
    """Every ``every`` steps and at the end: upscale the first ``frames`` frames of ``sources``.

    The averaged weights are used where there is an average, and always the same noise, so that pictures of
    different steps can be compared. Runs on rank 0 while the other ranks wait.
    strips: so many clips are written as pictures and videos to ``samples`` (None: none of them).
    metrics: names of those to log; lpips: the network where ``names.LPIPS`` is among them.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        every: int,
        frames: int,
        noise: Noise,
        averaging: Averaging | None = None,
        checkpoints: Checkpoints | None = None,
        samples: Path | None = None,
        strips: int = 0,
        progress: Progress | None = None,
        metrics: Sequence[str] = names.VALIDATION,
        lpips: nn.Module | None = None,
    ) -> None:
        self.wanted, self.lpips = tuple(metrics), lpips
        self.sources, self.every, self.frames, self.noise = sources, every, frames, noise
        self.averaging, self.checkpoints = averaging, checkpoints
        self.samples, self.strips, self.progress = samples, strips, progress
        self.metrics: dict[str, float] = {}
        self._clips: list[Clip] = []
        self._measured = -1

    def after_step(self, trainer: pl.Trainer, method: Method, step: int) -> None:
        if self.every and step % self.every == 0 and step < trainer.max_steps:
            self.measure(trainer, method, step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not where training was told to stop before its end: there may be no time left.
        assert isinstance(pl_module, Method)
        stopped = trainer.should_stop and trainer.global_step < trainer.max_steps and not pl_module.ended
        if not stopped and self._measured != trainer.global_step:
            self.measure(trainer, pl_module, trainer.global_step)

    def measure(self, trainer: pl.Trainer, method: Method, step: int) -> None:
        """Sample, log, write strips, offer the weights to the checkpoint callback; nothing where there are no clips."""
        if not self.sources:
            return
        self._measured = step
        # Sharded networks run on all ranks or on none.
        if trainer.is_global_zero or isinstance(trainer.strategy, ShardedStrategy):
            self._clips = self._clips or [read_clip(s, self.frames) for s in self.sources]
            training = method.training
            method.eval()
            with nullcontext() if self.averaging is None else self.averaging.applied(method):
                started = time.perf_counter()
                outputs = [self._upscaled(method, clip) for clip in self._clips]
                seconds = time.perf_counter() - started
                if trainer.is_global_zero:
                    self._report(trainer, outputs, seconds, step)
                    if self.checkpoints is not None:
                        self.checkpoints.offer(method, self.metrics, step)
            method.train(training)
        trainer.strategy.barrier("validation")

    def state_dict(self) -> dict[str, Any]:
        # A run that is killed between its last checkpoint and its result measures nothing when it goes on.
        return {"metrics": self.metrics, "step": self._measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics, self._measured = dict(state_dict["metrics"]), int(state_dict["step"])

    @torch.no_grad()
    def _upscaled(self, method: Method, clip: Clip) -> Tensor:
        return method.upscale(clip.to(method.device), self.noise, progress=self.progress).float().cpu()

    def _report(self, trainer: pl.Trainer, outputs: list[Tensor], seconds: float, step: int) -> None:
        """Means to all loggers; per clip, pictures and videos to those that show them."""
        pairs = list(zip(self._clips, outputs, strict=True))
        found = [measures(clip, output, self.lpips) for clip, output in pairs]
        self.metrics = {key: sum(m[key] for m in found) / len(found) for key in self.wanted if key in found[0]}
        row = {**self.metrics, names.FRAME_SECONDS: seconds / sum(clip.frames for clip in self._clips)}
        if self.checkpoints is not None:
            row[names.HOURS] = self.checkpoints.seconds / 3600
        for logger in trainer.loggers:
            logger.log_metrics(row, step)
        if self.samples is None:
            return
        shown = [show(clip, output, self.samples, step) for clip, output in pairs[: self.strips]]
        log_media(trainer.loggers, shown, step)
        rows = [{"clip": c.name[0], **{k: m[k] for k in self.metrics}} for c, m in zip(self._clips, found, strict=True)]
        log_table(trainer.loggers, names.VALIDATION_TABLE, rows, step, shown)


def read_clip(source: Source, frames: int) -> Clip:
    """The first ``frames`` frames. Raises DataError where there is no ground truth to compare with."""
    clip = source.read(0, min(frames, source.frames))
    if clip.hr is None:
        raise DataError(f"validation clip {source.name} has no ground truth (HR): choose another data set")
    return clip


def measures(clip: Clip, output: Tensor, lpips: nn.Module | None = None) -> dict[str, float]:
    """Validation metrics of one clip, means over its frames; consistency where the exact motion is known, LPIPS where
    its network is given.

    output: (1,T,3,H,W) in [0,1], judged as 8-bit frames. ours: a border of ``scale`` pixels is left out, as
    most published tables do; eval and its protocols say what counts there.
    """
    assert clip.hr is not None
    frames = quantise(output[0])
    y, truth = luma(frames), luma(quantise(clip.hr[0]))
    found = {
        names.PSNR_Y: psnr(y, truth, clip.scale).mean().item(),
        names.SSIM_Y: ssim(y, truth, clip.scale).mean().item(),
    }
    if clip.flow_forward is not None and clip.occlusion is not None and clip.frames > 1:
        flow, visible = on_hr_grid(clip.flow_forward[0], clip.occlusion[0, :, 0], clip.scale)
        found[names.CONSISTENCY] = consistency(frames.float() / 255, flow, visible).mean().item()
    if lpips is not None:
        with torch.no_grad():
            pairs = zip(frames.float() / 255, quantise(clip.hr[0]).float() / 255, strict=True)
            values = [lpips(out[None], real[None]) for out, real in pairs]
        found[names.LPIPS] = torch.stack(values).mean().item()
    return found


def lpips_network(metrics: Sequence[str]) -> nn.Module | None:
    """LPIPS where ``metrics`` name it. Raises WeightsError naming its files where they are absent.

    Never a stand-in: what is logged as LPIPS is LPIPS.
    """
    return feature_loss("lpips_vgg") if names.LPIPS in metrics else None


def check_metrics(metrics: Sequence[str], decisive: str) -> None:
    """Raise ConfigError for a validation metric that is unknown, or a decisive one that is not measured."""
    unknown = sorted(set(metrics) - set(names.VALIDATION))
    if unknown:
        raise ConfigError(f"validation.metrics: no {', '.join(unknown)}; use some of {', '.join(names.VALIDATION)}")
    if decisive not in metrics:
        raise ConfigError(f"validation.metric={decisive}: use one of {', '.join(metrics)} (validation.metrics)")
