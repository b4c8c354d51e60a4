"""Training of VideoGigaGAN: two stages, two optimisers and one backward pass for Eq. 2.

Generator and discriminator move at once, from the same output (ours: an alternating step would need the generator
twice, and its result would depend on how a batch is split). The terms' gradients are first taken at the output, which
frees the graphs of the feature net and tells which term is to blame for a bad step; then a single backward pass fills
the gradients of both networks, so that plain DDP sees every parameter once in every step.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.errors import ConfigError, TrainingError, WeightsError
from vsrbench.flow.propagation import neighbour_flows
from vsrbench.flow.trained import flow_error
from vsrbench.methods.module import MethodModule, say
from vsrbench.methods.videogigagan.discriminator import Discriminator
from vsrbench.methods.videogigagan.guard import DEAD, NOT_FINITE, Guard, norm, worst
from vsrbench.methods.videogigagan.losses import (
    Objective,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)
from vsrbench.methods.videogigagan.model import VideoGigaGAN, inflated
from vsrbench.nn.functional import charbonnier, precise
from vsrbench.nn.limits import check_least
from vsrbench.nn.perceptual import Features, feature_loss
from vsrbench.types import Clip

DISCRIMINATOR = "discriminator"
R1 = "r1"


class VideoGigaGANModule(MethodModule):
    """stage=image trains the image model on single frames; stage=video trains everything on clips.

    discriminator: its settings, see ``Discriminator``. crop: LR pixels per side in training. objective: see
    ``Objective``. features: feature loss, see ``nn.perceptual``. checkpointing: of the discriminator; the generator has
    settings of its own. from_scratch: train stage=video without an image model.
    """

    method: VideoGigaGAN

    @check_arguments("module")
    def __init__(
        self,
        method: VideoGigaGAN,
        discriminator: Mapping[str, Any],
        crop: int = 64,
        objective: Mapping[str, Any] | None = None,
        features: Features = "lpips_vgg",
        checkpointing: bool = False,
        from_scratch: bool = False,
    ) -> None:
        super().__init__(method, from_scratch)
        self.automatic_optimization = False
        check_least("module.discriminator", discriminator, {"widths": 1, "blocks": 1, "heads": 1})
        self.objective, self.features, self.checkpointing = Objective.of(objective), features, checkpointing
        self.discriminator = Discriminator(crop * method.scale, temporal=method.row["temporal"], **discriminator)
        self.guard = Guard()
        self.values: dict[str, list[Tensor]] = {}
        self.last_r1: float | None = None
        self.misfit = ""  # why a discriminator that was loaded cannot be trained further
        self.feature_loss: Callable[[Tensor, Tensor], Tensor]

    def substitutes(self) -> dict[str, str]:
        """See ``MethodModule.substitutes``."""
        return super().substitutes() | ({"LPIPS": self.features} if self.features != "lpips_vgg" else {})

    # --- stages and optimisers -------------------------------------------------------------------

    def own_parts(self) -> dict[str, nn.Module]:
        return {"discriminator": self.discriminator}

    def begin_stage(self, name: str, optimiser: Any, noise: Noise, schedule: Any = None) -> None:
        """stage=image takes everything off the networks that an image model lacks.

        Raises WeightsError where weights were loaded whose discriminator does not fit this one.
        """
        if self.misfit:
            raise WeightsError(self.misfit)
        if name in ("default", "image"):
            self.method.become_image_model()
            self.discriminator.temporal = nn.ModuleDict()
        super().begin_stage(name, optimiser, noise, schedule)
        self.feature_loss = feature_loss(self.features)
        losses = ("pixel", self.features, "gan")
        self.stages = {key: replace(stage, losses=losses) for key, stage in self.stages.items()}

    def load_own_part(self, name: str, values: dict[str, Tensor]) -> None:
        """A discriminator of another crop or plan is left out, since its generator may be used; training is refused."""
        own = self.discriminator.state_dict()
        values = inflated(values, own)
        if {k: v.shape for k, v in values.items()} == {k: v.shape for k, v in own.items()}:
            self.discriminator.load_state_dict(values)
            return
        scale = self.method.scale
        sizes = [int(key.split(".")[2]) for key in values if key.startswith("image.levels.")]
        theirs, ours = max(sizes, default=0) // scale, self.discriminator.size // scale
        what = f"train.crop={theirs}, here it is {ours}"
        what = what if theirs != ours else "another plan: see module.discriminator"
        self.misfit = f"the weights' discriminator does not fit: it was trained with {what}"

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """All trained parameters, as their gradients are watched and clipped."""
        front = [] if self.method.generator.front is None else list(self.method.generator.front.parameters())
        inner = {id(p) for p in front}
        groups = {
            "generator": [p for p in self.method.generator.parameters() if id(p) not in inner],
            "propagation": front,
            "discriminator": list(self.discriminator.parameters()),
        }
        return {name: parameters for name, parameters in groups.items() if parameters}

    def configure_optimizers(self) -> Any:
        """Two optimisers of one kind, the generator's first; its flow network has a learning rate of its own."""
        if self.optimiser is None:
            raise TrainingError("begin_stage() must be called before training")
        flow = list(getattr(self.method.generator.front, "flow", nn.Module()).parameters())
        inner = {id(p) for p in flow}
        groups: list[Any] = [
            {"params": [p for p in self.method.generator.parameters() if id(p) not in inner], "flow": False}
        ]
        groups += [{"params": flow, "flow": True}] if flow else []
        optimisers = [self.optimiser(groups), self.optimiser(self.discriminator.parameters())]
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] *= self.objective.image_rate if self.stage == "image" else 1.0
                group["lr"] *= self.objective.flow_rate if group.get("flow") else 1.0
        if self.schedule is None:
            return optimisers
        return optimisers, [{"scheduler": self.schedule(o), "interval": "step"} for o in optimisers]

    # --- one step --------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Refuse what would train something else than asked for; say which feature loss it is."""
        if str(self.trainer.precision).startswith("16"):
            raise ConfigError(
                f"trainer.precision={self.trainer.precision}: R1 overflows there; use bf16-mixed or 32-true"
            )
        say(f"feature loss: {self.features}")

    def training_step(self, batch: Clip, batch_idx: int) -> None:  # type: ignore[override]
        """One batch; with the last one of ``accumulate``, a step of both optimisers."""
        if self.stage == "video" and self.method.row["propagation"] and batch.frames < 2:
            raise TrainingError("stage=video learns from neighbouring frames: set train.frames=2 or more")
        middle = batch.frames // 2
        clip = batch.window(middle, middle + 1) if self.stage == "image" else batch
        last = (batch_idx + 1) % self.accumulate == 0
        self.add_batch(clip, last)
        if last:
            self.finish_step(clip)

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """The generator's terms; in training the discriminator's own come beside them."""
        clip = self.method.pad_time(clip)
        assert clip.hr is not None
        frames = self.method.generate(clip, noise)
        return self.output_terms(frames, clip.hr, self.logits_of(frames, clip))

    @torch.no_grad()
    def validation_loss(self, clip: Clip) -> float:
        """See ``MethodModule``. ours: without the GAN term, whose scale moves with the discriminator."""
        clip = self.method.pad_time(clip)
        assert clip.hr is not None
        terms = self.output_terms(self.method.generate(clip, Noise(0)), clip.hr, None)
        return torch.stack(list(terms.values())).sum().item()

    def logits_of(self, frames: Tensor, clip: Clip, checkpointing: bool | None = None, scaled: bool = False) -> Tensor:
        """Logits (B,T) of frames (B,T,3,H,W) in [0,1], or in [-1,1] where they are ``scaled``."""
        if frames.shape[-1] != self.discriminator.size:
            ours, theirs = frames.shape[-1] // self.method.scale, self.discriminator.size // self.method.scale
            raise TrainingError(f"module.crop={theirs}, but samples have {ours} LR pixels: leave it as train.crop")
        frames = frames if scaled else to_network(frames)
        checkpointing = self.checkpointing if checkpointing is None else checkpointing
        return self.discriminator(frames, to_network(clip.lr), checkpointing=checkpointing)

    def adversarial(self, step: int) -> bool:
        """True where the discriminator takes part in step number ``step`` (the first is 0)."""
        return self.stage != "image" or step >= self.objective.pixel_steps

    def penalised(self, step: int) -> bool:
        """True where the discriminator's step number ``step`` carries R1: of the step alone, so resuming keeps it."""
        return self.objective.r1 > 0 and step % self.objective.r1_every == 0 and self.adversarial(step)

    def output_terms(self, frames: Tensor, hr: Tensor, logits: Tensor | None) -> dict[str, Tensor]:
        """The generator's weighted terms for frames (B,T,3,H,W) about [0,1]; logits: the discriminator's of them."""
        weights = self.objective
        terms = {
            "pixel": weights.pixel * charbonnier(precise(frames) - precise(hr), eps=1e-6),
            self.features: weights.features * self.feature_loss(frames.flatten(0, 1), hr.flatten(0, 1)),
        }
        if logits is not None:
            terms["gan"] = weights.gan * generator_loss(logits)
        return terms

    def add_batch(self, source: Clip, last: bool) -> None:
        """Add one batch to the gradients of both networks. last: gradients are then shared between ranks (DDP)."""
        clip = self.method.pad_time(source)
        assert clip.hr is not None
        active = self.adversarial(self.global_step)
        fake = precise(self.method.generate(clip, self.noise))
        output = fake.detach().requires_grad_(True)
        logits = [self.logits_of(output, clip), self.logits_of(clip.hr, clip)] if active else []
        terms = self.output_terms(output, clip.hr, logits[0] if active else None)
        slopes = {  # the discriminator's own loss needs the graph behind its logits once more
            name: torch.autograd.grad(term, output, retain_graph=name == "gan")[0] for name, term in terms.items()
        }
        beside = self.flow_terms(source)
        own = self.discriminator_terms(clip, *logits) if active else {}
        rest = list(beside.values()) + (list(own.values()) or [zero_of(self.discriminator)])
        # The derivative of this product by the generator's parameters is that of its terms.
        carrier = (fake * torch.stack(list(slopes.values())).sum(0)).sum()
        with nullcontext() if last else getattr(self.trainer.model, "no_sync", nullcontext)():
            self.manual_backward((carrier + torch.stack(rest).sum()) / self.accumulate)

        self.terms = {name: term.detach() for name, term in (terms | beside).items()}
        self.observed = {f"logit_{what}": x.detach().mean() for what, x in zip(("fake", "real"), logits, strict=False)}
        self.observed |= {f"loss_{name}": term.detach() for name, term in own.items() if name == DISCRIMINATOR}
        values = {"output": fake.detach().square().mean(), **self.terms}
        values |= {name: term.detach() for name, term in own.items()}
        values |= {f"gradient of {name}": norm([slope]) for name, slope in slopes.items()}
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def flow_terms(self, clip: Clip) -> dict[str, Tensor]:
        """The flow's own error, where it has a weight; it has no gradient at the output."""
        front = self.method.generator.front
        if front is None or not self.objective.flow:
            return {}
        flows = neighbour_flows(front.flow, clip.lr, front.flow_minimum)
        return {"flow": self.objective.flow * flow_error(clip, *flows)}

    def discriminator_terms(self, clip: Clip, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """The discriminator's loss from its logits, with R1 where it is due."""
        assert clip.hr is not None
        terms = {DISCRIMINATOR: discriminator_loss(real, fake)}
        if self.penalised(self.global_step):

            def logits_of(frames: Tensor) -> Tensor:
                # without checkpoints: what they compute again cannot be differentiated twice
                return self.logits_of(frames, clip, checkpointing=False, scaled=True)

            terms[R1] = self.objective.r1_weight * gradient_penalty(logits_of, to_network(clip.hr))
        return terms

    def finish_step(self, clip: Clip) -> None:
        """Step both optimisers, or neither where the guard forbids it; the step counts all the same."""
        step, values = self.global_step, self.values
        self.values = {}
        active = self.adversarial(step)
        groups = self.groups()
        lengths = {name: norm(self.gradients(name, parameters)) for name, parameters in groups.items()}
        if R1 in values:
            self.last_r1 = over_ranks(torch.stack(values[R1]).mean()) / self.objective.r1_weight
        limit = self.objective.propagation_clip
        bounded = {} if limit is None else {"gradient of the propagation": limit}
        verdict = self.guard.verdict(self.guard_values(step, values, lengths), bounded)
        if verdict is None:
            self.shorten_all(groups, lengths)
            self.skipped_in_a_row = 0
        else:
            name, what = verdict
            self.skipped_in_a_row += 1
            self.check_alive(name, what)
            self.skipped[name] = self.skipped.get(name, 0) + 1
            say(f"step {step + 1} skipped: {name} {what} (clips {', '.join(clip.name)})")
        self.move(step, active, skip=verdict is not None)
        self.observed |= {f"gradient_norm_{name}": length for name, length in lengths.items()}
        numbers = {"skipped": float(sum(self.skipped.values()))}
        if self.last_r1 is not None:
            numbers[R1] = self.last_r1
        self.observed |= {name: torch.tensor(number, device=self.device) for name, number in numbers.items()}

    def check_alive(self, name: str, what: str) -> None:
        """Raise TrainingError after so many skipped steps in a row that no later one would be made."""
        if self.skipped_in_a_row >= DEAD[what == NOT_FINITE]:
            raise TrainingError(
                f"{self.skipped_in_a_row} steps in a row were skipped, the last because {name} {what}: the networks no "
                "longer train. Checkpoints of before are kept: lower optimiser.lr, and begin with force=true, or with "
                "name=NEW ckpt_path=RUN from the last good weights"
            )

    def guard_values(self, step: int, values: dict[str, list[Tensor]], lengths: dict[str, Tensor]) -> dict[str, float]:
        """What the guard watches, causes first: terms, their gradients at the output, gradients of the networks."""
        worst_values = {name: max(parts, key=magnitude) for name, parts in values.items()}
        worst_values |= {f"gradient of the {name}": length for name, length in lengths.items()}
        own = worst_values.pop(f"gradient of the {DISCRIMINATOR}")
        if self.penalised(step):  # another gradient than without R1, with a median of its own
            worst_values[f"gradient of the {DISCRIMINATOR} with R1"] = own
        elif self.adversarial(step):
            worst_values[f"gradient of the {DISCRIMINATOR}"] = own
        return worst(worst_values, self.device)

    def gradients(self, name: str, parameters: list[Any]) -> list[Tensor]:
        """Gradients of a group. Raises TrainingError naming parameters that got none, which DDP would refuse later."""
        missing = sum(p.grad is None for p in parameters)
        if missing:
            raise TrainingError(
                f"{missing} parameters of the {name} took no part in stage={self.stage}: remove from the network what "
                "a setting switched off"
            )
        return [p.grad for p in parameters]

    def shorten_all(self, groups: dict[str, list[Any]], lengths: dict[str, Tensor]) -> None:
        """Shorten the propagation's gradient, then each network's (``trainer.gradient_clip_val``)."""
        limit = self.objective.propagation_clip
        if limit is not None and "propagation" in groups:
            shorten(groups["propagation"], lengths["propagation"], limit)
        if self.gradient_clip_val is not None:
            for network in (self.method.generator, self.discriminator):
                torch.nn.utils.clip_grad_norm_(network.parameters(), self.gradient_clip_val)

    def move(self, step: int, active: bool, skip: bool) -> None:
        """One step of both optimisers and schedules.

        A skipped step has no gradients, which no optimiser of torch moves at, so that Lightning's count of steps, and
        with it the place in the data, goes on; likewise the discriminator's while it takes no part, so that its
        schedule follows a step of its optimiser as torch wants it. The discriminator's optimiser is called behind
        Lightning's back: it would count its steps as well.
        """
        optimisers: Any = self.optimizers()
        ours, theirs = optimisers
        if skip:
            ours.zero_grad(set_to_none=True)
        if skip or not active:
            theirs.zero_grad(set_to_none=True)
        frozen = [g for g in ours.param_groups if g.get("flow") and step < self.objective.flow_hold]
        rates = [group["lr"] for group in frozen]
        for group in frozen:
            group["lr"] = 0.0  # not requires_grad=False: DDP wants every parameter in every step
        ours.step()
        for group, rate in zip(frozen, rates, strict=True):
            group["lr"] = rate
        theirs.optimizer.step()
        ours.zero_grad(set_to_none=True)
        theirs.zero_grad(set_to_none=True)
        schedules = self.lr_schedulers() or []
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            schedule.step()  # type: ignore[call-arg]

    # --- checkpoints -----------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["gan"] = {"guard": self.guard.state_dict(), "skipped": dict(self.skipped), "r1": self.last_r1}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["gan"]
        self.guard.load_state_dict(state["guard"])
        self.skipped = dict(state["skipped"])
        self.last_r1 = state["r1"]


def zero_of(network: nn.Module) -> Tensor:
    """Zero with every parameter in it: DDP wants them all in every step, also before the discriminator begins."""
    return torch.stack([parameter.sum() for parameter in network.parameters()]).sum() * 0.0


def to_network(frames: Tensor) -> Tensor:
    """[0,1] to the discriminator's [-1,1]; R1 is measured there."""
    return 2 * frames - 1


def magnitude(value: Tensor) -> float:
    """For the largest of several values: whatever is not finite is larger than all."""
    number = float(value)
    return number if math.isfinite(number) else math.inf


def shorten(parameters: list[Any], length: Tensor, limit: float) -> None:
    factor = (limit / (length + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        parameter.grad.mul_(factor)


def over_ranks(value: Tensor) -> float:
    """Mean over ranks."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
        value = value / distributed.get_world_size()
    return float(value)
