"""Training on a frame and its neighbour: which neighbour, the flow between them, latents and noise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vsrbench.diffusion.frames import frame_noise, noised_lr
from vsrbench.diffusion.guided import Residuals
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import draw_timesteps, objective
from vsrbench.diffusion.prior import Prior
from vsrbench.flow.bank import pair_flow
from vsrbench.types import Clip, Trace


def pair(
    clip: Clip, choices: list[int], estimator: nn.Module, flow_frames: Callable[[Tensor], Tensor]
) -> tuple[Clip, Clip, Tensor]:
    """The middle frame of three, a neighbour (0: previous, 1: next), and flow[middle→neighbour] (B,2,H,W).

    flow_frames(lr) turns LR frames (B,3,h,w) into what the estimator is to see.
    """
    rows = torch.arange(len(choices), device=clip.lr.device)
    side = torch.tensor(choices, device=clip.lr.device)
    known = None
    if clip.flow_forward is not None and clip.flow_backward is not None:
        known = torch.stack([clip.flow_backward[:, 0], clip.flow_forward[:, 1]])[side, rows]
    flow = pair_flow(estimator, flow_frames(clip.lr[:, 1]), flow_frames(clip.lr[rows, 2 * side]), known)
    assert clip.hr is not None
    neighbour = replace(
        clip.window(0, 1),
        lr=clip.lr[rows, 2 * side].unsqueeze(1),
        hr=clip.hr[rows, 2 * side].unsqueeze(1),
        index=clip.index[rows, 2 * side].unsqueeze(1),
    )
    return clip.window(1, 2), neighbour, flow


def encode(prior: Prior, frame: Clip, noise: NoiseSource, posterior: str = "mode") -> Tensor:
    """Latent (B,4,h,w) of the ground truth of a single frame: the VAE's "mode", or a "sample" of its posterior."""
    assert frame.hr is not None
    draw = None if posterior == "mode" else frame_noise(noise, frame, _latent_shape(prior, frame), "posterior")[:, 0]
    return prior.encode(frame.hr[:, 0], draw)


def draw_eps(prior: Prior, frame: Clip, noise: NoiseSource) -> Tensor:
    """The noise (B,4,h,w) of a single frame's x_t."""
    return frame_noise(noise, frame, _latent_shape(prior, frame), "eps")[:, 0]


@dataclass(frozen=True)
class NoisedPair:
    """A frame and its neighbour, both noised, and what the prior alone makes of the neighbour (all (B,4,h,w)).

    current, neighbour: single frames; flow[current→neighbour] (B,2,H,W); t (B,): of the current frame, whose latent
    and eps make x_t. earlier (B,): of the neighbour, whose noised latent gives ``output`` and x0 = x_t→0.
    """

    current: Clip
    neighbour: Clip
    flow: Tensor
    t: Tensor
    latent: Tensor
    eps: Tensor
    x_t: Tensor
    earlier: Tensor
    noised: Tensor
    output: Tensor
    x0: Tensor


@torch.no_grad()
def noised_pair(
    prior: Prior,
    clip: Clip,
    choices: list[int],
    estimator: nn.Module,
    flow_frames: Callable[[Tensor], Tensor],
    noise: NoiseSource,
    posterior: str = "mode",
    gap: int = 0,
) -> NoisedPair:
    """What a step of training begins with (StableVSR Algorithm 2, l. 2 to 7; DGAF-VSR Supp. 7).

    choices, estimator, flow_frames: see ``pair``. posterior: see ``encode``. gap: timesteps by which the neighbour is
    noisier than the current frame, up to the schedule's last.
    """
    schedule = prior.schedule
    current, neighbour, flow = pair(clip, choices, estimator, flow_frames)  # l. 2
    current, neighbour = (noised_lr(prior, frame, noise) for frame in (current, neighbour))
    t = draw_timesteps(noise, clip, schedule.length)  # l. 5
    earlier = (t + gap).clamp(max=schedule.length - 1)
    latent, beside = (encode(prior, frame, noise, posterior) for frame in (current, neighbour))  # l. 3
    eps = draw_eps(prior, current, noise)  # l. 4
    x_t = schedule.add_noise(latent, eps, t)
    noised = schedule.add_noise(beside, draw_eps(prior, neighbour, noise), earlier)
    output = prior.predict(noised, neighbour.lr[:, 0], earlier).float()  # l. 6
    x0 = schedule.x0(noised, output, earlier)  # l. 7, Eq. 6
    return NoisedPair(current, neighbour, flow, t, latent, eps, x_t, earlier, noised, output, x0)


@dataclass(frozen=True)
class GuidedLoss:
    """Loss terms of the frozen prior's prediction for a frame that a trained network guides.

    guide(x_t, lr, condition, t, prompt, labels, checkpointing) gives what is added. weights, low_band: see
    ``objective``.
    """

    prior: Prior
    guide: Callable[..., Residuals]
    weights: Mapping[str, float]
    low_band: float = 0.0
    checkpointing: bool = False

    def of_pair(
        self, drawn: NoisedPair, condition: Tensor, aligned: Tensor | None, trace: Trace | None = None
    ) -> dict[str, Tensor]:
        """For the current frame of a pair. The trace sees the neighbour, the condition, x_t and the target."""
        if trace is not None:
            target = self.prior.schedule.target(drawn.latent, drawn.eps, drawn.t)
            trace.on_step(
                0, None, x_neighbour=drawn.noised, output_neighbour=drawn.output, guidance=condition, x=drawn.x_t,
                target=target,
            )  # fmt: skip
        return self.terms(drawn.x_t, drawn.current, condition, aligned, drawn.t, drawn.latent, drawn.eps, trace)

    def terms(
        self,
        x_t: Tensor,
        current: Clip,
        condition: Tensor,
        aligned: Tensor | None,
        t: Tensor,
        latent: Tensor,
        eps: Tensor | None = None,
        trace: Trace | None = None,
    ) -> dict[str, Tensor]:
        """For the current frame at x_t (B,4,h,w) and t (B,), guided by ``condition``.

        latent, eps: of that frame. aligned: the neighbour's x0 on its grid, for the agreement term.
        """
        prior, lr = self.prior, current.lr[:, 0]
        residuals = self.guide(x_t, lr, condition, t, prior.prompt, prior.labels(lr.device), self.checkpointing)
        output = prior.predict(x_t, lr, t, residuals, self.checkpointing)
        if trace is not None:
            trace.on_step(0, 0, output=output)
        assert current.hr is not None
        hr = current.hr[:, 0]
        return objective(prior, self.weights, x_t, output.float(), t, latent, hr, aligned, self.low_band, eps)


def _latent_shape(prior: Prior, frame: Clip) -> tuple[int, int, int]:
    return (prior.latent_channels, frame.lr.shape[-2], frame.lr.shape[-1])
