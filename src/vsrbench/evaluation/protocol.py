"""A protocol: every switch that changes a number, stated once, with an id and a hash of its content."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vsrbench.errors import ConfigError

WARPING = ("ewarp", "rwe")  # VideoGigaGAN's; flow of the output, so consistency_flow does not touch them
TEMPORAL = ("consistency", *WARPING)  # one value per pair of frames
METRICS = ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y", "sharpness", *TEMPORAL)

# What each switch may be. A single value is stated all the same: a result must say which it was.
CHOICES = {
    "quantisation": ("round_half_up",),
    "luma": ("bt601_studio",),
    "ssim": ("gaussian_11_1.5_valid",),
    "frames": ("convention", "all"),
    "averaging": ("clips", "frames"),
    "consistency_flow": ("exact", "dis", "exact_or_dis"),
}


@dataclass(frozen=True)
class Protocol:
    """The switches of ``conf/protocol/*.yaml``; each is explained there.

    Raises ConfigError for a value that is not among the switch's choices.
    """

    id: str
    split: str
    scale: int
    degradation: dict[str, Any]
    metrics: tuple[str, ...]
    perceptual: tuple[str, ...]
    quantisation: str
    luma: str
    ssim: str
    crop: int
    frames: str
    averaging: str
    consistency_flow: str

    def __post_init__(self) -> None:
        for switch, choices in CHOICES.items():
            if getattr(self, switch) not in choices:
                raise ConfigError(f"protocol.{switch}={getattr(self, switch)}: use {' or '.join(choices)}")
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise ConfigError(f"protocol.metrics: unknown {unknown[0]!r}; known are {', '.join(METRICS)}")
        if not self.metrics and not self.perceptual:
            raise ConfigError(f"protocol.metrics is empty: name at least one of {', '.join(METRICS)}")
        if self.crop < 0:
            raise ConfigError(f"protocol.crop={self.crop}: use 0 or more pixels")

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> "Protocol":
        """From the ``protocol`` node of a configuration, resolved to plain dicts and lists.

        Raises ConfigError naming a switch that is missing or unknown.
        """
        known = {field.name for field in fields(cls)}
        given = {str(key) for key in node}
        if known != given:
            missing, unknown = sorted(known - given), sorted(given - known)
            raise ConfigError(f"protocol: missing switches {missing}, unknown switches {unknown}; state every one")
        values = {name: node[name] for name in known}
        for name in ("metrics", "perceptual"):
            values[name] = tuple(values[name])
        # which class makes the degradation is no switch; its settings are
        values["degradation"] = {k: v for k, v in values["degradation"].items() if not k.startswith("_")}
        return cls(**values)

    @property
    def switches(self) -> dict[str, Any]:
        """All switches as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def hash(self) -> str:
        """BLAKE2b of the switches as canonical JSON (sorted keys, no spaces), 16 hex digits.

        The id is left out: two protocols with equal switches have equal hashes whatever they are called.
        """
        content = {k: v for k, v in self.switches.items() if k != "id"}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
