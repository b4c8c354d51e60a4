"""What every method's training has in common: stages, freezing, one training step, what checkpoints hold."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, distributed, nn

from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.errors import ConfigError, TrainingError
from vsrbench.methods.base import Method, by_part, needed
from vsrbench.methods.padding import pad
from vsrbench.nn.functional import full_precision
from vsrbench.types import Clip, Progress
from vsrbench.weights.trained import weights_hash

# Blocks that networks repeat, called as modules: diffusers' U-Nets and VAE, and ours. Compiling these instead of whole
# networks compiles each kind once, and leaves out what no compiler follows: noise by name, loops over frames.
REPEATED = ("ResnetBlock2D", "BasicTransformerBlock", "ResidualBlock")


class MethodModule(pl.LightningModule):
    """Base of all trainings; a subclass implements ``losses``.

    method: what is trained. from_scratch: every stage starts without those that it would build on. draws: of the noise
    that ``validation_loss`` is the mean over, more than one where the loss depends on a random timestep.
    """

    draws = 1

    def __init__(self, method: Method, from_scratch: bool = False) -> None:
        super().__init__()
        self.method = method
        self.stages = {name: replace(s, needs=() if from_scratch else s.needs) for name, s in method.stages.items()}
        self.strict_loading = False  # checkpoints hold the trained part alone
        self.stage = ""
        self.optimiser: Callable[[Iterable[Any]], torch.optim.Optimizer] | None = None
        self.schedule: Callable[[torch.optim.Optimizer], Any] | None = None
        self.noise = Noise(0)
        self.terms: dict[str, Tensor] = {}  # loss terms of the last batch, for the log
        self.observed: dict[str, Tensor] = {}  # other numbers of the last batch for the log, by their names
        self.ended = ""  # why a run is over before trainer.max_steps; "": it is not
        self.skipped: dict[str, int] = {}  # optimiser steps that were not made, by the name of what was wrong
        self.skipped_in_a_row = 0  # of them, those since the last step that was made
        self.progress: Progress | None = None  # where validation shows how far it is
        self._known_hashes: dict[str, str] | None = None
        self.configure_run()

    def configure_run(
        self,
        accumulate: int = 1,
        gradient_clip_val: float | None = None,
        cache: Callable[[str, Callable[[], Tensor]], Tensor] | None = None,
        measure: Callable[[Clip, Tensor], dict[str, float]] | None = None,
    ) -> None:
        """What a run decides.

        accumulate, gradient_clip_val: batches per optimiser step and largest gradient norm, which Lightning leaves to
        the module under manual optimisation (more than one optimiser). cache(key, make): what is slow to make and
        needed again; a run makes it once and keeps it on disk. measure(clip, output): what a validation step measures.
        """
        self.accumulate, self.gradient_clip_val = accumulate, gradient_clip_val
        self.cache = make_again if cache is None else cache
        self.measure = nothing if measure is None else measure

    # --- stages ----------------------------------------------------------------------------------

    def own_parts(self) -> dict[str, nn.Module]:
        """Networks that serve training alone: in checkpoints, but neither averaged nor exported."""
        return {}

    def parts(self) -> dict[str, nn.Module]:
        """All networks by name."""
        return {**self.method.parts(), **self.own_parts()}

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

    def check_start(self) -> None:
        """Refuse to train a stage on top of parts that an earlier one should have trained (ConfigError)."""
        absent = self.method.without_weights(needed(self.stages, self.stage))
        if absent:
            raise ConfigError(
                f"stage={self.stage} starts from what stage={absent[-1]} trained, and the weights hold none of it: "
                f"give ckpt_path=RUN of a run with stage={absent[-1]}{self.stages[self.stage].remedy}"
            )

    def substitutes(self) -> dict[str, str]:
        """What the training uses in place of pretrained parts: {part: what instead}, for the result and its card."""
        return dict.fromkeys(self.method.random_parts(), "random weights at the start")

    def train(self, mode: bool = True) -> Self:
        """Parts that the stage does not train stay in eval mode (frozen statistics, no dropout)."""
        super().train(mode)
        if mode and self.stage:
            trained = self.stages[self.stage].trainable
            for name, part in self.parts().items():
                if name not in trained:
                    part.eval()
        return self

    def repeated_blocks(self) -> list[nn.Module]:
        """The blocks that ``trainer.compile`` compiles and ``trainer=fsdp`` shards."""
        return [module for module in self.modules() if type(module).__name__ in REPEATED]

    # --- steps -----------------------------------------------------------------------------------

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Weighted loss terms of the current stage; their sum is minimised.

        Random choices come from ``noise`` under the samples' names, which hold the sample numbers: the same
        sample gets the same draws in any batch and on any rank.
        """
        raise NotImplementedError

    @torch.no_grad()
    def validation_loss(self, clip: Clip) -> float:
        """Sum of the stage's loss terms for a validation clip, with noise that is the same at every call.

        ours: noise drawn anew would move the value by chance, and early stopping with it.
        """
        sums = [torch.stack(list(self.losses(clip, Noise(seed)).values())).sum() for seed in range(self.draws)]
        return torch.stack(sums).mean().item()

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
        height, width = (side * self.method.scale for side in batch.lr.shape[-2:])
        padded, noise = pad(batch, self.method, self.noise)
        with full_precision(self.device):  # sampling has a precision of its own
            output = self.upscale(padded, noise, progress=self.progress)[..., :height, :width].float().cpu()
        seconds = time.perf_counter() - started
        metrics = self.measure(batch, output)
        # "step": the axis that Lightning logs these under. In float64: Lightning's own float32 would round.
        logged = {"step": float(self.global_step), **metrics}
        for name, value in logged.items():
            number = torch.tensor(value, dtype=torch.float64, device=self.device)
            self.log(name, number, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        return {"output": output, "metrics": metrics, "seconds": seconds}

    def on_validation_model_zero_grad(self) -> None:
        """Lightning drops gradients before a validation; where the module steps its optimisers itself, one may fall
        between the batches of a step, and its gradients stay."""
        if self.automatic_optimization:
            super().on_validation_model_zero_grad()

    def upscale(self, clip: Clip, noise: NoiseSource, progress: Progress | None = None) -> Tensor:
        """What the stage makes of a clip while training: by default what the method upscales."""
        return self.method.upscale(clip, noise, progress=progress)

    def configure_optimizers(self) -> Any:
        if self.optimiser is None:
            raise TrainingError("begin_stage() must be called before training")
        optimiser = self.optimiser(self.parameter_groups())
        if self.schedule is None:
            return optimiser
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": self.schedule(optimiser), "interval": "step"},
        }

    def parameter_groups(self) -> list[Any]:
        """What the optimiser moves: parameters, or groups of them with settings of their own."""
        return [p for p in self.parameters() if p.requires_grad]

    # --- weights ---------------------------------------------------------------------------------

    def saved_parts(self) -> set[str]:
        """Parts that the stage's checkpoint holds: what it trains, and what the stages before it trained."""
        names = (*needed(self.stages, self.stage), self.stage) if self.stage else ()
        return {part for stage in names for part in self.stages[stage].trainable}

    def trained_state(self) -> dict[str, Tensor]:
        """Parameters and buffers of ``saved_parts`` (``<part>.<key>``); without a stage, what the method ships."""
        if not self.stage:
            return self.method.trained_state()
        state: dict[str, Tensor] = {}
        own = self.own_parts()
        for name in sorted(self.saved_parts()):
            part = own.get(name)
            if part is None:
                state |= self.method.part_state(name)
            else:
                state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
        return state

    def averaged_state(self) -> dict[str, Tensor]:
        """What of ``trained_state`` an average (EMA) is kept of: what moves, unless a part only serves training."""
        moving = self.stages[self.stage].trainable if self.stage else self.method.parts()
        names = set(moving) - self.own_parts().keys()
        return {key: value for key, value in self.trained_state().items() if key.partition(".")[0] in names}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load what ``trained_state`` gave. Raises WeightsError listing the keys that do not fit."""
        self.method.load_trained_state(state)
        for name in self.own_parts().keys() & by_part(state).keys():
            self.load_own_part(name, by_part(state)[name])

    def load_own_part(self, name: str, values: dict[str, Tensor]) -> None:
        """Load one of ``own_parts``."""
        self.own_parts()[name].load_state_dict(values)

    def load_released(self, folder: Path) -> str:
        """See ``Method.load_released``."""
        return self.method.load_released(folder)

    def frozen_hashes(self) -> dict[str, str]:
        """{part: hash of its weights} of the parts that checkpoints need and do not hold.

        Left out as well: what later stages train, which is still as it was made.
        """
        if self._known_hashes is not None:
            return self._known_hashes
        own = self.saved_parts()
        for name in self.stages if self.stage else ():
            if self.stage in needed(self.stages, name):
                own |= set(self.stages[name].trainable)
        return {
            name: weights_hash(part)
            for name, part in self.parts().items()
            if name not in own and any(True for _ in part.parameters())
        }

    def before_sharding(self) -> None:
        """Take the hashes now, while every process has the weights whole: frozen ones do not change."""
        self._known_hashes = self.frozen_hashes()

    def check_frozen(self, recorded: dict[str, str], trained: Iterable[str]) -> None:
        """See ``Method.check_frozen``."""
        self.method.check_frozen(recorded, trained)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = self.trained_state()
        checkpoint["frozen"] = self.frozen_hashes()
        checkpoint["stage"] = self.stage

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_frozen(checkpoint.get("frozen", {}), {key.partition(".")[0] for key in checkpoint["state_dict"]})
        self.load_trained_state(checkpoint["state_dict"])
        checkpoint["state_dict"] = {}


@rank_zero_only
def say(text: str) -> None:
    """Print from the first process of a distributed run alone; Lightning's own notes are silenced."""
    print(text)


def centre(clip: Clip, crop: int) -> Clip:
    """The centre ``crop`` x ``crop`` LR pixels of a clip, or all it has of a side; a multiple of 8."""
    height, width = (min(crop, side) // 8 * 8 for side in clip.lr.shape[-2:])
    top, left = (clip.lr.shape[-2] - height) // 2, (clip.lr.shape[-1] - width) // 2

    names = ("lr", "hr", "flow_forward", "flow_backward", "occlusion")
    scales = {name: clip.scale if name == "hr" else 1 for name in names if getattr(clip, name) is not None}
    parts: dict[str, Any] = {
        name: getattr(clip, name)[..., s * top : s * (top + height), s * left : s * (left + width)]
        for name, s in scales.items()
    }
    return replace(clip, **parts)


def nothing(clip: Clip, output: Tensor) -> dict[str, float]:
    """``MethodModule.measure`` outside of a run."""
    return {}


def make_again(key: str, make: Callable[[], Tensor]) -> Tensor:
    """``MethodModule.cache`` outside of a run."""
    return make()


def _on_any_rank(flag: bool, device: torch.device) -> bool:
    """True where any process of a distributed run says so: all of them stop together and none waits for ever."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return flag
    shared = torch.tensor(float(flag), device=device)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return bool(shared)
