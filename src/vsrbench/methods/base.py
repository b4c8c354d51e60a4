"""What every method promises to the shells: upscale a clip, name its parts and stages, give loss terms."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, nn

from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.errors import ConfigError, TrainingError, WeightsError
from vsrbench.types import Clip, Progress, Trace
from vsrbench.weights.report import load_strictly
from vsrbench.weights.trained import weights_hash


@dataclass(frozen=True)
class Stage:
    """One training stage.

    trainable: names from ``Method.parts()`` whose parameters move; everything else is frozen.
    losses: names of the loss terms that ``Method.losses`` returns.
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


class Method(pl.LightningModule):
    """Base of all methods; a subclass implements ``upscale``, ``parts``, ``stages`` and ``losses``.

    scale: factor from LR to HR. context: neighbour frames that a temporal chunk must overlap on each side
    for chunked output to equal the whole clip's. multiple, minimum: what LR sizes must be divisible by and
    at least be; ``inference`` pads and crops.
    """

    scale: int = 4
    sees_truth = False  # ``upscale`` gets clips with their ground truth: for the ground truth as a row alone
    multiple: int = 1
    minimum: int = 1
    stages: dict[str, Stage] = {}
    opens_blocks: bool = False  # the networks' blocks are walked through from outside, not called as modules
    training_only: tuple[str, ...] = ()  # parts that serve training alone: not averaged, not exported, not in sums

    def __init__(self) -> None:
        super().__init__()
        self.strict_loading = False  # checkpoints hold the trained part alone
        self.precision: torch.dtype = torch.float32
        self.batch = 4
        self.stage = ""
        self.optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None
        self.schedule: Callable[[torch.optim.Optimizer], Any] | None = None
        self.noise = Noise(0)
        self.given: set[str] = set()  # parts whose weights came from somewhere
        # keep(key, make): what is dear to make and needed again; in a run it is made once and stays on disk
        self.keep: Callable[[str, Callable[[], Tensor]], Tensor] = make_again
        self.terms: dict[str, Tensor] = {}  # loss terms of the last batch; the training shell logs them
        self.observed: dict[str, Tensor] = {}  # other numbers of the last batch that it logs, by their names
        self.ended = ""  # why a run is over before trainer.max_steps, for the training shell; "": it is not
        self.skipped: dict[str, int] = {}  # optimiser steps that were not made, by the name of what was wrong
        # What a validation step measures of a clip and its output, and where it shows how far it is: set for training
        self.measure: Callable[[Clip, Tensor], dict[str, float]] = nothing
        self.progress: Progress | None = None
        # With manual optimisation (more than one optimiser) Lightning leaves these two to the method.
        self.accumulate = 1  # batches per optimiser step
        self.gradient_clip: float | None = None

    @property
    def context(self) -> int:
        return 0

    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Upscale a clip that fits in memory: (B,T,3,scale*h,scale*w) in [0,1]."""
        raise NotImplementedError

    def parts(self) -> dict[str, nn.Module]:
        """The method's networks by name, for parameter tables, freezing and cost."""
        raise NotImplementedError

    def never_upscaling(self) -> set[int]:
        """The ``id`` of each parameter of a ``training_only`` part."""
        parts = self.parts() if self.training_only else {}
        return {id(p) for name in self.training_only for p in parts[name].parameters()}

    def counted(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table: what each counts. By default one line per part."""
        return {name: [part] for name, part in self.parts().items()}

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work that add up to upscaling ``clip`` (B = 1). By default one: upscaling as many frames as a
        network call takes."""
        short = clip.window(0, min(self.batch, clip.frames))
        return {"whole": Work(lambda: self.upscale(short, Noise(0)), 1 / short.frames)}

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Weighted loss terms of the current stage; their sum is minimised.

        Random choices come from ``noise`` under the samples' names, which hold the sample numbers: the same
        sample gets the same draws in any batch and on any rank.
        """
        raise NotImplementedError

    # --- shared training behaviour ---------------------------------------------------------------

    def use(self, precision: str = "fp32", batch: int = 4) -> "Method":
        """Settings of inference: autocast precision of the networks and frames per network call."""
        self.precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self.batch = batch
        return self

    def autocast(self) -> torch.autocast:
        """Context in which the networks run while sampling: bf16 where ``use`` asked for it."""
        enabled = self.precision == torch.bfloat16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    @classmethod
    def stages_for(cls, settings: Mapping[str, Any]) -> dict[str, Stage]:
        """The stages that a configuration (its ``method`` node) has, in the order in which they are trained."""
        return cls.stages

    def begin_stage(self, name: str, optimiser: Any, noise: Noise, schedule: Any = None) -> None:
        """Freeze everything but the stage's parts. Raises TrainingError for an unknown stage.

        optimiser(parameters) makes the optimiser; schedule(optimiser), where given, the learning rate's
        schedule, which moves once per optimiser step.
        """
        name = next(iter(self.stages)) if name == "default" else name
        if name not in self.stages:
            raise TrainingError(f"unknown stage {name!r}: use one of {', '.join(self.stages)}")
        self.stage, self.optimiser, self.schedule, self.noise = name, optimiser, schedule, noise
        self.requires_grad_(False)
        for part in self.stages[name].trainable:
            self.parts()[part].requires_grad_(True)

    def train(self, mode: bool = True) -> "Method":
        """Parts that the stage does not train stay in eval mode (frozen statistics, no dropout)."""
        super().train(mode)
        if mode and self.stage:
            trained = self.stages[self.stage].trainable
            for name, part in self.parts().items():
                if name not in trained:
                    part.eval()
        return self

    def carried(self) -> set[str]:
        """Parts that the stage's checkpoint holds: what it trains, and what the stages before it trained."""
        return {part for stage in (*needed(self.stages, self.stage), self.stage) for part in _trained(self, stage)}

    def lacking(self) -> list[str]:
        """Stages that have parts for which no weights were loaded: of those before the current one, or, without a
        stage, of those that build on another one."""
        aside = {name for name, part in self.parts().items() if not any(True for _ in part.parameters())}
        known = self.given | aside | set(self.training_only)
        wanted = needed(self.stages, self.stage) if self.stage else [n for n, s in self.stages.items() if s.needs]
        return [stage for stage in wanted if not known.issuperset(_trained(self, stage))]

    def check_start(self) -> None:
        """Refuse to train a stage on top of parts that an earlier one should have trained (ConfigError)."""
        lacking = self.lacking()
        if lacking:
            raise ConfigError(
                f"stage={self.stage} starts from what stage={lacking[-1]} trained, and the weights hold none of it: "
                f"give ckpt_path=RUN of a run with stage={lacking[-1]}{self.stages[self.stage].remedy}"
            )

    def trained_state(self) -> dict[str, Tensor]:
        """Parameters and buffers of the parts that the stage trains or that earlier ones did (``<part>.<key>``);
        without a stage, of those that any stage trains and upscaling needs."""
        names = {name for stage in self.stages.values() for name in stage.trainable} - set(self.training_only)
        if self.stage:
            names = self.carried()
        parts = self.parts()
        return {f"{n}.{k}": v for n in sorted(names) for k, v in parts[n].state_dict().items()}

    def averaged_state(self) -> dict[str, Tensor]:
        """What of ``trained_state`` an average (EMA) is kept of: what moves, unless a part only serves training."""
        moving = set(_trained(self, self.stage)) if self.stage else self.parts().keys()
        names = moving - set(self.training_only)
        return {key: value for key, value in self.trained_state().items() if key.partition(".")[0] in names}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load what ``trained_state`` gave. Raises WeightsError listing the keys that do not fit."""
        parts = self.parts()
        if not state:
            raise WeightsError("the weights are empty: they hold no trained part")
        by_part: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, rest = key.partition(".")
            by_part.setdefault(name, {})[rest] = value
        for name, values in by_part.items():
            if name not in parts:
                raise WeightsError(f"weights hold a part {name!r}; this method has {', '.join(parts)}")
            where = f"weights do not fit {name!r} (of another method, size or variant?)"
            load_strictly(parts[name], self.adapt_weights(name, values), where)
        self.given |= by_part.keys()

    def adapt_weights(self, part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """What of stored weights belongs to a part as it is configured; a method may take less than there is."""
        return values

    def load_released(self, folder: Path) -> str:
        """Load the trained part from a folder in the layout of the method's released code; returns a key report."""
        raise WeightsError(f"{folder}: this method has no released weight layout")

    def export_released(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write what ``load_released`` reads, with all that the released code keeps beside it, into an empty folder."""
        raise WeightsError(f"{folder}: this method has no released weight layout; give output=FILE.safetensors")

    def frozen_hashes(self) -> dict[str, str]:
        """{part: hash of its weights} of the parts that checkpoints need and do not hold.

        Left out as well: what later stages train, which is still as it was made.
        """
        own: set[str] = self.carried() if self.stage else set()
        for name in self.stages if self.stage else ():
            if self.stage in needed(self.stages, name):
                own |= set(_trained(self, name))
        return {
            name: weights_hash(part)
            for name, part in self.parts().items()
            if name not in own and any(True for _ in part.parameters())
        }

    def check_frozen(self, recorded: dict[str, str], trained: Iterable[str]) -> None:
        """Raise WeightsError where weights were trained beside other frozen parts than these.

        recorded: what ``frozen_hashes`` gave then; trained: the parts that the weights bring themselves.
        """
        parts = self.parts()
        for name in sorted(recorded.keys() & parts.keys() - set(trained)):
            if weights_hash(parts[name]) != recorded[name]:
                raise WeightsError(
                    f"these weights were trained beside another {name}: give the same size, prior and flow weights as "
                    "then (size, prior.path, flow.weights), or train anew"
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = self.trained_state()
        checkpoint["frozen"] = self.frozen_hashes()
        checkpoint["stage"] = self.stage

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_frozen(checkpoint.get("frozen", {}), {key.partition(".")[0] for key in checkpoint["state_dict"]})
        self.load_trained_state(checkpoint["state_dict"])
        checkpoint["state_dict"] = {}

    def configure_optimizers(self) -> Any:
        if self.optimiser is None:
            raise TrainingError("begin_stage() must be called before training")
        optimiser = self.optimiser([p for p in self.parameters() if p.requires_grad])
        if self.schedule is None:
            return optimiser
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": self.schedule(optimiser), "interval": "step"},
        }

    def training_step(self, batch: Clip, batch_idx: int) -> Tensor:
        """Sum of the loss terms, which stay in ``terms``; one that is not finite stops the run and is named."""
        terms = self.losses(batch, self.noise)
        broken = {name: value.item() for name, value in terms.items() if not torch.isfinite(value)}
        if _on_any_rank(bool(broken), self.device):
            what = ", ".join(f"loss term {name!r} is {value}" for name, value in broken.items())
            raise TrainingError(
                f"{what or 'the loss of another process is not finite'} at step {self.global_step} "
                f"(clips {', '.join(batch.name)}): lower the learning rate or use precision 32-true"
            )
        self.terms = {name: value.detach() for name, value in terms.items()}
        return torch.stack(list(terms.values())).sum()

    def validation_step(self, batch: Clip, batch_idx: int) -> dict[str, Any]:
        """Upscale one clip, with the same noise at every step; logs the means of ``measure`` over the clips.

        Returns {"output": (1,T,3,H,W) on the CPU, "metrics", "seconds"} for callbacks.
        """
        started = time.perf_counter()
        with torch.autocast(self.device.type, enabled=False):  # sampling has a precision of its own
            output = self.upscale(batch, self.noise, progress=self.progress).float().cpu()
        seconds = time.perf_counter() - started
        metrics = self.measure(batch, output)
        # "step": the axis that Lightning logs these under. In float64: Lightning's own float32 would round.
        logged = {"step": float(self.global_step), **metrics}
        for name, value in logged.items():
            number = torch.tensor(value, dtype=torch.float64, device=self.device)
            self.log(name, number, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        return {"output": output, "metrics": metrics, "seconds": seconds}

    def on_validation_model_zero_grad(self) -> None:
        """Lightning drops gradients before a validation; where the method steps its optimisers itself, one may fall
        between the batches of a step, and its gradients stay."""
        if self.automatic_optimization:
            super().on_validation_model_zero_grad()


def nothing(clip: Clip, output: Tensor) -> dict[str, float]:
    """``Method.measure`` outside of a run."""
    return {}


def make_again(key: str, make: Callable[[], Tensor]) -> Tensor:
    """``Method.keep`` outside of a run."""
    return make()


def needed(stages: Mapping[str, Stage], name: str) -> list[str]:
    """Stages that come before ``name``, first things first."""
    found: list[str] = []
    for need in stages[name].needs:
        found += [*needed(stages, need), need]
    return list(dict.fromkeys(found))


def _trained(method: Method, stage: str) -> tuple[str, ...]:
    return method.stages[stage].trainable


def _on_any_rank(flag: bool, device: torch.device) -> bool:
    """True where any process of a distributed run says so: all of them stop together and none waits for ever."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return flag
    shared = torch.tensor(float(flag), device=device)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return bool(shared)
