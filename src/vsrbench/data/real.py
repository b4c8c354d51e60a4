"""Degradations of real films: blur, resizing, noise, JPEG and video compression, twice, drawn anew for every clip.

The second-order pipeline is Real-ESRGAN's (Wang et al., ICCVW 2021, Sec. 3), with RealBasicVSR's additions for video
(Chan et al., CVPR 2022, Sec. 4.1): parameters drift slowly from frame to frame, and clips are compressed as video.
Pictures are float32 (H,W,3) RGB in [0,1] here.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vsrbench.annotations import check_fields
from vsrbench.data.degradations import SCALES, Degradation
from vsrbench.data.sampling import generator
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Frames = Iterable[np.ndarray]
Random = np.random.Generator

# Kinds of blur and how often each is drawn; the last is a circular low pass (sinc).
KERNELS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc")
SHARES = (0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1)
TAPS = tuple(range(7, 22, 2))
LUMA = np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
GRAY = 0.4  # share of noise that is the same in all channels
# RealBasicVSR's largest steps between neighbouring frames
DRIFT = {"sigma": 0.02, "angle": 0.31416, "beta": 0.05, "omega": 0.0628, "noise": 0.1, "poisson": 0.005, "quality": 3.0}
# One thread, and x264 without the parts of its lookahead whose choices depend on memory that was never written.
STABLE = {
    "libx264": {"x264-params": "b-adapt=0:mbtree=0:weightp=0"},
    "libx265": {"x265-params": "pools=none:frame-threads=1:no-wpp=1:log-level=none"},
}


@dataclass(frozen=True)
class Pass:
    """One of the two passes. blur: how often; sigma in pixels; resize: shares of up, down, none, with factors of
    ``low`` to 1 and 1 to ``high``; noise: sigma in grey levels; poisson: its scale; quality of the JPEG."""

    blur: float
    sigma: tuple[float, float]
    resize: tuple[float, float, float]
    factor: tuple[float, float]
    noise: tuple[float, float]
    poisson: tuple[float, float]
    quality: tuple[float, float] = (30, 95)


FIRST = Pass(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3.0))
SECOND = Pass(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5))


@dataclass(frozen=True)
class Preset:
    """drift: parameters move from frame to frame. codecs, bits: of the video compression, bits per frame; no codecs:
    none, JPEG alone. second: what the second resizing's factor counts from, the size at hand or the LR size."""

    drift: bool
    codecs: tuple[str, ...]
    bits: tuple[float, float] = (1e4, 1e5)
    second: Literal["current", "lr"] = "current"


PRESETS = {
    # options/train_realesrnet_x4plus.yml of its release: photographs, so nothing drifts and nothing is a video
    "realesrgan": Preset(drift=False, codecs=(), second="lr"),
    # the configuration of its release; its codecs libx264 and h264 are the same encoder
    "realbasicvsr": Preset(drift=True, codecs=("libx264", "libx264", "mpeg4")),
    # its paper names RealBasicVSR's pipeline, and no settings were released (issue 8 of its repository)
    "upscale_a_video": Preset(drift=True, codecs=("libx264", "libx264", "mpeg4")),
}


@dataclass(frozen=True)
class Real(Degradation):
    """A degradation drawn for a whole clip from its key: the same clip under the same key has the same LR frames.

    preset: whose parameters. codecs: of PyAV (libx264, libx265, mpeg4), one is drawn per compression; None: the
    preset's; empty: no video compression. bits: the range of bits per frame; None: the preset's. order: "shuffle"
    draws whether the last compression comes before or after the last resizing, "first" and "last" fix it. ours: all
    frames of a clip have one size on the way, which a codec needs.
    Raises ConfigError for what is not among the choices or a range without numbers above 0.
    """

    preset: Literal["realbasicvsr", "realesrgan", "upscale_a_video"] = "realbasicvsr"
    codecs: Sequence[str] | None = None
    bits: Sequence[float] | None = None
    order: Literal["shuffle", "first", "last"] = "shuffle"
    name: str = "real"

    scales = SCALES
    margin = 0  # a crop is degraded by itself, as published
    by_clip = True

    def __post_init__(self) -> None:
        check_fields(self, "degradation")
        for codec in self.codecs or ():
            if codec not in ("libx264", "libx265", "mpeg4"):
                raise ConfigError(f"degradation.codecs: {codec} is none of libx264, libx265, mpeg4")
        if self.bits is not None and not (len(self.bits) == 2 and 0 < self.bits[0] <= self.bits[1]):
            raise ConfigError(f"degradation.bits={list(self.bits)}: give the least and the most bits per frame")

    def __call__(self, hr: "Tensor", scale: int) -> "Tensor":
        raise NotImplementedError("drawn for whole clips")

    def clip(self, hr: "Tensor", scale: int, *key: object) -> "Tensor":
        """uint8 (T,3,H,W) to uint8 (T,3,ceil(H/scale),ceil(W/scale)), the same for the same frames and key."""
        import torch

        self.check(scale)
        frames = [frame.astype(np.float32) / 255 for frame in hr.permute(0, 2, 3, 1).numpy()]
        size = tuple(-(-n // scale) for n in frames[0].shape[:2])
        preset, draw = PRESETS[self.preset], lambda step: generator(*key, "degradation", step)
        codecs = preset.codecs if self.codecs is None else tuple(self.codecs)
        bits = tuple(self.bits or preset.bits)

        def jpeg(frames: Frames, step: str, quality: tuple[float, float]) -> Frames:
            return compress_pictures(frames, quality, draw(step), preset.drift)

        def video(frames: Frames, step: str) -> Frames:
            return compress_video(frames, codecs, bits, draw(step)) if codecs else frames

        def finish(frames: Frames) -> Frames:
            rng = draw("last resize")
            return low_pass(resize(frames, size, rng), draw("last blur"), preset.drift)

        stream: Frames = frames
        for number, stage in enumerate((FIRST, SECOND)):
            base = size if number and preset.second == "lr" else None
            stream = blur(stream, stage, draw(f"blur {number}"), preset.drift)
            stream = rescale(list(stream), stage, draw(f"resize {number}"), base)
            stream = noise(stream, stage, draw(f"noise {number}"), preset.drift)
            if number == 0:
                stream = video(jpeg(stream, "jpeg 0", stage.quality), "video 0")
        if codecs:
            stream = jpeg(stream, "jpeg 1", SECOND.quality)
        last: Callable[[Frames], Frames] = (
            (lambda s: video(s, "video 1")) if codecs else (lambda s: jpeg(s, "jpeg 1", SECOND.quality))
        )
        first = {"first": True, "last": False}.get(self.order, draw("order").random() < 0.5)
        for step in (last, finish) if first else (finish, last):
            stream = step(stream)
        return torch.from_numpy(np.stack([_bytes(frame) for frame in stream])).permute(0, 3, 1, 2)


def walk(low: float, high: float, step: float, rng: Random, drift: bool) -> Iterator[float]:
    """A number drawn between low and high that moves by up to ``step`` a frame and stays in between."""
    value = float(rng.uniform(low, high))
    while True:
        yield value
        if drift:
            value = float(np.clip(value + rng.uniform(-step, step), low, high))


def kernels(kind: str, taps: int, sigma: tuple[float, float], rng: Random, drift: bool) -> Iterator[np.ndarray]:
    """Blur kernels (taps,taps) with sum 1, one per frame.

    Gaussians exp(-q^b / 2) and plateaus 1 / (q^b + 1), q = x^T C^-1 x with the covariance C (Real-ESRGAN Sec. 3.1);
    b = 1 for plain Gaussians, else 0.5..1 or 1..4 (plateau: 1..1 or 1..2) with equal chance. sinc: ``circular``.
    """
    if kind == "sinc":
        for omega in walk(math.pi / (3 if taps < 13 else 5), math.pi, DRIFT["omega"], rng, drift):
            yield circular(taps, omega)
    wide = walk(*sigma, DRIFT["sigma"], rng, drift)
    narrow = walk(*sigma, DRIFT["sigma"], rng, drift) if "aniso" in kind else None
    angles = walk(-math.pi, math.pi, DRIFT["angle"], rng, drift)
    most = 2.0 if kind.startswith("plateau") else 4.0
    least = 1.0 if kind.startswith("plateau") else 0.5
    shape = (least, 1.0) if rng.random() < 0.5 else (1.0, most)
    betas = walk(*shape, DRIFT["beta"], rng, drift)
    y, x = np.mgrid[:taps, :taps] - (taps - 1) / 2
    for a in wide:
        b, angle, beta = a if narrow is None else next(narrow), next(angles), next(betas)
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        q = (u / a) ** 2 + (v / b) ** 2
        power = q**beta if kind.startswith(("generalized", "plateau")) else q
        kernel = 1 / (power + 1) if kind.startswith("plateau") else np.exp(-power / 2)
        yield (kernel / kernel.sum()).astype(np.float32)


def circular(taps: int, omega: float) -> np.ndarray:
    """The low pass with cutoff ``omega`` in radians per pixel (Real-ESRGAN Eq. 6), with sum 1."""
    from scipy.special import j1

    y, x = np.mgrid[:taps, :taps] - (taps - 1) / 2
    radius = np.hypot(x, y)
    safe = np.where(radius == 0, 1, radius)
    kernel = np.where(radius == 0, omega**2 / (4 * math.pi), omega * j1(omega * safe) / (2 * math.pi * safe))
    return (kernel / kernel.sum()).astype(np.float32)


def blur(frames: Frames, stage: Pass, rng: Random, drift: bool) -> Frames:
    """Each frame under its kernel, or none. Borders are mirrored."""
    if rng.random() >= stage.blur:
        return frames
    kind, taps = str(rng.choice(KERNELS, p=SHARES)), int(rng.choice(TAPS))
    return map(_filter, frames, kernels(kind, taps, stage.sigma, rng, drift))


def low_pass(frames: Frames, rng: Random, drift: bool) -> Frames:
    """The last sinc filter, in eight of ten clips."""
    if rng.random() >= 0.8:
        return frames
    taps = int(rng.choice(TAPS))
    cutoffs = walk(math.pi / 3, math.pi, DRIFT["omega"], rng, drift)
    return (_filter(frame, circular(taps, omega)) for frame, omega in zip(frames, cutoffs, strict=False))


def rescale(frames: list[np.ndarray], stage: Pass, rng: Random, base: tuple[int, ...] | None) -> Frames:
    """To a random factor of the frames' size, or of ``base``. Sides stay even and 16 pixels or more, for the codecs."""
    low, high = stage.factor
    way = rng.choice(("up", "down", "none"), p=stage.resize)
    factor = {"up": rng.uniform(1, high), "down": rng.uniform(low, 1), "none": 1.0}[str(way)]
    sides = base or frames[0].shape[:2]
    return resize(frames, tuple(max(16, 2 * round(side * factor / 2)) for side in sides), rng)


def resize(frames: Frames, size: tuple[int, ...], rng: Random) -> Frames:
    """To (h,w) by averaging areas, bilinear or bicubic, one of them per clip; not clipped."""
    import cv2

    mode = int(rng.choice((cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)))
    return (cv2.resize(frame, (size[1], size[0]), interpolation=mode) for frame in frames)


def noise(frames: Frames, stage: Pass, rng: Random, drift: bool) -> Frames:
    """Gaussian noise, or Poisson noise of the frame's own levels (Real-ESRGAN Sec. 3.1); in some clips gray."""
    gray, poisson = rng.random() < GRAY, rng.random() < 0.5
    strength = stage.poisson if poisson else stage.noise
    for frame, value in zip(
        frames, walk(*strength, DRIFT["poisson" if poisson else "noise"], rng, drift), strict=False
    ):
        shape = (*frame.shape[:2], 1) if gray else frame.shape
        if not poisson:
            added = rng.standard_normal(shape, dtype=np.float32) * (value / 255)
        else:
            exact = _rounded(frame)
            exact = _rounded(exact @ LUMA) if gray else exact
            levels = 2.0 ** math.ceil(math.log2(max(len(np.unique(exact)), 2)))
            added = (rng.poisson(exact * levels) / levels - exact).astype(np.float32) * value
        yield np.clip(frame + added, 0, 1)


def compress_pictures(frames: Frames, quality: tuple[float, float], rng: Random, drift: bool) -> Frames:
    """JPEG with 4:2:0 chroma, every frame by itself."""
    import cv2

    for frame, value in zip(frames, walk(*quality, DRIFT["quality"], rng, drift), strict=False):
        _, code = cv2.imencode(".jpg", _bytes(frame)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(value)])
        yield np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1].astype(np.float32) / 255


def compress_video(frames: Frames, codecs: Sequence[str], bits: Sequence[float], rng: Random) -> Frames:
    """All frames through an encoder at a random rate of so many bits per frame.

    ours: ``STABLE`` and sides padded to multiples of 16, so that the stream is the same at every call; frames with a
    side below 128 go through libx264 in place of libx265, whose streams differ from call to call at such sizes.
    """
    import av

    pictures = [_bytes(frame) for frame in frames]
    height, width = pictures[0].shape[:2]
    codec, rate = str(rng.choice(codecs)), rng.uniform(bits[0], bits[1])
    codec = "libx264" if codec == "libx265" and min(height, width) < 128 else codec
    padded = [np.pad(p, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge") for p in pictures]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = padded[0].shape[1], padded[0].shape[0], "yuv420p"
        stream.bit_rate = round(rate)
        stream.codec_context.thread_count = 1
        stream.options = STABLE.get(codec, {})
        for picture in padded:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as recording:
        decoded = [frame.to_ndarray(format="rgb24") for frame in recording.decode(video=0)]
    assert len(decoded) == len(pictures), f"{codec} returned {len(decoded)} of {len(pictures)} frames"
    return [frame[:height, :width].astype(np.float32) / 255 for frame in decoded]


def _filter(frame: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def _rounded(frame: np.ndarray) -> np.ndarray:
    return np.clip(frame * 255, 0, 255).round() / 255


def _bytes(frame: np.ndarray) -> np.ndarray:
    return (np.clip(frame, 0, 1) * 255).round().astype(np.uint8)
