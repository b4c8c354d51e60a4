"""Every metric by name: what it is a value of, which way is better, what it needs. Imports no torch."""

from dataclasses import dataclass

KINDS = ("frame", "pair", "clip", "set")


@dataclass(frozen=True)
class Metric:
    """One metric; docs/metrics.md has its formula and source.

    kind: what has one value: a frame, a pair of frames t and t+1, a clip, or the whole set. better: "lower" or
    "higher". reference: it needs ground truth. unit: of the value as it is given. skip: frames at either end of a
    clip that do not count.
    """

    kind: str
    better: str
    reference: bool
    unit: str
    skip: int = 0


METRICS = {
    "psnr_rgb": Metric("frame", "higher", True, "dB"),
    "ssim_rgb": Metric("frame", "higher", True, "1"),
    "psnr_y": Metric("frame", "higher", True, "dB"),
    "ssim_y": Metric("frame", "higher", True, "1"),
    "sharpness": Metric("frame", "higher", True, "1"),
    "lpips_alex": Metric("frame", "lower", True, "1"),
    "lpips_vgg": Metric("frame", "lower", True, "1"),
    "stlpips_alex": Metric("frame", "lower", True, "1"),
    "stlpips_vgg": Metric("frame", "lower", True, "1"),
    "dists": Metric("frame", "lower", True, "1"),
    "random_features": Metric("frame", "lower", True, "1"),
    "musiq": Metric("frame", "higher", False, "1"),
    "clipiqa": Metric("frame", "higher", False, "1"),
    "niqe": Metric("frame", "lower", False, "1"),
    "niqe_basicsr": Metric("frame", "lower", False, "1"),
    "colour_shift": Metric("frame", "lower", False, "8-bit levels"),
    "consistency": Metric("pair", "lower", False, "1e-3"),
    "ewarp": Metric("pair", "lower", False, "1e-3"),
    "rwe": Metric("pair", "lower", True, "1e-3"),
    "we": Metric("pair", "lower", True, "1e-3"),
    "we_lai": Metric("pair", "lower", False, "1e-3"),
    "ewarp_thesis": Metric("pair", "lower", False, "1e-3"),
    "tof_tecogan": Metric("pair", "lower", True, "pixels", skip=2),
    "tof_stablevsr": Metric("pair", "lower", True, "0.1 pixels"),
    "tlpips_tecogan": Metric("pair", "lower", True, "1e-2", skip=2),
    "tlpips_stablevsr": Metric("pair", "lower", True, "1e-3"),
    "error_change": Metric("pair", "lower", True, "8-bit levels"),
    "colour_drift": Metric("clip", "lower", False, "8-bit levels"),
    "chunk_seam": Metric("clip", "lower", True, "8-bit levels"),
    "vmaf": Metric("clip", "higher", True, "1"),
    "dover": Metric("clip", "higher", False, "1"),
    "fid": Metric("set", "lower", True, "1"),
}


def of_kind(kind: str) -> tuple[str, ...]:
    """The names of one kind, in the catalogue's order."""
    return tuple(name for name, metric in METRICS.items() if metric.kind == kind)
