"""Validation while training: sample a few clips, measure them, show them, tell which weights are the best."""

import io
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from vsrbench.diffusion.noise import Noise
from vsrbench.errors import DataError
from vsrbench.methods.base import Method
from vsrbench.metrics.frame import luma, psnr, quantise, ssim
from vsrbench.metrics.temporal import consistency, on_hr_grid
from vsrbench.nn.imresize import imresize
from vsrbench.runs import write_atomic
from vsrbench.training import names
from vsrbench.training.callbacks import AfterStep, Averaging
from vsrbench.training.checkpoints import Checkpoints
from vsrbench.training.loggers import log_pictures
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
    strips: so many clips are written as pictures to ``samples`` (None: no pictures).
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
    ) -> None:
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
        if not trainer.should_stop and self._measured != trainer.global_step:
            assert isinstance(pl_module, Method)
            self.measure(trainer, pl_module, trainer.global_step)

    def measure(self, trainer: pl.Trainer, method: Method, step: int) -> None:
        """Sample, log, write strips, offer the weights to the checkpoint callback."""
        self._measured = step
        if trainer.is_global_zero:
            self._clips = self._clips or [read_clip(s, self.frames) for s in self.sources]
            training = method.training
            method.eval()
            with nullcontext() if self.averaging is None else self.averaging.applied(method):
                outputs = [self._upscaled(method, clip) for clip in self._clips]
                self._report(trainer, outputs, step)
                if self.checkpoints is not None:
                    self.checkpoints.offer(method, self.metrics, step)
            method.train(training)
        trainer.strategy.barrier("validation")

    @torch.no_grad()
    def _upscaled(self, method: Method, clip: Clip) -> Tensor:
        return method.upscale(clip.to(method.device), self.noise, progress=self.progress).float().cpu()

    def _report(self, trainer: pl.Trainer, outputs: list[Tensor], step: int) -> None:
        found = [measures(clip, output) for clip, output in zip(self._clips, outputs, strict=True)]
        self.metrics = {key: sum(m[key] for m in found) / len(found) for key in names.VALIDATION if key in found[0]}
        for logger in trainer.loggers:
            logger.log_metrics(self.metrics, step)
        if self.samples is None:
            return
        shown = list(zip(self._clips, outputs, strict=True))[: self.strips]
        pictures = {clip.name[0]: strip(clip, output) for clip, output in shown}
        for name, picture in pictures.items():
            write_png(self.samples / f"step_{step:06d}_{name.replace('/', '_')}.png", picture)
        log_pictures(trainer.loggers, pictures, step)


def read_clip(source: Source, frames: int) -> Clip:
    """The first ``frames`` frames. Raises DataError where there is no ground truth to compare with."""
    clip = source.read(0, min(frames, source.frames))
    if clip.hr is None:
        raise DataError(f"validation clip {source.name} has no ground truth (HR): choose another data set")
    return clip


def measures(clip: Clip, output: Tensor) -> dict[str, float]:
    """Validation metrics of one clip, means over its frames; consistency where the exact motion is known.

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
    return found


def strip(clip: Clip, output: Tensor) -> np.ndarray:
    """Bicubic | output | ground truth of the middle frame, side by side: uint8 (H,3W,3)."""
    assert clip.hr is not None
    middle = clip.frames // 2
    bicubic = imresize(clip.lr[0, middle], clip.scale).clamp(0, 1)
    row = torch.cat([bicubic, output[0, middle], clip.hr[0, middle]], dim=-1)
    return quantise(row).permute(1, 2, 0).numpy()


def write_png(path: Path, picture: Any) -> None:
    """Write a uint8 picture (H,W,3). Raises RunError where the folder cannot be written."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format="png")
    write_atomic(path, data.getvalue())
