"""VideoGigaGAN for the shells: the ladder of Table 1, two stages, two optimisers, and upscaling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.errors import ConfigError, TrainingError, WeightsError
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.methods.videogigagan import cost, training
from vsrbench.methods.videogigagan.discriminator import Discriminator
from vsrbench.methods.videogigagan.front import Front
from vsrbench.methods.videogigagan.generator import Generator
from vsrbench.methods.videogigagan.guard import Guard
from vsrbench.nn.limits import check_least
from vsrbench.nn.modulated import NoiseMaps
from vsrbench.nn.perceptual import NAMES, feature_loss
from vsrbench.nn.trained_flow import trained_flow
from vsrbench.types import WHOLE, Clip, Progress, Trace

# Rows of Table 1, each with what the rows above have: (temporal, propagation, down, shuttle).
LADDER: dict[str, dict[str, Any]] = {
    "base": {"temporal": False, "propagation": False, "down": "stride", "shuttle": "full"},
    "temporal": {"temporal": True, "propagation": False, "down": "stride", "shuttle": "full"},
    "propagation": {"temporal": True, "propagation": True, "down": "stride", "shuttle": "full"},
    "antialias": {"temporal": True, "propagation": True, "down": "blur", "shuttle": "lf"},
    "hf": {"temporal": True, "propagation": True, "down": "blur", "shuttle": "hf"},
}
LEAST: dict[str, dict[str, int]] = {  # of the settings that count something
    "generator": dict.fromkeys(
        ("z", "style", "mapping_layers", "encoder", "encoder_blocks", "decoder", "decoder_blocks", "experts", "heads"),
        1,
    )
    | {"head_dim": 1, "temporal_head_dim": 1, "attention_depth": 0, "temporal": 0},
    "discriminator": {"widths": 1, "blocks": 1, "heads": 1},
    "front": dict.fromkeys(("width", "groups", "branches", "flow_levels", "flow_widths", "flow_minimum"), 1)
    | {"feature_blocks": 0, "blocks": 0},
}
VIDEO_PARTS = (".front.", ".stem_features.", ".temporal.")  # what an image model lacks, by its parameters' names


class VideoGigaGAN(Method):
    """An image GAN upsampler inflated to video (Xu et al. 2025).

    generator, discriminator, front: settings of the two networks and of the propagation, see ``make_front``.
    ladder: row of Table 1, of which temporal, propagation, down and shuttle replace single settings. crop: LR pixels
    per side in training. chunk: frames that the U-Net takes at once, None for the whole clip. mirror: clips of
    fewer frames, but not single ones, go on in reverse until they have so many, in training and in use; None: as they
    are (Vimeo-90K has 7 frames, the paper trains on 10; BasicVSR++ makes 14 of them in this way). z: the clip's style
    from a "random" vector, or the "mean" one. objective: see ``training.Objective``. features: feature loss, see
    ``nn.perceptual``. checkpointing: of the discriminator; the generator has settings of its own. from_scratch: train
    stage=video without an image model. max_context: frames that temporal chunks overlap; None: the whole clip at once.
    stage=image trains the image model on single frames; stage=video trains everything on clips.
    """

    stages = {
        "image": Stage(("generator", "discriminator"), ("pixel", "features", "gan")),
        "video": Stage(
            ("generator", "discriminator"), ("pixel", "features", "gan"), ("image",), "method.from_scratch=true"
        ),
    }
    training_only = ("discriminator",)

    def __init__(
        self,
        generator: Mapping[str, Any],
        discriminator: Mapping[str, Any],
        front: Mapping[str, Any],
        ladder: str = "hf",
        temporal: bool | None = None,
        propagation: bool | None = None,
        down: str | None = None,
        shuttle: str | None = None,
        scale: int = 4,
        crop: int = 64,
        chunk: int | None = 10,
        mirror: int | None = None,
        z: str = "random",
        objective: Mapping[str, Any] | None = None,
        features: str = "auto",
        checkpointing: bool = False,
        from_scratch: bool = False,
        max_context: int | None = None,
        name: str = "videogigagan",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        for setting, value, allowed in (
            ("ladder", ladder, LADDER),
            ("z", z, ("random", "mean")),
            ("features", features, NAMES),
        ):
            if value not in allowed:
                raise ConfigError(f"method.{setting}={value}: use one of {', '.join(allowed)}")
        frames = {"chunk": chunk, "mirror": mirror, "max_context": max_context}
        check_least("method", frames, {"chunk": 1, "mirror": 2, "max_context": 0})
        for group, settings in (("generator", generator), ("discriminator", discriminator), ("front", front)):
            check_least(f"method.{group}", settings, LEAST[group])
        given = {"temporal": temporal, "propagation": propagation, "down": down, "shuttle": shuttle}
        row = LADDER[ladder] | {key: value for key, value in given.items() if value is not None}
        self.scale, self.chunk, self.mirror, self.z, self.max_context = scale, chunk, mirror, z, max_context
        self.objective, self.features = training.Objective.of(objective), features
        self.checkpointing, self.stages = checkpointing, self.stages_for({"from_scratch": from_scratch})
        plan = dict(generator)
        levels = plan.pop("temporal", 6)
        self.generator = Generator(
            make_front(**front) if row["propagation"] else None,
            scale=scale,
            temporal=levels if row["temporal"] else 0,
            down=row["down"],
            shuttle=row["shuttle"],
            **plan,
        )
        self.discriminator = Discriminator(crop * scale, temporal=row["temporal"], **discriminator)
        self.row = row
        self.guard = Guard()
        self.seen: dict[str, list[Tensor]] = {}
        self.last_r1: float | None = None
        self.misfit = ""  # why a discriminator that was loaded cannot be trained further
        self.feature_loss: Callable[[Tensor, Tensor], Tensor]
        self.feature_name = features

    # --- networks --------------------------------------------------------------------------------

    @property
    def context(self) -> int:
        alone = not self.row["temporal"] and not self.row["propagation"]
        return 0 if alone else WHOLE if self.max_context is None else self.max_context

    def parts(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def counted(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table."""
        return cost.counted(self)

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

    def as_seen(self, clip: Clip) -> Clip:
        """The clip, mirrored in time where it is shorter than ``mirror``; exact flow is left out then."""
        length, frames = self.mirror or 0, clip.frames
        if not 1 < frames < length:
            return clip
        there_and_back = [*range(frames), *reversed(range(frames))]
        order = [there_and_back[t % (2 * frames)] for t in range(length)]
        hr = None if clip.hr is None else clip.hr[:, order]
        return Clip(clip.lr[:, order], hr, clip.name, clip.index[:, order], clip.scale)

    def judge(self, frames: Tensor, clip: Clip, checkpointing: bool | None = None, scaled: bool = False) -> Tensor:
        """Logits (B,T) of frames (B,T,3,H,W) in [0,1], or in [-1,1] where they are ``scaled``."""
        if frames.shape[-1] != self.discriminator.size:
            ours, theirs = frames.shape[-1] // self.scale, self.discriminator.size // self.scale
            raise TrainingError(f"method.crop={theirs}, but samples have {ours} LR pixels: leave it as train.crop")
        frames = frames if scaled else training.to_network(frames)
        checkpointing = self.checkpointing if checkpointing is None else checkpointing
        return self.discriminator(frames, training.to_network(clip.lr), checkpointing=checkpointing)

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Propagation over the whole clip, the U-Net on chunks of ``chunk`` frames that do not overlap (Sec. 3.3)."""
        with self.autocast():
            frames = self.generate(self.as_seen(clip), noise, self.chunk, progress)
            return frames[:, : clip.frames].float().clamp(0, 1)

    # --- training --------------------------------------------------------------------------------

    @classmethod
    def stages_for(cls, settings: Mapping[str, Any]) -> dict[str, Stage]:
        """from_scratch: stage=video needs no image model."""
        alone = {key: replace(stage, needs=()) for key, stage in cls.stages.items()}
        return alone if settings.get("from_scratch") else cls.stages

    def begin_stage(self, name: str, optimiser: Any, noise: Noise, schedule: Any = None) -> None:
        """stage=image takes everything off the networks that an image model lacks.

        Raises WeightsError where weights were loaded whose discriminator does not fit this one.
        """
        if self.misfit:
            raise WeightsError(self.misfit)
        if name in ("default", "image"):
            self._become_image_model()
        super().begin_stage(name, optimiser, noise, schedule)
        made = feature_loss(self.features)
        self.feature_loss, self.feature_name = made, str(made.name)
        losses = ("pixel", self.feature_name, "gan")
        self.stages = {key: replace(stage, losses=losses) for key, stage in self.stages.items()}

    def _become_image_model(self) -> None:
        if self.generator.unet.stem is None:
            raise ConfigError("stage=image has no propagated features to read: use method.generator.stem=concat")
        self.row = self.row | {"temporal": False, "propagation": False}
        self.generator.front = self.generator.unet.stem_features = None
        levels: Any = self.generator.unet.decoder
        for level in levels:
            level.temporal = None
        self.discriminator.temporal = nn.ModuleDict()

    def adapt_weights(self, part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """An image model's weights inflate: what it lacks altogether keeps its start, at which it changes nothing.

        A discriminator of another crop or plan is left out, since upscaling does without; training is refused then.
        """
        own = self.parts()[part].state_dict()
        for mark in VIDEO_PARTS:
            new = {key: value for key, value in own.items() if mark in f".{key}"}
            if not values.keys() & new.keys():
                values = {**values, **new}
        if part == "discriminator" and {k: v.shape for k, v in values.items()} != {k: v.shape for k, v in own.items()}:
            sizes = [int(key.split(".")[2]) for key in values if key.startswith("image.levels.")]
            theirs, ours = max(sizes, default=0) // self.scale, self.discriminator.size // self.scale
            what = (
                f"train.crop={theirs}, here it is {ours}"
                if theirs != ours
                else "another plan: see method.discriminator"
            )
            self.misfit = f"the weights' discriminator does not fit: it was trained with {what}"
            return own
        return values

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """All trained parameters, as their gradients are watched and clipped."""
        front = [] if self.generator.front is None else list(self.generator.front.parameters())
        inner = {id(p) for p in front}
        groups = {
            "generator": [p for p in self.generator.parameters() if id(p) not in inner],
            "propagation": front,
            "discriminator": list(self.discriminator.parameters()),
        }
        return {name: parameters for name, parameters in groups.items() if parameters}

    def configure_optimizers(self) -> Any:
        """Two optimisers of one kind, the generator's first; its flow network has a learning rate of its own."""
        if self.optimiser is None:
            raise TrainingError("begin_stage() must be called before training")
        flow = list(getattr(self.generator.front, "flow", nn.Module()).parameters())
        inner = {id(p) for p in flow}
        groups: list[Any] = [{"params": [p for p in self.generator.parameters() if id(p) not in inner], "flow": False}]
        groups += [{"params": flow, "flow": True}] if flow else []
        optimisers = [self.optimiser(groups), self.optimiser(self.discriminator.parameters())]
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] *= self.objective.image_rate if self.stage == "image" else 1.0
                group["lr"] *= self.objective.flow_rate if group.get("flow") else 1.0
        if self.schedule is None:
            return optimisers
        return optimisers, [{"scheduler": self.schedule(o), "interval": "step"} for o in optimisers]

    def on_fit_start(self) -> None:
        """Refuse what would train something else than asked for; say which feature loss it is."""
        if str(self.trainer.precision).startswith("16"):
            raise ConfigError(
                f"trainer.precision={self.trainer.precision}: R1 overflows there; use bf16-mixed or 32-true"
            )
        training.tell(f"feature loss: {self.feature_name}")

    def training_step(self, batch: Clip, batch_idx: int) -> None:  # type: ignore[override]
        """One batch; with the last one of ``accumulate``, a step of both optimisers."""
        if self.stage == "video" and self.row["propagation"] and batch.frames < 2:
            raise TrainingError("stage=video learns from neighbouring frames: set train.frames=2 or more")
        middle = batch.frames // 2
        clip = batch.window(middle, middle + 1) if self.stage == "image" else batch
        last = (batch_idx + 1) % self.accumulate == 0
        training.batch(self, clip, last)
        if last:
            training.finish_step(self, clip)

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """The generator's terms; in training the discriminator's own come beside them."""
        clip = self.as_seen(clip)
        assert clip.hr is not None
        frames = self.generate(clip, noise)
        return training.output_terms(self, frames, clip.hr, self.judge(frames, clip))

    def frozen_hashes(self) -> dict[str, str]:
        """None: no stage leaves a part frozen."""
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["gan"] = {"guard": self.guard.state_dict(), "skipped": dict(self.skipped), "r1": self.last_r1}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint["gan"]
        self.guard.load_state_dict(stored["guard"])
        self.skipped = dict(stored["skipped"])
        self.last_r1 = stored["r1"]


def make_front(
    flow_net: str = "spynet",
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
