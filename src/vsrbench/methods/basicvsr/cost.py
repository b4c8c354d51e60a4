"""BasicVSR's units of work, for the tables of ``bench``."""

from collections.abc import Callable
from typing import Any

import torch

from vsrbench.methods.base import Work
from vsrbench.types import Clip


def work(method: Any, clip: Clip) -> dict[str, Work]:
    """What upscaling ``clip`` (B = 1) consists of, one frame at a time; the clip's length says how often.

    A clip of T frames has T-1 pairs of neighbours, each with a flow in both directions. Left out: warping and copies.
    """
    net, lr = method.net, clip.lr[:, 0]
    channels = net.propagation.channels
    pairs = (clip.frames - 1) / clip.frames
    two = torch.stack([lr, lr], dim=1)
    feature = lr.new_zeros(1, channels, *lr.shape[-2:])

    def unit(network: Callable[..., object], *inputs: Any, often: float = 1.0, of: str | None = None) -> Work:
        def run() -> object:
            with torch.inference_mode(), method.autocast():
                return network(*inputs)

        return Work(run, often, of)

    lines = {"flow network": unit(net.flows, two, often=pairs)} if pairs else {}  # both directions of one pair
    inputs = torch.cat([lr, feature], dim=1)
    lines["backward propagation"] = unit(net.propagation.backward_trunk, inputs, of="propagation")
    lines["forward propagation"] = unit(net.propagation.forward_trunk, inputs, of="propagation")
    lines["reconstruction"] = unit(net.reconstruction, torch.cat([feature, feature], dim=1), lr)
    return lines
