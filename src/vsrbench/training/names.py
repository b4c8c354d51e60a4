"""Names of metrics and media, in one place: metrics.csv, W&B, TensorBoard and dashboards all use them.

Imports nothing, so that what reads the curves needs no torch.
"""

LOSS = "train/loss"
LEARNING_RATE = "train/lr"
STEP_SECONDS = "perf/step_seconds"  # wall seconds of one optimiser step; validation and checkpoints do not count
DATA_SECONDS = "perf/data_seconds"  # of these, waiting for data
EMA_DISTANCE = "train/ema_distance"  # of the weights from their average, relative
PSNR_Y = "val/psnr_y"
SSIM_Y = "val/ssim_y"
CONSISTENCY = "val/consistency"  # only where the data know the exact motion
STRIP = "samples/strip"

VALIDATION = (PSNR_Y, SSIM_Y, CONSISTENCY)


def loss(term: str) -> str:
    """Name of one loss term's curve."""
    return f"{LOSS}_{term}"


def observed(value: str) -> str:
    """Name of another number that a method observes in training."""
    return f"train/{value}"
