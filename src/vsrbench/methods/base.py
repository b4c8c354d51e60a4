"""What every method can do without a trainer: upscale a clip, name its networks, read and give its weights."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.errors import WeightsError
from vsrbench.nn.functional import PRECISIONS, native_precision
from vsrbench.types import Clip, Progress, Trace
from vsrbench.weights.report import load_strictly, no_weights
from vsrbench.weights.trained import weights_hash


@dataclass(frozen=True)
class Stage:
    """One training stage.

    trainable: names from ``MethodModule.parts()`` whose parameters are trained; everything else is frozen.
    losses: names of the loss terms that ``MethodModule.losses`` returns.
    needs: stages whose checkpoint must exist first: the stage starts from it (``training.stages`` finds it), and its
    own checkpoint holds what they trained as well.
    unless: the setting with which it does without.
    """

    trainable: tuple[str, ...]
    losses: tuple[str, ...]
    needs: tuple[str, ...] = ()
    unless: str = ""

    @property
    def remedy(self) -> str:
        """For errors: the other way."""
        return f", or {self.unless}" if self.unless else ""


@dataclass(frozen=True)
class Work:
    """One unit of a method's work, for the tables of ``bench``.

    run: does it once, on inputs made beforehand. per_frame: how often it happens per output frame. nested_in: the
    module it is part of; the tables add a line for that module's sum. network: False where it is no network, so that
    a FLOP counter, which sees PyTorch's operators alone, cannot count it.
    """

    run: Callable[[], object]
    per_frame: float
    nested_in: str | None = None
    network: bool = True


class Method(nn.Module):
    """Base of all methods; a subclass implements ``upscale`` and ``parts``, and names its ``stages`` if it is trained.

    scale: factor from LR to HR. multiple, minimum: what LR sizes must be divisible by and at least be; ``inference``
    pads and crops. stages: in the order in which they are trained, by the module of the same method; what they train
    is what files of weights hold.
    """

    scale: int = 4
    multiple: int = 1
    minimum: int = 1
    stages: dict[str, Stage] = {}
    # of a method whose context is the whole clip: the overlap of chunks for clips too long for that; None: an error
    long_context: int | None = None
    # whether precision=auto may be less than fp32: where the frames stay within 50 dB of it
    tolerates_half: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.precision: torch.dtype = torch.float32
        self.exact = True
        self.batch = 4
        self.loaded: set[str] = set()  # parts whose weights came from somewhere

    @property
    def grid(self) -> int:
        """What the corners of tiles are divisible by, so that grids coarser than LR are those of the whole frame."""
        return self.multiple

    # --- upscaling -------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for a method without any."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    @property
    def context(self) -> int:
        """Neighbour frames that a temporal chunk must overlap on each side for chunks to equal the whole clip."""
        return 0

    def visible(self, clip: Clip) -> Clip:
        """What ``upscale`` may look at when a data set is evaluated: everything but the ground truth."""
        return replace(clip, hr=None)

    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Upscale a clip that fits in memory: (B,T,3,scale*h,scale*w) in [0,1]."""
        raise NotImplementedError

    def configure_inference(self, precision: str = "fp32", batch: int = 4) -> Self:
        """Settings of inference: frames per network call, and the precision of the networks.

        precision: fp32 | bf16 | fp16, or auto, what the device computes natively. fp32 is exact: what data sets are
        evaluated with. All others are for pictures: convolutions channels-last, and resizing in float32.
        """
        self.exact = precision == "fp32"
        if precision == "auto":
            self.precision = native_precision(self.device) if self.tolerates_half else torch.float32
        else:
            self.precision = PRECISIONS[precision]
        self.batch = batch
        layout = torch.contiguous_format if self.exact else torch.channels_last
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.to(memory_format=layout)
        return self

    def autocast(self) -> torch.autocast:
        """Context in which the networks run while sampling, in the precision of ``configure_inference``."""
        dtype = torch.bfloat16 if self.precision == torch.float32 else self.precision
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != torch.float32)

    # --- networks --------------------------------------------------------------------------------

    def parts(self) -> dict[str, nn.Module]:
        """The method's networks by name, for parameter tables, freezing and cost."""
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table: what each counts. By default one line per part."""
        return {name: [part] for name, part in self.parts().items()}

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work that add up to upscaling ``clip`` (B = 1). By default one: upscaling as many frames as a
        network call takes."""
        short = clip.window(0, min(self.batch, clip.frames))
        return {"whole": Work(lambda: self.upscale(short, Noise(0)), 1 / short.frames)}

    @classmethod
    def stages_for(cls, settings: Mapping[str, Any]) -> dict[str, Stage]:
        """The stages that a configuration (its ``method`` node) has, in the order in which they are trained."""
        return cls.stages

    # --- weights ---------------------------------------------------------------------------------

    def random_parts(self) -> dict[str, str]:
        """Pretrained parts that have random weights: {what it is: settings that give it others}."""
        return {}

    def check_pretrained(self, untrained: bool) -> None:
        """Raise WeightsError for the first of ``random_parts``, unless ``untrained`` allows them."""
        for part, remedy in self.random_parts().items():
            if not untrained:
                raise no_weights(part, remedy, "untrained=true")

    def shipped_parts(self) -> set[str]:
        """Parts that a file of weights holds: those that any stage trains."""
        return {part for stage in self.stages.values() for part in stage.trainable} & self.parts().keys()

    def part_state(self, name: str) -> dict[str, Tensor]:
        """Parameters and buffers of a part as files hold them, ``<part>.<key>``."""
        return {f"{name}.{key}": value for key, value in self.parts()[name].state_dict().items()}

    def trained_state(self) -> dict[str, Tensor]:
        """What a file of weights holds."""
        return {key: value for name in sorted(self.shipped_parts()) for key, value in self.part_state(name).items()}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load what ``trained_state`` gave; parts that serve training alone are passed over.

        Raises WeightsError listing the keys that do not fit.
        """
        parts = self.parts()
        trained = {part for stage in self.stages.values() for part in stage.trainable}
        for name, values in by_part(state).items():
            if name in parts:
                where = f"weights do not fit {name!r} (of another method, size or variant?)"
                load_strictly(parts[name], self.adapt_weights(name, values), where)
                self.loaded.add(name)
            elif name not in trained:
                raise WeightsError(f"weights hold a part {name!r}; this method has {', '.join(parts)}")

    def adapt_weights(self, part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """What of stored weights belongs to a part as it is configured; a method may take less than there is."""
        return values

    def missing_parts(self) -> list[str]:
        """Stages that build on another one and have parts for which no weights were loaded."""
        return self.without_weights([name for name, stage in self.stages.items() if stage.needs])

    def without_weights(self, stages: Iterable[str]) -> list[str]:
        """Those of the stages that have parts for which no weights were loaded."""
        candidates = {name: part for name, part in self.parts().items() if any(True for _ in part.parameters())}
        missing = candidates.keys() - self.loaded
        return [name for name in stages if missing.intersection(self.stages[name].trainable)]

    def check_frozen(self, recorded: dict[str, str], trained: Iterable[str]) -> None:
        """Raise WeightsError where weights were trained beside other frozen parts than these.

        recorded: what ``MethodModule.frozen_hashes`` gave then; trained: the parts that the weights bring themselves.
        """
        parts = self.parts()
        for name in sorted(recorded.keys() & parts.keys() - set(trained)):
            if weights_hash(parts[name]) != recorded[name]:
                raise WeightsError(
                    f"these weights were trained beside another {name}: give the same size, prior and flow weights as "
                    "then (size, prior.path, flow.weights), or train anew"
                )

    def load_released(self, folder: Path) -> str:
        """Load the trained part from a folder in the layout of the method's released code; returns a key report."""
        raise WeightsError(f"{folder}: this method has no released weight layout")

    def export_released(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write what ``load_released`` reads, with all that the released code keeps beside it, into an empty folder."""
        raise WeightsError(f"{folder}: this method has no released weight layout; give output=FILE.safetensors")


def by_part(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """``{<part>.<key>: value}`` by part. Raises WeightsError for weights that hold nothing."""
    if not state:
        raise WeightsError("the weights are empty: they hold no trained part")
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, rest = key.partition(".")
        parts.setdefault(name, {})[rest] = value
    return parts


def needed(stages: Mapping[str, Stage], name: str) -> list[str]:
    """Stages that come before ``name``, first things first."""
    names: list[str] = []
    for need in stages[name].needs:
        names += [*needed(stages, need), need]
    return list(dict.fromkeys(names))
