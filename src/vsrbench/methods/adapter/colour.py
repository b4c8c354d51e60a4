"""What happens to decoded frames (Sec. 4.1.2): first a colour correction, then a denoiser.

The thesis settles on wavelet colour correction and non-local means and prints no parameters: those here are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor

from vsrbench.annotations import annotations_of, check_value
from vsrbench.errors import ConfigError, VsrbenchError
from vsrbench.nn.colour import adain_color, wavelet_color


@dataclass(frozen=True)
class PostProcessing:
    """color: wavelet, adain, equalise (adaptive histogram equalisation) or none. denoise: nlm, bilateral, gaussian,
    wavelet or none. strength: of nlm, in grey levels of 255; template, search: its windows in pixels.

    scope: statistics of adain over each "frame" or the whole "clip", which flickers less.
    """

    color: Literal["wavelet", "adain", "equalise", "none"] = "wavelet"
    denoise: Literal["nlm", "bilateral", "gaussian", "wavelet", "none"] = "nlm"
    strength: Annotated[float, Ge(0)] = 3.0
    template: Annotated[int, Ge(1)] = 7
    search: Annotated[int, Ge(1)] = 21
    scope: Literal["frame", "clip"] = "frame"

    def __post_init__(self) -> None:
        for name, annotation in annotations_of(type(self).__init__).items():
            if name in vars(self):
                check_value(f"method.post.{name}", getattr(self, name), annotation)

    def __call__(self, frames: Tensor, reference: Tensor) -> Tensor:
        """Frames (T,3,H,W) and the enlarged LR frames of the same shape, both about [0,1]; returns [0,1]."""
        if frames.shape != reference.shape or frames.shape[1] != 3:
            raise VsrbenchError(
                f"colour correction needs two RGB clips of one size, not {tuple(frames.shape)} and "
                f"{tuple(reference.shape)}"
            )
        frames = COLORS[self.color](self, frames, reference).clamp(0, 1)
        return DENOISERS[self.denoise](self, frames).clamp(0, 1)


def _equalised(frames: Tensor) -> Tensor:
    from kornia.enhance import equalize_clahe

    return equalize_clahe(frames.clamp(0, 1), clip_limit=2.0, grid_size=(4, 4))


def _nlm(post: PostProcessing, frames: Tensor) -> Tensor:
    import cv2

    def clean(frame: Any) -> Any:
        return cv2.fastNlMeansDenoisingColored(frame, None, post.strength, post.strength, post.template, post.search)

    return _per_frame_8_bit(frames, clean)


def _per_frame_8_bit(frames: Tensor, change: Callable[[Any], Any]) -> Tensor:
    """OpenCV's filter works on 8 bits per channel, (H,W,3) BGR."""
    pixels = rearrange((frames * 255).round().byte().flip(1), "t bgr h w -> t h w bgr").cpu().contiguous().numpy()
    changed = torch.stack([torch.from_numpy(change(frame)) for frame in pixels])
    return (rearrange(changed, "t h w bgr -> t bgr h w").flip(1).float() / 255).to(frames)


def _bilateral(post: PostProcessing, frames: Tensor) -> Tensor:
    from kornia.filters import bilateral_blur

    return bilateral_blur(frames, (5, 5), 0.05, (1.5, 1.5), border_type="replicate")


def _gaussian(post: PostProcessing, frames: Tensor) -> Tensor:
    from kornia.filters import gaussian_blur2d

    return gaussian_blur2d(frames, (5, 5), (1.0, 1.0), border_type="replicate")


def _wavelet_denoised(post: PostProcessing, frames: Tensor) -> Tensor:
    from importlib.util import find_spec

    if find_spec("pywt") is None:
        raise ConfigError("method.post.denoise=wavelet needs the package PyWavelets: pip install PyWavelets")
    from skimage.restoration import denoise_wavelet

    clean = partial(denoise_wavelet, channel_axis=-1, convert2ycbcr=True, rescale_sigma=True)
    pixels = rearrange(frames, "t c h w -> t h w c").cpu().numpy()
    cleaned = torch.stack([torch.from_numpy(clean(frame)) for frame in pixels])
    return rearrange(cleaned, "t h w c -> t c h w").to(frames)


COLORS: dict[str, Callable[[PostProcessing, Tensor, Tensor], Tensor]] = {
    "wavelet": lambda post, frames, reference: wavelet_color(frames, reference),
    "adain": lambda post, frames, reference: adain_color(frames, reference, post.scope),
    "equalise": lambda post, frames, reference: _equalised(frames),
    "none": lambda post, frames, reference: frames,
}
DENOISERS: dict[str, Callable[[PostProcessing, Tensor], Tensor]] = {
    "nlm": _nlm,
    "bilateral": _bilateral,
    "gaussian": _gaussian,
    "wavelet": _wavelet_denoised,
    "none": lambda post, frames: frames,
}
