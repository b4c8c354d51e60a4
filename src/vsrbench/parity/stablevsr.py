"""Replaying recordings of the released StableVSR code through ``StableVSR`` itself: sampling and optimiser steps."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from vsrbench.diffusion.noise import Noise
from vsrbench.diffusion.samplers import Sampler
from vsrbench.methods.stablevsr.model import StableVSR
from vsrbench.methods.stablevsr.module import StableVSRModule
from vsrbench.parity import replays
from vsrbench.parity.recordings import Difference, Recording, load


def replay(
    recording: Recording, settings: Mapping[str, Any], training: Mapping[str, Any], optimiser: Any
) -> Iterator[Difference]:
    """Largest differences of every recorded tensor; arguments as in ``parity.dgaf.replay``.

    Raises ConfigError for a recording of another method.
    """
    recording.require("stablevsr")
    if recording.trains:
        return replay_training(recording, settings, training, optimiser)
    return replay_sampling(recording, settings)


def build(recording: Recording, settings: Mapping[str, Any], sampler: Sampler, flow: nn.Module) -> StableVSR:
    """The method with the recorded networks."""
    settings = {**settings, "embedding": recording.config["controlnet"]["conditioning_embedding_out_channels"]}
    method = StableVSR(recording.prior(), sampler, flow, **settings)
    load(method.tcm.net, recording.part("controlnet"), recording.folder, "controlnet")
    return method.eval()


def replay_sampling(recording: Recording, settings: Mapping[str, Any]) -> Iterator[Difference]:
    """Every latent, prediction, texture and residual, and the decoded frames."""
    method = build(recording, settings, replays.sampler(recording), replays.sampling_flow(recording))
    recorder = replays.Recorder()
    yield from replays.replay_sampling(recording, method, recorder)
    yield from replays.compare_guidance(recording, recorder, "texture", "guide_rgb", "tcm_norm", "tcm")


def replay_training(
    recording: Recording, settings: Mapping[str, Any], training: Mapping[str, Any], optimiser: Any
) -> Iterator[Difference]:
    """Losses, gradients and weights of the recorded optimiser steps."""
    method = build(recording, settings, Sampler(), replays.training_flow(recording))
    module = StableVSRModule(method, **training)
    module.begin_stage("tcm", optimiser, Noise(0))
    module.train()
    parameters = dict(method.tcm.net.named_parameters())
    moving = module.configure_optimizers()
    return replays.replay_steps(recording, method.prior, module.losses, moving, parameters, "controlnet", "guide_rgb")
