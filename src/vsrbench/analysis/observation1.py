"""DGAF-VSR's Observation 1 (Figure 1): are latent features of adjacent frames more alike than the frames?"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vsrbench.analysis import paper
from vsrbench.analysis.correlation import MEASURES, correlation
from vsrbench.analysis.recording import Recording, Span
from vsrbench.analysis.report import Found, Table
from vsrbench.analysis.session import Session, over_clips, over_clips_and_steps
from vsrbench.analysis.values import Nested, gain, mean
from vsrbench.errors import ConfigError
from vsrbench.metrics.frame import PEAK

NAMES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "f_entropy": "F(H)", "f_sigma": "F(sigma)"}


def correlations(session: Session) -> Found:
    """Figure 1: x0 of adjacent frames against the frames that the VAE decodes from them, unaligned, per step."""
    bins = int(session.cfg.analysis.bins)
    if bins < 2:
        raise ConfigError(f"analysis.bins={bins}: use 2 or more")

    def measure(clip: Recording, step: int, span: Span) -> Nested:
        features = [span.unit(x) * PEAK for x in clip.x0[step]]
        latent = mean(correlation(a, b, bins) for a, b in adjacent(iter(features)))
        pixel = mean(correlation(a, b, bins) for a, b in adjacent(decoded(session.method, clip.x0[step])))
        return {"features": latent, "frames": pixel}

    found = session.measured(measure)
    steps = {str(t): mean(over_clips(found, str(t))) for t in session.timesteps}
    average = mean(over_clips_and_steps(found))
    gains = {m: gain(average["features"][m], average["frames"][m]) for m in MEASURES}
    values = {"average": average, "gain_percent": gains, "steps": steps, "clips": found}
    printed = paper.CORRELATION["gain_percent"]
    overall = [[NAMES[m], average["features"][m], average["frames"][m], gains[m], printed[m]] for m in MEASURES]
    head = ["features", "frames", "gain (%)"]
    single = [
        [f"t = {t}, {NAMES[m]}", s["features"][m], s["frames"][m], gain(s["features"][m], s["frames"][m])]
        for t, s in steps.items()
        for m in MEASURES
    ]
    tables = [
        Table("Adjacent features against adjacent frames, all steps", ["measure", *head, "paper's gain (%)"], overall),
        Table("The same, step by step", ["step, measure", *head], single),
    ]
    return Found(values, tables, paper.CORRELATION, session.counts())


def adjacent(variables: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """(frame, previous frame) of a sequence of which only two are held."""
    previous = next(variables)
    for current in variables:
        yield current, previous
        previous = current


@torch.inference_mode()
def decoded(method: Any, x0: Tensor) -> Iterator[Tensor]:
    """Frames (3,4h,4w) in 0..255 of latents (T,4,h,w), clamped like output, each decoded when it is asked for."""
    for latent in x0:
        with method.autocast():
            frame = method.prior.decode(latent[None].to(method.device))
        yield frame[0].float().clamp(0, 1).cpu() * PEAK
