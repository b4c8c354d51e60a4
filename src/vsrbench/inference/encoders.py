"""Which encoder, with which options, in which pixel format."""

from pathlib import Path
from typing import Any

import av

from vsrbench.errors import ConfigError

# The settings that each encoder understands; others take their own defaults.
QUALITY = {
    "libx264": ("crf", "preset"),
    "libx265": ("crf", "preset"),
    "libsvtav1": ("crf",),
    "libvpx-vp9": ("crf",),
}


def encoder(name: str, path: Path) -> Any:
    """The encoder called ``name``; ``auto``: H.264, in WebM VP9. Raises ConfigError for an unknown one."""
    if name == "auto":
        name = "libvpx-vp9" if path.suffix.lower() == ".webm" else "libx264"
    try:
        codec = av.codec.Codec(name, "w")
    except ValueError:
        codec = None
    if codec is None or codec.type != "video":
        raise ConfigError(f"video.codec={name} is no video encoder: use one of {', '.join(QUALITY)}")
    return codec


def pixel_format(name: str, size: tuple[int, int], bits: int) -> str:
    """``name``, or for ``auto`` 4:2:0 in the input's depth; odd sizes need 4:4:4 to keep every pixel.

    Raises ConfigError for an unknown name.
    """
    if name != "auto":
        try:
            return av.VideoFormat(name).name
        except ValueError as error:
            raise ConfigError(f"video.pix_fmt={name} is unknown: use yuv420p, yuv444p, yuv420p10le or auto") from error
    layout = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    return layout + ("10le" if bits > 8 else "")


def options(name: str, settings: Any) -> dict[str, str]:
    """What the encoder called ``name`` takes from the config node ``video``."""
    chosen = {key: str(settings[key]) for key in QUALITY.get(name, ())}
    if name == "libvpx-vp9":
        chosen |= {"row-mt": "1", "cpu-used": "4"}  # ours: its own default takes ten times as long
    return chosen
