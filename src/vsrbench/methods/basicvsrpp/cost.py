"""BasicVSR++'s units of work, for the tables of ``bench``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vsrbench.methods.base import Work
from vsrbench.nn.residual import ConvResidualBlocks
from vsrbench.types import Clip


def work(method: Any, clip: Clip) -> dict[str, Work]:
    """What upscaling ``clip`` (B = 1) consists of, one frame at a time; the clip's length says how often.

    A clip of T frames has T-1 pairs of neighbours: as many alignments in every branch, and twice as many flows.
    Left out: copies between the parts.
    """
    net, lr = method.net, clip.lr[:, 0]
    pairs = (clip.frames - 1) / clip.frames
    channels = _channels(net.feat_extract)
    feature = lr.new_zeros(1, channels, *lr.shape[-2:])
    still = lr.new_zeros(1, 2, *lr.shape[-2:])
    two = torch.stack([lr, lr], dim=1)

    def unit(network: Callable[..., object], *inputs: Tensor | None, often: float = 1.0, of: str | None = None) -> Work:
        def run() -> object:
            with torch.inference_mode(), method.autocast():
                return network(*inputs)

        return Work(run, often, of)

    lines = {"flow network": unit(net.flows, two, often=pairs)} if pairs else {}  # both directions of one pair
    lines["feature extraction"] = unit(net.feat_extract, lr)
    back = (feature, still) if clip.frames > 2 else (None, None)  # two frames back
    for number, name in enumerate(net.propagation.names):
        if pairs:
            align = net.propagation.deform_align[name]
            lines[f"alignment {name}"] = unit(align, feature, feature, still, *back, often=pairs, of="propagation")
        inputs = feature.repeat(1, 2 + number, 1, 1)
        lines[f"branch {name}"] = unit(net.propagation.backbone[name], inputs, of="propagation")
    everything = feature.repeat(1, 1 + len(net.propagation.names), 1, 1)
    lines["reconstruction"] = unit(net.reconstruction, everything, lr)
    return lines


def _channels(blocks: ConvResidualBlocks) -> int:
    convolution = blocks.main[0]
    assert isinstance(convolution, torch.nn.Conv2d)
    return convolution.out_channels
