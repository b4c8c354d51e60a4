"""Replaying recordings of the code released with DGAF-VSR through ``DGAF`` itself: sampling and optimiser steps."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import Noise, RecordedNoise
from vsrbench.diffusion.prior import to_network
from vsrbench.diffusion.recordings import Difference, RecordedFlow, Recording, difference, load, recorded_flow
from vsrbench.diffusion.samplers import Sampler
from vsrbench.errors import ConfigError
from vsrbench.flow.rescaled import on_grid, upscale
from vsrbench.flow.warp import warp
from vsrbench.methods.dgaf.module import DGAF
from vsrbench.methods.dgaf.released import to_ours, to_released
from vsrbench.types import Clip

NAME = "recorded"


def replay(recording: Recording, settings: Mapping[str, Any], optimiser: Any) -> Iterator[Difference]:
    """Largest differences of every recorded tensor.

    settings: the node ``method`` without networks, as variant=released composes it. optimiser(parameters) makes the
    optimiser of training. Raises ConfigError for a recording of another method.
    """
    if not str(recording.config.get("method", "")).startswith("dgaf_"):
        raise ConfigError(f"{recording.folder} is a recording of {recording.config.get('method')}, not of dgaf")
    if recording.trains:
        return replay_training(recording, settings, optimiser)
    return replay_sampling(recording, settings)


def build(recording: Recording, settings: Mapping[str, Any], sampler: Sampler, flow: nn.Module) -> DGAF:
    """The method with the recorded networks."""
    method = DGAF(recording.prior(), sampler, flow, **settings)
    load(method.guide, to_ours(recording.part("dgafnet")), f"{recording.folder} dgafnet")
    return method.eval()


class Seen:
    """Everything the trace was told, by (step, frame), in the order in which it was told."""

    def __init__(self) -> None:
        self.tensors: dict[tuple[int, int | None], dict[str, Tensor]] = {}

    def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
        self.tensors.setdefault((step, frame), {}).update(tensors)

    def visits(self, step: int) -> list[int]:
        """Frames of a step in visiting order."""
        return [frame for seen, frame in self.tensors if seen == step and frame is not None]


# --- sampling ------------------------------------------------------------------------------------


def replay_sampling(recording: Recording, settings: Mapping[str, Any]) -> Iterator[Difference]:
    """Four frames, three steps: every latent, prediction, aligned x0 and residual, and the decoded frames."""
    inputs = recording.inputs
    back, ahead = recorded_flow(inputs["flow_forward"]), recorded_flow(inputs["flow_backward"])
    flow = RecordedFlow([f[None] for pair in zip(back, ahead, strict=True) for f in pair])
    steps = int(recording.config["num_inference_steps"])
    method = build(recording, settings, Sampler(kind="ddpm", steps=steps), flow)
    frames = inputs["lr_frames"][None]
    clip = Clip(frames, None, [NAME], torch.arange(frames.shape[1])[None], 4)
    seen = Seen()
    upscaled = method.upscale(clip, recorded_noise(recording), seen)
    last = seen.tensors[steps - 1, None]["x"][0]
    yield recording.compare("timesteps", torch.tensor(method.sampler.timesteps(method.prior.schedule)))
    yield recording.compare("visit_order", torch.tensor([seen.visits(step) for step in range(steps)]))
    yield from _compare_frames(recording, seen, steps, frames.shape[1])
    yield from _compare_guidance(recording, seen, method)
    with torch.inference_mode():
        yield recording.compare("decoded", 2 * method.prior.decode(last) - 1)
    yield difference("frames", upscaled[0], (recording.trace["decoded"] / 2 + 0.5).clamp(0, 1))


def recorded_noise(recording: Recording) -> RecordedNoise:
    """The draws under our names; the recording has those of the steps in visiting order."""
    inputs, visits = recording.inputs, recording.trace["visit_order"]
    draws = {("initial", NAME, n, 0): draw for n, draw in enumerate(inputs["initial_noise"])}
    for step, order in enumerate(visits.tolist()):
        for visit, frame in enumerate(order):
            draws["step", NAME, frame, step] = inputs["step_noise"][step, visit]
    return RecordedNoise(draws)


def _compare_frames(recording: Recording, seen: Seen, steps: int, count: int) -> Iterator[Difference]:
    for theirs, ours in (("x_t", "x"), ("v_pred", "output"), ("x0", "x0")):
        stacked = [torch.stack([seen.tensors[step, n][ours][0] for n in range(count)]) for step in range(steps)]
        yield recording.compare(theirs, torch.stack(stacked))
    yield recording.compare("x_next", torch.stack([seen.tensors[step, None]["x"][0] for step in range(steps)]))


def _compare_guidance(recording: Recording, seen: Seen, method: DGAF) -> Iterator[Difference]:
    """Aligned latents, the 28 norms of every frame, and the residuals that were kept whole."""
    trace, tensors, guidance = recording.trace, seen.tensors, method.guidance
    steps = range(len(trace["guide_norm"]))
    aligned = [torch.stack([tensors[s, n]["aligned"][0] for n in seen.visits(s)[1:]]) for s in steps]
    yield recording.compare("guide_latent", torch.stack(aligned))
    flow = recorded_flow(recording.inputs["flow_forward"])[:1]  # from the second visited frame to the first
    enlarged = upscale(tensors[0, seen.visits(0)[0]]["x0"], guidance.rescale, guidance.mode, guidance.pick)
    warped = warp(enlarged, on_grid(flow, (enlarged.shape[-2], enlarged.shape[-1])), guidance.align)
    yield recording.compare("guide_latent_up", warped)
    norms = torch.zeros_like(trace["guide_norm"])
    for (step, frame), found in tensors.items():
        if frame is not None:
            norms[step, frame] = torch.tensor([float(r.norm()) for r in _residuals(found)] or [0.0])
    yield recording.compare("guide_norm", norms)
    for name in sorted(key for key in trace if key.startswith("guide_s")):
        _, step_, frame_, place = name.split("_")
        yield recording.compare(name, tensors[int(step_[1:]), int(frame_[1:])][place][0])


def _residuals(found: dict[str, Tensor]) -> list[Tensor]:
    return [value for key, value in found.items() if key.startswith(("down", "mid", "up"))]


# --- training ------------------------------------------------------------------------------------


def replay_training(recording: Recording, settings: Mapping[str, Any], optimiser: Any) -> Iterator[Difference]:
    """Optimiser steps: inputs, predictions, loss, gradients, and the weights after the last step."""
    config, inputs = recording.config, recording.inputs
    steps = range(int(config["steps"]))
    flow = RecordedFlow([recorded_flow(inputs[f"s{s}.flow"]) for s in steps])
    # the recorded guide came from a folder, so its input bias is no longer the frozen U-Net's and is trained
    method = build(recording, {**settings, "train_input_bias": True}, Sampler(), flow)
    method.begin_stage("guide", optimiser, Noise(0))
    method.train()
    moving = method.configure_optimizers()
    parameters = {to_released(name): p for name, p in method.guide.named_parameters()}
    sure = {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()}
    for step in steps:
        seen = Seen()
        terms = method.losses(training_clip(recording, step), training_noise(recording, step), seen)
        loss = torch.stack(list(terms.values())).sum()
        yield from _compare_batch(recording, method, step, seen, loss)
        moving.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(list(parameters.values()), config["max_grad_norm"])
        yield recording.compare(f"s{step}.grad_norm", norm)
        yield from _compare_gradients(recording, step, parameters)
        moving.step()
        # AdamW's first steps move every weight by the learning rate whatever the gradient's size: where the gradient
        # is rounding noise, so is its sign, and the weight says nothing
        sure = {name: kept & (_grad(parameters[name]).abs() > 1e-7) for name, kept in sure.items()}
    after = recording.part("dgafnet", recording.weights_after)
    for name, parameter in parameters.items():
        yield difference(f"weights_after.{name}", torch.where(sure[name], parameter, after[name]), after[name])


def training_clip(recording: Recording, step: int) -> Clip:
    """The recorded batch of three-frame clips."""
    lr, hr = (recording.inputs[f"s{step}.{key}"].float() / 255 for key in ("lq", "gt"))
    names = [f"{NAME}#{b}" for b in range(len(lr))]
    return Clip(lr, hr, names, torch.arange(3).expand(len(lr), 3), 4)


def training_noise(recording: Recording, step: int) -> RecordedNoise:
    """The recorded draws under our names."""
    inputs = {key.removeprefix(f"s{step}."): value for key, value in recording.inputs.items()}
    length = recording.config["scheduler"]["num_train_timesteps"]
    draws: dict[tuple[str, str, int, int], Tensor] = {}
    for b, side in enumerate(inputs["neighbour"].tolist()):
        name = f"{NAME}#{b}"
        draws["neighbour", name, 0, 0] = torch.tensor(0.25 if side == 0 else 0.75)
        draws["timestep", name, 0, 0] = (inputs["timesteps"][b] + 0.5) / length
        for frame, which in ((1, "cur"), (side, "nb")):
            draws["posterior", name, frame, 0] = inputs[f"vae_noise_{which}"][b]
            draws["eps", name, frame, 0] = inputs[f"noise_{which}"][b]
    return RecordedNoise(draws)


def _compare_batch(recording: Recording, method: DGAF, step: int, seen: Seen, loss: Tensor) -> Iterator[Difference]:
    clip = training_clip(recording, step)
    assert clip.hr is not None
    posterior = method.prior.vae.encode(to_network(clip.hr[:, 1])).latent_dist
    yield recording.compare(f"s{step}.vae_mean_cur", posterior.mean)
    yield recording.compare(f"s{step}.vae_std_cur", posterior.std)
    whole, output = seen.tensors[0, None], seen.tensors[0, 0]["output"]
    lr = to_network(clip.lr)
    sides = recording.inputs[f"s{step}.neighbour"]
    yield recording.compare(f"s{step}.unet_in_nb", torch.cat([whole["x_neighbour"], lr[range(len(lr)), sides]], 1))
    yield recording.compare(f"s{step}.v_nb", whole["output_neighbour"])
    yield recording.compare(f"s{step}.guide_latent", whole["aligned"])
    yield recording.compare(f"s{step}.unet_in_cur", torch.cat([whole["x"], lr[:, 1]], 1))
    yield recording.compare(f"s{step}.v_cur", output)
    yield recording.compare(f"s{step}.target", whole["target"])
    yield recording.compare(f"s{step}.loss", loss)


def _compare_gradients(recording: Recording, step: int, parameters: dict[str, nn.Parameter]) -> Iterator[Difference]:
    norms = torch.stack([_grad(parameters[name]).norm() for name in recording.config["param_order"]])
    yield recording.compare(f"s{step}.param_grad_norms_clipped", norms)
    prefix = f"s{step}.clipped_grad."
    for name in sorted(key for key in recording.trace if key.startswith(prefix)):
        yield recording.compare(name, _grad(parameters[name.removeprefix(prefix)]))


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
