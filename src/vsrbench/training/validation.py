"""Validation while training: what is measured of a clip, and how the first few are shown."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from vsrbench.data.sources import Source
from vsrbench.errors import ConfigError
from vsrbench.metrics.frame import luma, psnr, quantise, ssim
from vsrbench.metrics.temporal import consistency, on_hr_grid
from vsrbench.nn.perceptual import feature_loss
from vsrbench.training import names
from vsrbench.training.callbacks import find
from vsrbench.training.checkpoint import RunCheckpoint
from vsrbench.training.loggers import log_media, log_table
from vsrbench.training.media import show
from vsrbench.types import Clip


class SampleStrips(pl.Callback):
    """Shows the first ``clips`` validation clips as pictures and videos, in ``samples/`` and the loggers.

    Logs the seconds that a frame took, and the hours so far, beside the metrics of the validation step.
    """

    def __init__(self, clips: int = 2) -> None:
        self.clips = clips
        self._done: list[tuple[Clip, dict[str, Any]]] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._done = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Clip, *args: Any
    ) -> None:
        self._done.append((batch.to("cpu"), outputs))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = sum(outputs["seconds"] for _, outputs in self._done)
        row = {names.FRAME_SECONDS: seconds / sum(clip.frames for clip, _ in self._done)}
        if checkpoint := find(trainer, RunCheckpoint):
            row[names.HOURS] = checkpoint.seconds / 3600
        pl_module.log_dict(row, rank_zero_only=True)  # clocks differ between ranks

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batches, self._done = self._done, []
        if trainer.sanity_checking or trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        folder, step = Path(trainer.default_root_dir) / "samples", trainer.global_step
        media = [show(clip, outputs["output"], folder, step) for clip, outputs in batches[: self.clips]]
        log_media(trainer.loggers, media, step)
        rows = [{"clip": clip.name[0], **outputs["metrics"]} for clip, outputs in batches]
        log_table(trainer.loggers, names.VALIDATION_TABLE, rows, step, media)


class Measures:
    """``measure(clip, output)``: the wanted validation metrics of one clip, by their names.

    loss(clip): what ``val/loss`` is. Raises WeightsError naming the files of LPIPS where it is wanted and they are
    absent.
    """

    def __init__(self, wanted: Sequence[str], loss: Callable[[Clip], float]) -> None:
        self.wanted, self.lpips, self.loss = tuple(wanted), lpips_network(wanted), loss

    def __call__(self, clip: Clip, output: Tensor) -> dict[str, float]:
        values = measures(clip.to("cpu"), output, self.lpips)
        if names.VALIDATION_LOSS in self.wanted:
            values[names.VALIDATION_LOSS] = self.loss(clip)
        return {key: values[key] for key in self.wanted if key in values}


def measures(clip: Clip, output: Tensor, lpips: nn.Module | None = None) -> dict[str, float]:
    """Validation metrics of one clip, means over its frames; consistency where the exact motion is known, LPIPS where
    its network is given.

    output: (1,T,3,H,W) in [0,1], judged as 8-bit frames. ours: a border of ``scale`` pixels is left out, as
    most published tables do; eval and its protocols say what counts there.
    """
    assert clip.hr is not None
    frames = quantise(output[0])
    y, truth = luma(frames), luma(quantise(clip.hr[0]))
    by_name = {
        names.PSNR_Y: psnr(y, truth, clip.scale).mean().item(),
        names.SSIM_Y: ssim(y, truth, clip.scale).mean().item(),
    }
    if clip.flow_forward is not None and clip.occlusion is not None and clip.frames > 1:
        flow, visible = on_hr_grid(clip.flow_forward[0], clip.occlusion[0, :, 0], clip.scale)
        by_name[names.CONSISTENCY] = consistency(frames.float() / 255, flow, visible).mean().item()
    if lpips is not None:
        with torch.no_grad():
            pairs = zip(frames.float() / 255, quantise(clip.hr[0]).float() / 255, strict=True)
            values = [lpips(out[None], real[None]) for out, real in pairs]
        by_name[names.LPIPS] = torch.stack(values).mean().item()
    return by_name


def lpips_network(metrics: Sequence[str]) -> nn.Module | None:
    """LPIPS where ``metrics`` name it. Raises WeightsError naming its files where they are absent.

    Never a stand-in: what is logged as LPIPS is LPIPS.
    """
    return feature_loss("lpips_vgg") if names.LPIPS in metrics else None


def check_metrics(metrics: Sequence[str], decisive: str, mode: str) -> None:
    """Raise ConfigError for a validation metric that is unknown, and a decisive one that is not measured or whose
    worst value ``mode`` would take."""
    unknown = sorted(set(metrics) - set(names.VALIDATION))
    if unknown:
        raise ConfigError(f"validation.metrics: no {', '.join(unknown)}; use some of {', '.join(names.VALIDATION)}")
    if decisive not in metrics:
        raise ConfigError(f"validation.metric={decisive}: use one of {', '.join(metrics)} (validation.metrics)")
    if mode != (better := "max" if decisive in names.HIGHER else "min"):
        raise ConfigError(f"validation.mode={mode} takes the worst {decisive}: set validation.mode={better}")


def check_length(metrics: Sequence[str], frames: int, sources: Sequence[Source], cut: int | None) -> None:
    """Raise ConfigError where val/loss is wanted and a validation clip, of which the first ``cut`` frames are read, is
    shorter than the ``frames`` of a training sample."""
    lengths = {source.name: min(cut or source.frames, source.frames) for source in sources}
    short = [name for name, length in lengths.items() if length < frames]
    if names.VALIDATION_LOSS in metrics and short:
        raise ConfigError(
            f"val/loss needs {frames} frames of a clip (train.frames), of {short[0]} there are {lengths[short[0]]}: "
            f"set validation.frames={frames} or more, or leave val/loss out of validation.metrics"
        )
