"""Names of metrics and media, in one place: metrics.csv, W&B, TensorBoard and dashboards all use them.

Imports nothing, so that what reads the curves needs no torch. The part before the slash is the group that W&B and
TensorBoard put a curve into.
"""

# x-axes
STEP = "trainer/global_step"  # optimiser steps, Lightning's name for it
HOURS = "perf/hours"  # wall hours of training so far, those before an interruption included

METHOD = "method_name"  # key of a W&B run's configuration; a flat one, which filters and groups take as it is

LOSS = "train/loss"
LEARNING_RATE = "train/lr"
EMA_DISTANCE = "train/ema_distance"  # of the weights from their average, relative
STEP_SECONDS = "perf/step_seconds"  # wall seconds of one optimiser step; validation and checkpoints do not count
DATA_SECONDS = "perf/data_seconds"  # of these, waiting for data
FRAME_SECONDS = "perf/val_seconds_per_frame"  # wall seconds that validation took to upscale one frame

PSNR_Y = "val/psnr_y"
SSIM_Y = "val/ssim_y"
CONSISTENCY = "val/consistency"  # only where the data know the exact motion
LPIPS = "val/lpips"  # v0.1 over VGG16, with its own weights; nothing else is ever called so
VALIDATION_LOSS = "val/loss"  # the stage's own loss, with fixed noise (``MethodModule.validation_loss``)
VALIDATION = (PSNR_Y, SSIM_Y, CONSISTENCY, LPIPS, VALIDATION_LOSS)
HIGHER = (PSNR_Y, SSIM_Y)  # of these the higher value is better

STRIP = "samples/strip"  # bicubic | output | ground truth of the middle frame
SLICE = "samples/slice"  # the same from top to bottom: one row of pixels over time
VIDEO = "samples/video"  # the same side by side, moving
MEDIA = (STRIP, SLICE, VIDEO)

VALIDATION_TABLE = "val/clips"  # a row per clip: every validation metric, and its strip
EVALUATION_TABLE = "eval/clips"  # a row per clip: every metric of the first protocol

TRAINED_PARAMETERS = "cost/trained_parameters"
PARAMETERS = "cost/parameters"  # of all networks, frozen ones included
TRAINING_HOURS = "cost/training_hours"
PEAK_MEMORY = "cost/peak_memory_gb"  # 1e9 bytes; on a CPU that of the whole process
SECONDS_PER_FRAME = "cost/seconds_per_frame"  # eval alone, as result.json has it
SAMPLER_STEPS = "cost/sampler_steps"
TRAINING_COST = (TRAINED_PARAMETERS, PARAMETERS, TRAINING_HOURS, PEAK_MEMORY)

# What dashboards look for where names depend on the method: regular expressions.
LOSS_TERMS = "^train/loss_.+"
LOGITS = "^train/logit_.+"  # what a discriminator says of real and made frames


def loss(term: str) -> str:
    """Name of one loss term's curve."""
    return f"{LOSS}_{term}"


def observed(value: str) -> str:
    """Name of another number that a method observes in training."""
    return f"train/{value}"


def evaluation(metric: str, protocol: str | None = None) -> str:
    """Name of a metric's mean over the clips that ``eval`` judged, by the metric's name in result.json.

    protocol: the id of a second protocol that judged the same frames; None: the first one.
    """
    return f"eval/{metric}" if protocol is None else f"eval/{protocol}/{metric}"


def best(metric: str) -> str:
    """Name of the best value so far of a validation metric."""
    return f"best/{metric.partition('/')[2]}"


BEST_STEP = "best/step"
