"""What replays of sampling and of training have in common, whatever the method: inputs under our names, comparisons."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vsrbench.diffusion.noise import NoiseSource, RecordedNoise
from vsrbench.diffusion.prior import Prior, to_network
from vsrbench.diffusion.samplers import Sampler
from vsrbench.parity.recordings import Difference, RecordedFlow, Recording, difference, recorded_flow
from vsrbench.types import Clip, Trace

NAME = "recorded"


class Sampled(Protocol):
    """A method whose sampling can be replayed."""

    prior: Prior
    sampler: Sampler

    def upscale(self, clip: Clip, noise: NoiseSource, trace: Trace | None = None) -> Tensor: ...


# losses(clip, noise, trace) -> loss terms
Losses = Callable[[Clip, NoiseSource, Trace], dict[str, Tensor]]


class Recorder:
    """A trace that stores every tensor by (step, frame), in the order of the steps."""

    def __init__(self) -> None:
        self.tensors: dict[tuple[int, int | None], dict[str, Tensor]] = {}

    def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
        self.tensors.setdefault((step, frame), {}).update(tensors)

    def visits(self, step: int) -> list[int]:
        """Frames of a step in visiting order."""
        return [frame for seen, frame in self.tensors if seen == step and frame is not None]


# --- sampling ------------------------------------------------------------------------------------


def sampling_clip(recording: Recording) -> Clip:
    """The recorded LR frames."""
    frames = recording.inputs["lr_frames"][None]
    return Clip(frames, None, [NAME], torch.arange(frames.shape[1])[None], 4)


def sampling_flow(recording: Recording) -> RecordedFlow:
    """The recorded flows, in the order in which a clip's flows are asked for."""
    back, ahead = (recorded_flow(recording.inputs[f"flow_{name}"]) for name in ("forward", "backward"))
    return RecordedFlow([flow[None] for pair in zip(back, ahead, strict=True) for flow in pair])


def sampling_noise(recording: Recording) -> RecordedNoise:
    """The recorded draws; those of the steps are stored in visiting order."""
    inputs, visits = recording.inputs, recording.trace["visit_order"]
    draws = {("initial", NAME, n, 0): draw for n, draw in enumerate(inputs["initial_noise"])}
    for step, order in enumerate(visits.tolist()):
        for visit, frame in enumerate(order):
            draws["step", NAME, frame, step] = inputs["step_noise"][step, visit]
    return RecordedNoise(draws)


def sampler(recording: Recording) -> Sampler:
    """The released codes sample by DDPM."""
    return Sampler(kind="ddpm", steps=int(recording.config["num_inference_steps"]))


def replay_sampling(recording: Recording, method: Sampled, recorder: Recorder) -> Iterator[Difference]:
    """Upscale the recorded clip: timesteps, order, every latent and prediction, and the decoded frames."""
    upscaled = method.upscale(sampling_clip(recording), sampling_noise(recording), recorder)
    prior, timesteps = method.prior, method.sampler.timesteps(method.prior.schedule)
    steps, count = range(len(timesteps)), upscaled.shape[1]
    yield recording.compare("timesteps", torch.tensor(timesteps))
    yield recording.compare("visit_order", torch.tensor([recorder.visits(step) for step in steps]))
    for theirs, ours in (("x_t", "x"), ("v_pred", "output"), ("x0", "x0")):
        stacked = [torch.stack([recorder.tensors[step, n][ours][0] for n in range(count)]) for step in steps]
        yield recording.compare(theirs, torch.stack(stacked))
    latents = [recorder.tensors[step, None]["x"][0] for step in steps]
    yield recording.compare("x_next", torch.stack(latents))
    with torch.inference_mode():
        yield recording.compare("decoded", 2 * prior.decode(latents[-1]) - 1)
    yield difference("frames", upscaled[0], (recording.trace["decoded"] / 2 + 0.5).clamp(0, 1))


def compare_guidance(
    recording: Recording, recorder: Recorder, image: str, images: str, norms: str, prefix: str
) -> Iterator[Difference]:
    """What guides a frame (our ``image``, recorded under ``images``), norms of all residuals, and those kept whole.

    prefix: of the whole residuals' names, ``<prefix>_s<step>_f<frame>_<place>``.
    """
    trace, tensors = recording.trace, recorder.tensors
    guided = [torch.stack([tensors[s, n][image][0] for n in recorder.visits(s)[1:]]) for s in range(len(trace[images]))]
    yield recording.compare(images, torch.stack(guided))
    ours = torch.zeros_like(trace[norms])
    for (step, frame), values in tensors.items():
        if frame is not None:
            residuals = [v for key, v in values.items() if key.startswith(("down", "mid", "up"))]
            ours[step, frame] = torch.tensor([float(r.norm()) for r in residuals] or [0.0])
    yield recording.compare(norms, ours)
    for name in sorted(key for key in trace if key.startswith(f"{prefix}_s")):
        _, step_, frame_, place = name.split("_")
        yield recording.compare(name, tensors[int(step_[1:]), int(frame_[1:])][place][0])


# --- training ------------------------------------------------------------------------------------


def training_flow(recording: Recording) -> RecordedFlow:
    """The recorded flows from the current frame to its neighbour, one batch per step."""
    return RecordedFlow([recorded_flow(recording.inputs[f"s{s}.flow"]) for s in range(int(recording.config["steps"]))])


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


def replay_steps(
    recording: Recording,
    prior: Prior,
    losses: Losses,
    optimiser: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
    part: str,
    guidance: str,
) -> Iterator[Difference]:
    """Optimiser steps: inputs, predictions, loss, gradients, and the weights after the last step.

    parameters: the trained part's under the recorded names; part: its name in ``weights_after``; guidance: name of the
    recorded image or latent that guides, in the trace under ``guidance``.
    """
    sure = {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()}
    for step in range(int(recording.config["steps"])):
        recorder = Recorder()
        terms = losses(training_clip(recording, step), training_noise(recording, step), recorder)
        loss = torch.stack(list(terms.values())).sum()
        yield from _compare_batch(recording, prior, step, recorder, guidance)
        yield recording.compare(f"s{step}.loss", loss)
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(list(parameters.values()), recording.config["max_grad_norm"])
        yield recording.compare(f"s{step}.grad_norm", norm)
        yield from _compare_gradients(recording, step, parameters)
        optimiser.step()
        # AdamW's first steps move every weight by the learning rate whatever the gradient's size: where the gradient
        # is rounding noise, so is its sign, and the weight says nothing
        sure = {name: kept & (_grad(parameters[name]).abs() > 1e-7) for name, kept in sure.items()}
    after = recording.part(part, recording.weights_after)
    for name, parameter in parameters.items():
        yield difference(f"weights_after.{name}", torch.where(sure[name], parameter, after[name]), after[name])


def _compare_batch(
    recording: Recording, prior: Prior, step: int, recorder: Recorder, guidance: str
) -> Iterator[Difference]:
    clip = training_clip(recording, step)
    assert clip.hr is not None
    posterior: Any = prior.vae.encode(to_network(clip.hr[:, 1])).latent_dist
    whole, lr = recorder.tensors[0, None], to_network(clip.lr)
    sides = recording.inputs[f"s{step}.neighbour"]
    ours = {
        "vae_mean_cur": posterior.mean,
        "vae_std_cur": posterior.std,
        "unet_in_nb": torch.cat([whole["x_neighbour"], lr[range(len(lr)), sides]], 1),
        "v_nb": whole["output_neighbour"],
        guidance: whole["guidance"],
        "unet_in_cur": torch.cat([whole["x"], lr[:, 1]], 1),
        "v_cur": recorder.tensors[0, 0]["output"],
        "target": whole["target"],
    }
    for name, value in ours.items():
        if name != guidance or f"s{step}.{name}" in recording.trace:  # kept for the first step alone in some
            yield recording.compare(f"s{step}.{name}", value)


def _compare_gradients(recording: Recording, step: int, parameters: dict[str, nn.Parameter]) -> Iterator[Difference]:
    norms = torch.stack([_grad(parameters[name]).norm() for name in recording.config["param_order"]])
    yield recording.compare(f"s{step}.param_grad_norms_clipped", norms)
    prefix = f"s{step}.clipped_grad."
    for name in sorted(key for key in recording.trace if key.startswith(prefix)):
        yield recording.compare(name, _grad(parameters[name.removeprefix(prefix)]))


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
