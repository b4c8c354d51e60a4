"""DGAF-VSR for the shells: what is frozen, what is trained, one training step, and upscaling."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.diffusion.frames import finish, frame_noise
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.diffusion.objective import TERMS, draw_choice, draw_timesteps, objective
from vsrbench.diffusion.prior import Prior
from vsrbench.diffusion.samplers import Sampler
from vsrbench.errors import ConfigError
from vsrbench.flow.bank import FlowBank, clip_flows, pair_flow
from vsrbench.methods.base import Method, Stage
from vsrbench.methods.dgaf.networks import GuidingUNet, upscale_warp_downscale
from vsrbench.methods.dgaf.sampling import align_neighbours, direction, exact_context, sample
from vsrbench.nn.imresize import imresize
from vsrbench.types import Clip, Progress, Trace


class DGAF(Method):
    """Densely guided diffusion with aligned features (Xu et al. 2025).

    rescale: s of OGWM. flow_input: how frames are enlarged before flow is estimated ("nearest" as printed).
    objective: weights of the loss terms ("prediction" alone as printed). trajectory: train
    on the x_t that the sampler really visits (ours, for few-step sampling from the noised LR frame) instead of
    noised ground truth. checkpointing: recompute features in the backward pass to save memory. max_context:
    upper bound of the frames a temporal chunk overlaps; None: as many as make chunked equal to whole.
    """

    stages = {"guide": Stage(trainable=("guiding_unet",), losses=TERMS)}
    multiple = 8  # three halvings of the latent grid; odd sizes work but pad cheaply
    minimum = 16

    def __init__(
        self,
        prior: Prior,
        sampler: Sampler,
        flow: nn.Module,
        rescale: int = 4,
        flow_input: str = "nearest",
        objective: Mapping[str, float] | None = None,
        trajectory: bool = False,
        checkpointing: bool = False,
        max_context: int | None = None,
        name: str = "dgaf",
    ) -> None:
        super().__init__()
        self.prior, self.sampler, self.flow = prior.eval().requires_grad_(False), sampler, flow
        self.guide = GuidingUNet(prior.unet)
        if flow_input not in ("nearest", "bicubic"):
            raise ConfigError(f"method.flow_input={flow_input}: use nearest or bicubic")
        self.rescale, self.flow_input = rescale, flow_input
        self.objective = dict(objective or {"prediction": 1.0})
        self.trajectory, self.checkpointing = trajectory, checkpointing
        self.max_context = max_context

    @property
    def context(self) -> int:
        exact = exact_context(self.sampler.steps)
        return exact if self.max_context is None else min(exact, self.max_context)

    def parts(self) -> dict[str, nn.Module]:
        return {
            "flow": self.flow,
            "guiding_unet": self.guide,
            "denoising_unet": self.prior.unet,
            "vae": self.prior.vae,
        }

    def counted(self) -> dict[str, list[nn.Module]]:
        """The lines of Supp. Table 6, with what the paper's figures leave out on lines of their own."""
        guide, vae = self.guide, self.prior.vae
        return {
            "flow estimator (FM)": [self.flow],
            "guiding U-Net": [guide.net],
            "zero convolutions": [guide.zero_encoder, guide.zero_middle, guide.zero_decoder],
            "denoising U-Net": [self.prior.unet],
            "VAE decoder": [vae.decoder, vae.post_quant_conv],
            "VAE encoder": [vae.encoder, vae.quant_conv],
        }

    def flows(self, clip: Clip) -> FlowBank:
        """FM (Sec. 4): flows between pre-upscaled frames, computed once per clip."""
        enlarged = self._enlarge(clip.lr.flatten(0, 1)).unflatten(0, clip.lr.shape[:2])
        return clip_flows(clip, self.flow, enlarged)

    def _enlarge(self, lr: Tensor) -> Tensor:
        """LR frames (N,3,h,w) as the flow estimator is to see them, (N,3,4h,4w)."""
        if self.flow_input == "nearest":
            return F.interpolate(lr, scale_factor=4, mode="nearest")
        return imresize(lr, 4).clamp(0, 1).to(lr.dtype)

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Sec. 4: flows, guided diffusion steps, VAE decoder."""
        flows = self.flows(clip)
        with self.autocast():
            latents, _ = sample(
                self.prior, self.guide, self.sampler, clip, flows, noise,
                self.rescale, self.batch, trace=trace, progress=progress,
            )  # fmt: skip
            return finish(self.prior, self.sampler, clip, latents, self.batch)

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Supp. 7: the guide learns the prior's target for the middle frame of three, the prior is frozen."""
        if self.trajectory:
            return self._losses_on_trajectory(clip, noise)
        current, neighbour, flow = self._pair(clip, draw_choice(noise, clip, "neighbour", 2))
        assert current.hr is not None and neighbour.hr is not None
        schedule = self.prior.schedule
        t = draw_timesteps(noise, clip, schedule.length)
        with torch.no_grad():
            latent = self.prior.encode(current.hr[:, 0])
            x_t = schedule.add_noise(latent, self._eps(noise, current), t)
            # Sec. 4.1: the neighbour's x0 comes from the previous, noisier diffusion step.
            # ours: how training mirrors that is not printed; the gap is the sampler's own.
            earlier = (t + self.sampler.gap(schedule)).clamp(max=schedule.length - 1)
            noised = schedule.add_noise(self.prior.encode(neighbour.hr[:, 0]), self._eps(noise, neighbour), earlier)
            x0 = schedule.x0(noised, self.prior.predict(noised, neighbour.lr[:, 0], earlier), earlier)
            aligned = upscale_warp_downscale(x0, flow, self.rescale)
        return self._terms(x_t, current, aligned, t, latent)

    def _losses_on_trajectory(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """ours: sample without gradients up to a random guided step, then learn that step's target.

        Each sample draws its own step; samples of one step run together. The step decides the neighbour,
        as it does in sampling. Raises ConfigError where the sampler has no guided step.
        """
        if self.sampler.steps < 2:
            raise ConfigError("method.trajectory=true needs sampler.steps=2 or more: the first step is not guided")
        steps = draw_choice(noise, clip, "step", self.sampler.steps - 1)
        sums: dict[str, Tensor] = {}
        for step in range(1, self.sampler.steps):
            rows = [b for b, drawn in enumerate(steps) if drawn + 1 == step]
            if not rows:
                continue
            part = clip.rows(rows)
            previous = direction(step) == -1
            pair = part.window(0, 2) if previous else part.window(1, 3)
            place = 1 if previous else 0
            with torch.no_grad():
                flows = self.flows(pair)
                x, x0 = sample(
                    self.prior,
                    self.guide,
                    self.sampler,
                    pair,
                    flows,
                    noise,
                    self.rescale,
                    len(rows),
                    stop=step,
                )
                assert x0 is not None
                aligned, _ = align_neighbours(x0, flows, direction(step), self.rescale)
                current = pair.window(place, place + 1)
                assert current.hr is not None
                latent = self.prior.encode(current.hr[:, 0])
            t = torch.full((len(rows),), self.sampler.timesteps(self.prior.schedule)[step], device=x.device)
            for name, value in self._terms(x[:, place], current, aligned[:, place], t, latent).items():
                sums[name] = sums.get(name, 0) + value * len(rows) / len(steps)
        return sums

    def _terms(self, x_t: Tensor, current: Clip, aligned: Tensor, t: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """Eq. 4 and the loss terms."""
        lr = current.lr[:, 0]
        labels = self.prior.labels(lr.device)
        residuals = self.guide(x_t, lr, aligned, t, self.prior.prompt, labels, self.checkpointing)
        output = self.prior.predict(x_t, lr, t, residuals, self.checkpointing)
        assert current.hr is not None
        return objective(
            self.prior, self.objective, x_t, output.float(), t, latent, current.hr[:, 0],
            aligned, self.sampler.low_band,
        )  # fmt: skip

    def _pair(self, clip: Clip, choices: list[int]) -> tuple[Clip, Clip, Tensor]:
        """The middle frame, a neighbour (0: previous, 1: next), and flow[middle→neighbour] (B,2,4h,4w)."""
        rows = torch.arange(len(choices), device=clip.lr.device)
        chosen = torch.tensor(choices, device=clip.lr.device)
        known = None
        if clip.flow_forward is not None and clip.flow_backward is not None:
            known = torch.stack([clip.flow_backward[:, 0], clip.flow_forward[:, 1]])[chosen, rows]
        frames = self._enlarge(clip.lr[:, 1]), self._enlarge(clip.lr[rows, 2 * chosen])
        flow = pair_flow(self.flow, *frames, known)
        assert clip.hr is not None
        neighbour = replace(
            clip.window(0, 1),
            lr=clip.lr[rows, 2 * chosen].unsqueeze(1),
            hr=clip.hr[rows, 2 * chosen].unsqueeze(1),
            index=clip.index[rows, 2 * chosen].unsqueeze(1),
        )
        return clip.window(1, 2), neighbour, flow

    def _eps(self, noise: NoiseSource, frame: Clip) -> Tensor:
        height, width = frame.lr.shape[-2:]
        return frame_noise(noise, frame, (self.prior.latent_channels, height, width), "eps")[:, 0]
