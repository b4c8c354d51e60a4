"""VideoGigaGAN: networks, the ladder of Table 1, and upscaling."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.errors import ConfigError
from vsrbench.flow.spynet import FILES
from vsrbench.flow.trained import FlowNet, mark_pretrained, random_spynet, trained_flow
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.videogigagan import cost
from vsrbench.methods.videogigagan.blocks import Down, Shuttle
from vsrbench.methods.videogigagan.front import Front
from vsrbench.methods.videogigagan.generator import Generator
from vsrbench.nn.limits import check_least
from vsrbench.nn.modulated import NoiseMaps
from vsrbench.types import FULL_CLIP, Clip, Progress, Trace

# Rows of Table 1, each with what the rows above have: (temporal, propagation, down, shuttle).
LADDER: dict[str, dict[str, Any]] = {
    "base": {"temporal": False, "propagation": False, "down": "stride", "shuttle": "full"},
    "temporal": {"temporal": True, "propagation": False, "down": "stride", "shuttle": "full"},
    "propagation": {"temporal": True, "propagation": True, "down": "stride", "shuttle": "full"},
    "antialias": {"temporal": True, "propagation": True, "down": "blur", "shuttle": "lf"},
    "hf": {"temporal": True, "propagation": True, "down": "blur", "shuttle": "hf"},
}
LEAST: dict[str, dict[str, int]] = {  # of the settings that count something
    "generator": {
        **dict.fromkeys(("z", "style", "mapping_layers", "encoder", "encoder_blocks", "decoder", "decoder_blocks"), 1),
        **dict.fromkeys(("experts", "heads", "head_dim", "temporal_head_dim", "temporal_depth"), 1),
        **dict.fromkeys(("attention_depth", "temporal", "temporal_in"), 0),
    },
    "front": {
        **dict.fromkeys(("width", "groups", "branches", "flow_levels", "flow_widths", "flow_minimum"), 1),
        **dict.fromkeys(("feature_blocks", "blocks"), 0),
    },
}
# What an image model lacks, by its parameters' names.
VIDEO_PARTS = (".front.", ".stem_features.", ".temporal.", ".temporal_in.")


class VideoGigaGAN(Method):
    """An image GAN upsampler inflated to video (Xu et al. 2025).

    generator, front: settings of the network and of its propagation, see ``make_front``.
    ladder: row of Table 1, of which temporal, propagation, down and shuttle replace single settings.
    chunk: frames that the U-Net takes at once, None for the whole clip. mirror: clips of fewer frames, but not single
    ones, go on in reverse until they have so many, in training and in use; None: as they are (Vimeo-90K has 7 frames,
    the paper trains on 10; BasicVSR++ makes 14 of them in this way). z: the clip's style from a "random" vector, or
    the "mean" one. max_context: frames that temporal chunks overlap; None: the whole clip at once.
    stage=image trains the image model on single frames; stage=video trains everything on clips.
    """

    stages = {
        "image": Stage(("generator", "discriminator"), ("pixel", "features", "gan")),
        "video": Stage(
            ("generator", "discriminator"), ("pixel", "features", "gan"), ("image",), "module.from_scratch=true"
        ),
    }

    @check_arguments("method")
    def __init__(
        self,
        generator: Mapping[str, Any],
        front: Mapping[str, Any],
        ladder: Literal["base", "temporal", "propagation", "antialias", "hf"] = "hf",
        temporal: bool | None = None,
        propagation: bool | None = None,
        down: Down | None = None,
        shuttle: Shuttle | None = None,
        scale: int = 4,
        chunk: int | None = 10,
        mirror: int | None = None,
        z: Literal["random", "mean"] = "random",
        max_context: int | None = None,
        name: str = "videogigagan",
    ) -> None:
        super().__init__()
        frames = {"chunk": chunk, "mirror": mirror, "max_context": max_context}
        check_least("method", frames, {"chunk": 1, "mirror": 2, "max_context": 0})
        for group, settings in (("generator", generator), ("front", front)):
            check_least(f"method.{group}", settings, LEAST[group])
        switches = {"temporal": temporal, "propagation": propagation, "down": down, "shuttle": shuttle}
        row = LADDER[ladder] | {key: value for key, value in switches.items() if value is not None}
        self.scale, self.chunk, self.mirror, self.z, self.max_context = scale, chunk, mirror, z, max_context
        plan = dict(generator)
        levels = plan.pop("temporal", 3)
        self.generator = Generator(
            make_front(**front) if row["propagation"] else None,
            scale=scale,
            temporal=levels if row["temporal"] else 0,
            down=row["down"],
            shuttle=row["shuttle"],
            **plan,
        )
        self.row = row

    # --- networks --------------------------------------------------------------------------------

    @property
    def context(self) -> int:
        alone = not self.row["temporal"] and not self.row["propagation"]
        return 0 if alone else FULL_CLIP if self.max_context is None else self.max_context

    @property
    def grid(self) -> int:
        return 8  # the encoder halves three times

    def parts(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table."""
        return self.generator.parameter_groups()

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work; see ``cost.work``."""
        return cost.work(self, clip)

    def styles(self, clip: Clip, noise: NoiseSource) -> Tensor:
        """z of every clip (B,z), from its name alone, so that all frames and chunks share it."""
        shape = (self.generator.mapping.z,)
        if self.z == "mean":
            return torch.zeros(len(clip.name), *shape, device=self.device)
        return torch.stack([noise.normal(shape, "style", name) for name in clip.name]).to(self.device)

    def noise_maps(self, clip: Clip, noise: NoiseSource) -> NoiseMaps:
        """One map per layer and clip, the same for all frames: maps drawn per frame would flicker."""

        def maps(layer: str, height: int, width: int) -> Tensor:
            return torch.stack([noise.normal((1, height, width), f"noise of {layer}", name) for name in clip.name])

        return maps

    def generate(
        self, clip: Clip, noise: NoiseSource, chunk: int | None = None, progress: Progress | None = None
    ) -> Tensor:
        """(B,T,3,s·h,s·w) about [0,1], not clamped."""
        frames: Tensor = self.generator(
            clip.lr, self.styles(clip, noise), self.noise_maps(clip, noise), chunk, progress
        )
        return frames

    def pad_time(self, clip: Clip) -> Clip:
        """The clip, mirrored in time where it is shorter than ``mirror``; exact flow is left out then."""
        length, frames = self.mirror or 0, clip.frames
        if not 1 < frames < length:
            return clip
        there_and_back = [*range(frames), *reversed(range(frames))]
        order = [there_and_back[t % (2 * frames)] for t in range(length)]
        hr = None if clip.hr is None else clip.hr[:, order]
        return Clip(clip.lr[:, order], hr, clip.name, clip.index[:, order], clip.scale)

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Propagation over the whole clip, the U-Net on chunks of ``chunk`` frames that do not overlap (Sec. 3.3)."""
        with self.autocast():
            frames = self.generate(self.pad_time(clip), noise, self.chunk, progress)
            return frames[:, : clip.frames].float().clamp(0, 1)

    def become_image_model(self) -> None:
        """Take off the network what an image model lacks. Raises ConfigError where nothing would be left to read."""
        if self.generator.unet.stem is None:
            raise ConfigError("stage=image has no propagated features to read: use method.generator.stem=concat")
        self.row = self.row | {"temporal": False, "propagation": False}
        self.generator.front = self.generator.unet.stem_features = None
        levels: Any = self.generator.unet.decoder
        for level in levels:
            level.temporal = level.temporal_in = None

    def random_parts(self) -> dict[str, str]:
        """SPyNet, where neither files nor weights of a video model gave it weights."""
        front = self.generator.front
        remedy = f"set method.front.flow_weights=FILE (or VSRBENCH_SPYNET) to {FILES}, or method.front.weights=FILE"
        return {} if front is None else random_spynet(front.flow, f"{remedy} of a BasicVSR++")

    def adapt_weights(self, part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """An image model's weights inflate."""
        front = self.generator.front
        if front is not None and any(key.startswith("front.flow.") for key in values):
            mark_pretrained(front.flow)
        return inflated(values, self.parts()[part].state_dict())


def inflated(values: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """An image model's weights for a video model: what it lacks altogether keeps its start, which changes nothing."""
    for mark in VIDEO_PARTS:
        new = {key: value for key, value in own.items() if mark in f".{key}"}
        if not values.keys() & new.keys():
            values = {**values, **new}
    return values


def make_front(
    flow_net: FlowNet = "spynet",
    flow_levels: int = 4,
    flow_widths: Sequence[int] = (16, 16, 16),
    flow_weights: str | None = None,
    weights: str | None = None,
    **settings: Any,
) -> Front:
    """The propagation with its flow network, see ``trained_flow``. settings: see ``Front``.

    weights: file of a BasicVSR++ that all of it starts from, see ``Front.start_from``.
    """
    front = Front(trained_flow(flow_net, flow_levels, flow_widths, flow_weights, "method.front"), **settings)
    if weights is not None:
        front.start_from(weights)
    return front
