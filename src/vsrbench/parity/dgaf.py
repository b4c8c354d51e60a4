"""Replaying recordings of the code released with DGAF-VSR through ``DGAF`` itself: sampling and optimiser steps."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from vsrbench.diffusion.noise import Noise
from vsrbench.diffusion.samplers import Sampler
from vsrbench.flow.rescaled import on_grid, upscale
from vsrbench.flow.warp import warp
from vsrbench.methods.dgaf.model import DGAF
from vsrbench.methods.dgaf.module import DGAFModule
from vsrbench.methods.dgaf.released import to_ours, to_released
from vsrbench.parity import replays
from vsrbench.parity.recordings import Difference, Recording, load, recorded_flow


def replay(
    recording: Recording, settings: Mapping[str, Any], training: Mapping[str, Any], optimiser: Any
) -> Iterator[Difference]:
    """Largest differences of every recorded tensor.

    settings, training: the nodes ``method`` without networks and ``module``, as variant=released composes them.
    optimiser(parameters) makes the optimiser of training. Raises ConfigError for a recording of another method.
    """
    recording.require("dgaf")
    if recording.trains:
        return replay_training(recording, settings, training, optimiser)
    return replay_sampling(recording, settings)


def build(recording: Recording, settings: Mapping[str, Any], sampler: Sampler, flow: nn.Module) -> DGAF:
    """The method with the recorded networks."""
    method = DGAF(recording.prior(), sampler, flow, **settings)
    load(method.guide, to_ours(recording.part("dgafnet")), recording.folder, "dgafnet")
    return method.eval()


def replay_sampling(recording: Recording, settings: Mapping[str, Any]) -> Iterator[Difference]:
    """Every latent, prediction, aligned x0 and residual, and the decoded frames."""
    method = build(recording, settings, replays.sampler(recording), replays.sampling_flow(recording))
    recorder = replays.Recorder()
    yield from replays.replay_sampling(recording, method, recorder)
    yield from replays.compare_guidance(recording, recorder, "aligned", "guide_latent", "guide_norm", "guide")
    yield _compare_enlarged(recording, recorder, method)


def _compare_enlarged(recording: Recording, recorder: replays.Recorder, method: DGAF) -> Difference:
    """The warped latent of the first step before downscaling, from the second visited frame to the first."""
    guidance = method.guidance
    flow = recorded_flow(recording.inputs["flow_forward"])[:1]
    enlarged = upscale(recorder.tensors[0, recorder.visits(0)[0]]["x0"], guidance.rescale, guidance.mode, guidance.pick)
    warped = warp(enlarged, on_grid(flow, (enlarged.shape[-2], enlarged.shape[-1])), guidance.align)
    return recording.compare("guide_latent_up", warped)


def replay_training(
    recording: Recording, settings: Mapping[str, Any], training: Mapping[str, Any], optimiser: Any
) -> Iterator[Difference]:
    """Losses, gradients and weights of the recorded optimiser steps."""
    # the recorded guide came from a folder, so its input bias is no longer the frozen U-Net's and is trained
    training = {**training, "train_input_bias": True}
    method = build(recording, settings, Sampler(), replays.training_flow(recording))
    module = DGAFModule(method, **training)
    module.begin_stage("guide", optimiser, Noise(0))
    module.train()
    parameters = {to_released(name): p for name, p in method.guide.named_parameters()}
    moving = module.configure_optimizers()
    return replays.replay_steps(recording, method.prior, module.losses, moving, parameters, "dgafnet", "guide_latent")
