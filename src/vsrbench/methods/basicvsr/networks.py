"""The network of BasicVSR (Chan et al. 2021): one pass backward, one forward, reconstruction."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.flow.warp import warp
from vsrbench.methods.recurrent import RecurrentNetwork
from vsrbench.nn.functional import recomputed
from vsrbench.nn.residual import SLOPE, ConvResidualBlocks, Upsample


class Propagation(nn.Module):
    """Features of each frame from all that follow it, and from all before it (Sec. 3.1, Eq. 1-3).

    At frame t a direction computes trunk(cat(frame_t, warp(its features of the neighbour))), zeros at its first frame.
    channels, blocks: width and residual blocks of each trunk. offload: backward features wait in the host's memory.
    checkpointing: trunks are computed again in the backward pass. Parameter names are BasicSR's.
    """

    def __init__(self, channels: int = 64, blocks: int = 30, offload: bool = False) -> None:
        super().__init__()
        self.channels, self.offload, self.checkpointing = channels, offload, False
        self.backward_trunk = ConvResidualBlocks(3 + channels, channels, blocks)
        self.forward_trunk = ConvResidualBlocks(3 + channels, channels, blocks)

    def backward_features(self, lr: Tensor, to_next: Tensor, advance: Callable[[], object]) -> list[Tensor]:
        """Features (B,C,h,w) of every frame of lr (B,T,3,h,w), computed from the last to the first.

        to_next: flow[t→t+1] (B,T-1,2,h,w) in pixels.
        """
        features: list[Tensor] = []
        state = self._start(lr)
        for t in reversed(range(lr.shape[1])):
            if t + 1 < lr.shape[1]:
                state = warp(state, to_next[:, t])
            state = self._step(self.backward_trunk, lr[:, t], state)
            features.append(state.cpu() if self.offload else state)
            advance()
        return features[::-1]

    def forward_step(self, lr: Tensor, t: int, state: Tensor | None, to_previous: Tensor) -> Tensor:
        """Features (B,C,h,w) of frame t from those of frame t-1; None at the first frame."""
        state = self._start(lr) if state is None else warp(state, to_previous[:, t - 1])
        return self._step(self.forward_trunk, lr[:, t], state)

    def _start(self, lr: Tensor) -> Tensor:
        return lr.new_zeros(len(lr), self.channels, *lr.shape[-2:])

    def _step(self, trunk: nn.Module, frame: Tensor, state: Tensor) -> Tensor:
        inputs = torch.cat([frame, state.to(frame.dtype)], dim=1)
        return recomputed(trunk, inputs, enabled=self.checkpointing)


class Reconstruction(nn.Module):
    """From a frame's features of both directions to RGB at four times the size, on top of the enlarged LR frame."""

    def __init__(self, channels: int, hr_channels: int) -> None:
        super().__init__()
        self.fusion = nn.Conv2d(2 * channels, channels, 1)
        self.upsample1 = Upsample(channels, channels)
        self.upsample2 = Upsample(channels, hr_channels)
        self.conv_hr = nn.Conv2d(hr_channels, hr_channels, 3, padding=1)
        self.conv_last = nn.Conv2d(hr_channels, 3, 3, padding=1)

    def forward(self, features: Tensor, lr: Tensor) -> Tensor:
        """features (B,2*channels,h,w), lr (B,3,h,w) in [0,1] to RGB (B,3,4h,4w), not clipped."""
        x = features
        for layer in (self.fusion, self.upsample1, self.upsample2, self.conv_hr):
            x = F.leaky_relu(layer(x), SLOPE)
        return self.conv_last(x) + F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)


class BasicVSRNetwork(RecurrentNetwork):
    """BasicVSR for factor 4; 6,291,311 parameters at 64 channels and 30 blocks with SPyNet.

    spynet, flow_minimum: see ``RecurrentNetwork``.
    """

    def __init__(
        self, spynet: nn.Module, propagation: Propagation, hr_channels: int = 64, flow_minimum: int = 64
    ) -> None:
        super().__init__(spynet, flow_minimum)
        self.propagation = propagation
        self.reconstruction = Reconstruction(propagation.channels, hr_channels)

    def restored(
        self, lr: Tensor, to_next: Tensor, to_previous: Tensor, advance: Callable[[], object] = lambda: None
    ) -> Tensor:
        """RGB (B,T,3,4h,4w). advance: called after every frame of either direction."""
        behind = self.propagation.backward_features(lr, to_next, advance)
        state: Tensor | None = None
        frames = []
        for t in range(lr.shape[1]):
            state = self.propagation.forward_step(lr, t, state, to_previous)
            features = torch.cat([behind[t].to(state.device), state], dim=1)
            frames.append(self.reconstruction(features, lr[:, t]))
            advance()
        return rearrange(frames, "t b c h w -> b t c h w")
