"""Are latent features of adjacent frames more alike than the frames (DGAF-VSR Sec. 3.2, Observation 1, Figure 1)?

Variables come as (...,C,H,W) in 0..255. ours: features and frames share that range. On [0,1] the reported gain of
F(sigma) could not be: sigma is at most 0.5 there, which bounds the gain by 50 %, and 106.50 % is reported.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vsrbench.analysis.recording import Recording, Span
from vsrbench.analysis.report import SETTING, Nested, Result, Table, gain, mean
from vsrbench.analysis.session import Session, over_clips, over_clips_and_steps
from vsrbench.errors import ConfigError
from vsrbench.metrics.frame import PEAK, psnr, ssim

MEASURES = ("psnr", "ssim", "f_entropy", "f_sigma")
NAMES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "f_entropy": "F(H)", "f_sigma": "F(sigma)"}
PAPER: dict[str, Any] = {
    "reference": "DGAF-VSR Sec. 3.2, Observation 1, Figure 1",
    "setting": SETTING,
    "gain_percent": {"psnr": 13.53, "ssim": 22.61, "f_entropy": 10.81, "f_sigma": 106.50},
    "single_steps": "PSNR +25.06 % at t = 981; F(sigma) 2.1 times at t = 1",
}


def correlations(session: Session) -> Result:
    """Figure 1: x0 of adjacent frames against the frames that the VAE decodes from them, unaligned, per step."""
    bins = int(session.cfg.analysis.bins)
    if bins < 2:
        raise ConfigError(f"analysis.bins={bins}: use 2 or more")

    def measure(clip: Recording, step: int, span: Span) -> Nested:
        features = [span.unit(x) * PEAK for x in clip.x0[step]]
        latent = mean(correlation(a, b, bins) for a, b in adjacent(iter(features)))
        pixel = mean(correlation(a, b, bins) for a, b in adjacent(decoded(session.method, clip.x0[step])))
        return {"features": latent, "frames": pixel}

    records = session.measured(measure)
    steps = {str(t): mean(over_clips(records, str(t))) for t in session.timesteps}
    average = mean(over_clips_and_steps(records))
    gains = {m: gain(average["features"][m], average["frames"][m]) for m in MEASURES}
    values = {"average": average, "gain_percent": gains, "steps": steps, "clips": records}
    reported = PAPER["gain_percent"]
    overall = [[NAMES[m], average["features"][m], average["frames"][m], gains[m], reported[m]] for m in MEASURES]
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
    return Result(values, tables, PAPER, session.counts())


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


def histograms(x: Tensor, bins: int = 256) -> Tensor:
    """Shares of the values per image and channel: (...,C,bins) from (...,C,H,W) in 0..255.

    ours: one is added to every bin, so that no share is zero and the logarithm always exists.
    """
    places = (x.clamp(0, PEAK) * (bins / PEAK)).long().clamp(max=bins - 1).flatten(-2)
    counts = torch.ones(*places.shape[:-1], bins, dtype=torch.float64, device=x.device)
    counts.scatter_add_(-1, places, torch.ones_like(places, dtype=torch.float64))
    return counts / counts.sum(dim=-1, keepdim=True)


def cross_entropy(a: Tensor, b: Tensor, bins: int = 256) -> Tensor:
    """H = -sum p_a log p_b in nats over the two histograms, mean over channels: (...) from (...,C,H,W) in 0..255.

    For a given it is least where b has the same histogram. ours: bins and base are not reported.
    """
    return -(histograms(a, bins) * histograms(b, bins).log()).sum(-1).mean(-1)


def sigma(x: Tensor) -> Tensor:
    """Standard deviation over the pixels of each channel, mean over channels: (...) from (...,C,H,W)."""
    return x.double().std(dim=(-2, -1), correction=0).mean(-1)


def transformed(value: Tensor) -> Tensor:
    """F(v) = 1 / (1 + v), which turns "less is more correlated" round (Sec. 3.2)."""
    return 1 / (1 + value)


def correlation(a: Tensor, b: Tensor, bins: int = 256) -> dict[str, float]:
    """All four measures of one adjacent pair (C,H,W) in 0..255; PSNR in dB, infinite where the two are equal.

    F(sigma) concerns single variables: the mean of the two.
    """
    return {
        "psnr": psnr(a, b).item(),
        "ssim": ssim(a, b).item(),
        "f_entropy": transformed(cross_entropy(a, b, bins)).item(),
        "f_sigma": (transformed(sigma(a)) + transformed(sigma(b))).item() / 2,
    }
