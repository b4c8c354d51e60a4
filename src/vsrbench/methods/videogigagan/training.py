"""One training step of VideoGigaGAN's Eq. 2, for two optimisers and one backward pass.

Generator and discriminator move at once, from the same output (ours: an alternating step would need the generator
twice, and its result would depend on how a batch is split). The terms' gradients are first taken at the output, which
frees the graphs of the feature net and tells which term is to blame for a bad step; then a single backward pass fills
the gradients of both networks, so that plain DDP sees every parameter once in every step.
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, distributed, nn

from vsrbench.errors import ConfigError, TrainingError
from vsrbench.flow.network import precise
from vsrbench.methods.videogigagan.guard import norm, worst
from vsrbench.methods.videogigagan.losses import charbonnier, discriminator_loss, generator_loss, gradient_penalty
from vsrbench.nn.flow_loss import flow_error
from vsrbench.nn.limits import check_least
from vsrbench.nn.propagation import neighbour_flows
from vsrbench.types import Clip

if TYPE_CHECKING:
    from vsrbench.methods.videogigagan.module import VideoGigaGAN

DISCRIMINATOR = "discriminator"
R1 = "r1"


@dataclass(frozen=True)
class Objective:
    """Eq. 2 (Sec. 4.1 for the weights) and when its terms begin.

    gan: on the generator's term alone (ours; weighing the discriminator's loss too would make R1 twenty times
    stronger beside it). r1: coefficient, 0 for none, halved with r1_half (StyleGAN2's gamma / 2); r1_every:
    discriminator steps between penalties, each then weighs as many times more. pixel_steps: steps of stage=image
    without the discriminator. image_rate: learning rate of stage=image over that of stage=video. flow_rate, flow_hold:
    of the flow network, relative, and steps that it waits at first (BasicVSR++). propagation_clip: largest norm of the
    gradient of the parts in front of the U-Net. flow: weight of the flow's own error (ours), see ``nn.flow_loss``.
    """

    gan: float = 0.05
    features: float = 5.0
    pixel: float = 10.0
    r1: float = 0.2048
    r1_half: bool = True
    r1_every: int = 16
    pixel_steps: int = 2000
    image_rate: float = 2.0
    flow_rate: float = 0.25
    flow_hold: int = 5000
    propagation_clip: float | None = 10.0
    flow: float = 0.0

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> "Objective":
        """Raises ConfigError for keys it does not know, negative numbers and an interval below 1."""
        known = {field.name for field in fields(cls)}
        unknown = set(settings or {}) - known
        if unknown:
            raise ConfigError(
                f"method.objective has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
            )
        least: dict[str, float] = dict.fromkeys(
            ("gan", "features", "pixel", "r1", "image_rate", "flow_rate", "flow"), 0.0
        )
        least |= {"propagation_clip": 0.0, "r1_every": 1, "pixel_steps": 0, "flow_hold": 0}
        check_least("method.objective", settings or {}, least)
        return cls(**(settings or {}))

    @property
    def r1_weight(self) -> float:
        return self.r1 * self.r1_every * (0.5 if self.r1_half else 1.0)


def adversarial(method: "VideoGigaGAN", step: int) -> bool:
    """True where the discriminator takes part in step number ``step`` (the first is 0)."""
    return method.stage != "image" or step >= method.objective.pixel_steps


def penalised(method: "VideoGigaGAN", step: int) -> bool:
    """True where the discriminator's step number ``step`` carries R1: a function of the step, so resuming keeps it."""
    due = step % method.objective.r1_every == 0 and method.objective.r1 > 0
    return due and adversarial(method, step)


def output_terms(method: "VideoGigaGAN", frames: Tensor, hr: Tensor, logits: Tensor | None) -> dict[str, Tensor]:
    """The generator's weighted terms for frames (B,T,3,H,W) about [0,1]; logits: the discriminator's of them."""
    weights = method.objective
    terms = {
        "pixel": weights.pixel * charbonnier(frames, hr),
        method.feature_name: weights.features * method.feature_loss(frames.flatten(0, 1), hr.flatten(0, 1)),
    }
    if logits is not None:
        terms["gan"] = weights.gan * generator_loss(logits)
    return terms


def batch(method: "VideoGigaGAN", clip: Clip, last: bool) -> None:
    """Add one batch to the gradients of both networks. last: gradients are then shared between ranks (DDP)."""
    seen = method.as_seen(clip)
    assert seen.hr is not None
    active = adversarial(method, method.global_step)
    fake = precise(method.generate(seen, method.noise))
    output = fake.detach().requires_grad_(True)
    logits = [method.judge(output, seen), method.judge(seen.hr, seen)] if active else []
    terms = output_terms(method, output, seen.hr, logits[0] if active else None)
    slopes = {  # the discriminator's own loss needs the graph behind its logits once more
        name: torch.autograd.grad(term, output, retain_graph=name == "gan")[0] for name, term in terms.items()
    }
    beside = flow_terms(method, clip)
    own = discriminator_terms(method, seen, *logits) if active else {}
    rest = list(beside.values()) + (list(own.values()) or [resting(method.discriminator)])
    # The derivative of this product by the generator's parameters is that of its terms.
    carrier = (fake * torch.stack(list(slopes.values())).sum(0)).sum()
    with nullcontext() if last else getattr(method.trainer.model, "no_sync", nullcontext)():
        method.manual_backward((carrier + torch.stack(rest).sum()) / method.accumulate)

    method.terms = {name: term.detach() for name, term in (terms | beside).items()}
    method.observed = {f"logit_{what}": x.detach().mean() for what, x in zip(("fake", "real"), logits, strict=False)}
    method.observed |= {f"loss_{name}": term.detach() for name, term in own.items() if name == DISCRIMINATOR}
    values = {"output": fake.detach().square().mean(), **method.terms}
    values |= {name: term.detach() for name, term in own.items()}
    values |= {f"gradient of {name}": norm([slope]) for name, slope in slopes.items()}
    for name, value in values.items():
        method.seen.setdefault(name, []).append(value)


def flow_terms(method: "VideoGigaGAN", clip: Clip) -> dict[str, Tensor]:
    """The flow's own error, where it has a weight: not by way of the frames, so it has no gradient at the output."""
    front = method.generator.front
    if front is None or not method.objective.flow:
        return {}
    flows = neighbour_flows(front.flow, clip.lr, front.flow_minimum)
    return {"flow": method.objective.flow * flow_error(clip, *flows)}


def discriminator_terms(method: "VideoGigaGAN", clip: Clip, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """The discriminator's loss from its logits, with R1 where it is due."""
    assert clip.hr is not None
    terms = {DISCRIMINATOR: discriminator_loss(real, fake)}
    if penalised(method, method.global_step):

        def judge(frames: Tensor) -> Tensor:
            # without checkpoints: what they compute again cannot be differentiated twice
            return method.judge(frames, clip, checkpointing=False, scaled=True)

        terms[R1] = method.objective.r1_weight * gradient_penalty(judge, to_network(clip.hr))
    return terms


def resting(network: nn.Module) -> Tensor:
    """Zero with every parameter in it: DDP wants them all in every step, also before the discriminator begins."""
    return torch.stack([parameter.sum() for parameter in network.parameters()]).sum() * 0.0


def to_network(frames: Tensor) -> Tensor:
    """[0,1] to the discriminator's [-1,1]; R1 is measured there."""
    return 2 * frames - 1


def finish_step(method: "VideoGigaGAN", clip: Clip) -> None:
    """Step both optimisers, or neither where the guard forbids it; the step counts all the same."""
    step, seen = method.global_step, method.seen
    method.seen = {}
    active = adversarial(method, step)
    groups = method.groups()
    lengths = {name: norm(gradients(method, name, parameters)) for name, parameters in groups.items()}
    if R1 in seen:
        method.last_r1 = over_ranks(torch.stack(seen[R1]).mean()) / method.objective.r1_weight
    limit = method.objective.propagation_clip
    bounded = {} if limit is None else {"gradient of the propagation": limit}
    verdict = method.guard.verdict(judged(method, step, seen, lengths), bounded)
    if verdict is None:
        shorten_all(method, groups, lengths)
    else:
        name, what = verdict
        method.skipped[name] = method.skipped.get(name, 0) + 1
        tell(f"step {step + 1} skipped: {name} {what} (clips {', '.join(clip.name)})")
    move(method, step, active, skip=verdict is not None)
    method.observed |= {f"gradient_norm_{name}": length for name, length in lengths.items()}
    numbers = {"skipped": float(sum(method.skipped.values()))}
    if method.last_r1 is not None:
        numbers[R1] = method.last_r1
    method.observed |= {name: torch.tensor(number, device=method.device) for name, number in numbers.items()}


def judged(
    method: "VideoGigaGAN", step: int, seen: dict[str, list[Tensor]], lengths: dict[str, Tensor]
) -> dict[str, float]:
    """What the guard is to judge, causes first: terms, their gradients at the output, gradients of the networks."""
    values = {name: max(found, key=badness) for name, found in seen.items()}
    values |= {f"gradient of the {name}": length for name, length in lengths.items()}
    own = values.pop(f"gradient of the {DISCRIMINATOR}")
    if penalised(method, step):  # another gradient than without R1, with a median of its own
        values[f"gradient of the {DISCRIMINATOR} with R1"] = own
    elif adversarial(method, step):
        values[f"gradient of the {DISCRIMINATOR}"] = own
    return worst(values, method.device)


def gradients(method: "VideoGigaGAN", name: str, parameters: list[Any]) -> list[Tensor]:
    """Gradients of a group. Raises TrainingError naming parameters that got none, which DDP would refuse later."""
    missing = sum(p.grad is None for p in parameters)
    if missing:
        raise TrainingError(
            f"{missing} parameters of the {name} took no part in stage={method.stage}: remove from the network what "
            "a setting switched off"
        )
    return [p.grad for p in parameters]


def badness(value: Tensor) -> float:
    """For the largest of several values: whatever is not finite is larger than all."""
    number = float(value)
    return number if math.isfinite(number) else math.inf


def shorten_all(method: "VideoGigaGAN", groups: dict[str, list[Any]], lengths: dict[str, Tensor]) -> None:
    """Shorten the propagation's gradient, then each network's (``trainer.gradient_clip_val``)."""
    limit = method.objective.propagation_clip
    if limit is not None and "propagation" in groups:
        shorten(groups["propagation"], lengths["propagation"], limit)
    if method.gradient_clip is not None:
        for network in (method.generator, method.discriminator):
            torch.nn.utils.clip_grad_norm_(network.parameters(), method.gradient_clip)


def shorten(parameters: list[Any], length: Tensor, limit: float) -> None:
    factor = (limit / (length + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        parameter.grad.mul_(factor)


def move(method: "VideoGigaGAN", step: int, active: bool, skip: bool) -> None:
    """One step of both optimisers and schedules.

    A skipped step has no gradients, which no optimiser of torch moves at, so that Lightning's count of steps, and
    with it the place in the data, goes on; likewise the discriminator's while it takes no part, so that its schedule
    follows a step of its optimiser as torch wants it. The discriminator's optimiser is called behind Lightning's back:
    it would count its steps as well.
    """
    optimisers: Any = method.optimizers()
    ours, theirs = optimisers
    if skip:
        ours.zero_grad(set_to_none=True)
    if skip or not active:
        theirs.zero_grad(set_to_none=True)
    held = [g for g in ours.param_groups if g.get("flow") and step < method.objective.flow_hold]
    rates = [group["lr"] for group in held]
    for group in held:
        group["lr"] = 0.0  # not requires_grad=False: DDP wants every parameter in every step
    ours.step()
    for group, rate in zip(held, rates, strict=True):
        group["lr"] = rate
    theirs.optimizer.step()
    ours.zero_grad(set_to_none=True)
    theirs.zero_grad(set_to_none=True)
    schedules = method.lr_schedulers() or []
    for schedule in schedules if isinstance(schedules, list) else [schedules]:
        schedule.step()  # type: ignore[call-arg]


def over_ranks(value: Tensor) -> float:
    """Mean over ranks."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
        value = value / distributed.get_world_size()
    return float(value)


@rank_zero_only
def tell(text: str) -> None:
    print(text)
