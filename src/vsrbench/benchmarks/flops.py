"""``task=flops``: floating-point operations per output frame by part; no network is really run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from vsrbench.benchmarks.report import Report, headline, numbers, show, steps, tabulate
from vsrbench.benchmarks.shapes import REDS, clip_length, lr_size, random_clip, without_weights
from vsrbench.compat import fake_tensors
from vsrbench.config import build
from vsrbench.errors import ConfigError
from vsrbench.methods.base import Method

if TYPE_CHECKING:
    from omegaconf import DictConfig

NOTES = [
    "One multiply-add is 2 FLOP. Convolutions, linear layers and attention are counted, normalisation and activations "
    "are not; empty lines are no networks (interpolation, warping, classical flow).",
]
TERA = 1e12
COLUMNS = numbers({
    "unit": ("TFLOP per unit", "{:.4g}"), "times": ("units per frame", "{:.4g}"),
    "frame": ("TFLOP per frame", "{:.4g}"), "share": ("%", "{:.2f}"),
})  # fmt: skip


def run(cfg: "DictConfig") -> None:
    """Print the table. Raises ConfigError for methods that cannot be counted and sizes they cannot take."""
    show(measure(cfg), cfg.output)


def measure(cfg: "DictConfig") -> Report:
    """Counted on tensors without content, at 720p output unless ``bench.height`` and ``bench.width`` say otherwise."""
    method = fake(cfg)
    if type(method).work is Method.work:
        raise ConfigError(f"method={cfg.method.name} names no networks to count: task=speed times it as a whole")
    size, frames = lr_size(cfg, method, as_published=True), clip_length(cfg, REDS[2])
    work = method.work(random_clip(size, frames, int(cfg.scale)))
    units = {name: flops(item.run) if item.network else None for name, item in work.items()}
    rows = tabulate(work, {name: None if count is None else count / TERA for name, count in units.items()})
    facts = {"frames of the clip": frames, **steps(cfg)}
    return Report("flops", headline(cfg, size, []), COLUMNS, rows, NOTES, facts)


def fake(cfg: "DictConfig") -> Method:
    """The method with parameters that have shapes and no content: what meets them is not computed either."""
    with fake_tensors():
        method: Method = build(without_weights(cfg).method)
    return method.eval()


def flops(run: Callable[[], object]) -> int:
    """FLOPs of everything that ``run`` computes, a multiply-add counted as 2."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # attention as matrix products: the counter does not know the fused operator of the CPU
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
