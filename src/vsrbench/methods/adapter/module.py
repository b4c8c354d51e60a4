"""Training of the adapter (Eq. 3.4), and of what the miniature trains beside it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.frames import folded, frame_noise
from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.diffusion.objective import draw_choice, draw_timesteps, objective
from vsrbench.errors import ConfigError
from vsrbench.methods.adapter.descriptions import Descriptions
from vsrbench.methods.adapter.model import AdapterVSR, moves
from vsrbench.methods.adapter.sampling import Sampling, sample, tokens
from vsrbench.methods.adapter.stopping import EarlyStopping
from vsrbench.methods.module import MethodModule
from vsrbench.nn.functional import charbonnier
from vsrbench.types import Clip

GRID = 100  # timesteps between those that the validation loss looks at


class AdapterModule(MethodModule):
    """stage=adapter is the thesis's training, stage=residual its attempt at the decoder's output (4.1.2);
    stage=prior and stage=vae train what the miniature has no weights for.

    objective: weights of the loss terms. timesteps: of a training sample: uniform, from_sampler or all (30 calls).
    train_lr_noise: noise levels of the LR frames. trajectory: train on what the sampler visits (ours). low_band:
    deviation in HR pixels of the band that pixel terms leave out. checkpointing: recompute the frozen U-Net's features
    in the backward pass. early_stopping: settings of ``EarlyStopping``.
    """

    method: AdapterVSR

    @check_arguments("module")
    def __init__(
        self,
        method: AdapterVSR,
        objective: Mapping[str, float] | None = None,
        timesteps: Literal["uniform", "from_sampler", "all"] = "uniform",
        train_lr_noise: Sequence[int] = (0, 50),
        trajectory: bool = False,
        low_band: Annotated[float, Ge(0)] = 0.0,
        checkpointing: bool = False,
        early_stopping: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(method)
        self.objective = dict(objective or {"prediction": 1.0})
        self.timesteps, self.train_lr_noise = timesteps, tuple(train_lr_noise)
        self.trajectory, self.low_band, self.checkpointing = trajectory, low_band, checkpointing
        self.early_stopping = None if early_stopping is None else dict(early_stopping)
        if self.objective.get("language") and method.vit.cls:
            raise ConfigError("module.objective.language compares tokens by region: it needs vit.cls=false")
        self.descriptions = Descriptions(method.prior.text, math.isqrt(method.vit.tokens))

    def begin_stage(self, name: str, optimiser: Any, noise: Noise, schedule: Any = None) -> None:
        """stage=prior and stage=vae move the video parts, the cross-attention and each block's second norm alone."""
        super().begin_stage(name, optimiser, noise, schedule)
        terms = self.stages[self.stage].losses
        if not any(self.objective.get(term) for term in terms):
            raise ConfigError(f"stage={self.stage} needs a weight in module.objective: one of {', '.join(terms)}")
        part = self.stages[self.stage].trainable[0]
        for key, parameter in self.parts()[part].named_parameters():
            parameter.requires_grad_(moves(part, key))
        self.method.settle_gain()

    def saved_parts(self) -> set[str]:
        """With ``tuned`` all that is trained, whatever the stage is: the stages of the miniature follow each other by
        ckpt_path, and the last file holds all of them."""
        return self.method.shipped_parts() if self.method.tuned else super().saved_parts()

    def repeated_blocks(self) -> list[nn.Module]:
        """None: frames are seen between a block's layers."""
        return []

    def configure_callbacks(self) -> list[Any]:
        """Early stopping, where it is set."""
        return [] if self.early_stopping is None else [EarlyStopping(**self.early_stopping)]

    def losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """Of the current stage."""
        stages = {
            "adapter": self.adapter_losses,
            "prior": self.prior_losses,
            "vae": self.vae_losses,
            "residual": self.residual_losses,
        }
        return stages[self.stage](clip, noise)

    def adapter_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """stage=adapter: the frozen U-Net's error with the pseudo text tokens, in the prior's own target (v or eps).

        Eq. 3.1 noises x_HR itself; meant is its latent. Eq. 3.4 is written for eps, upscale predicts v.
        """
        text = tokens(self.method.sampling(clip), clip.lr)
        terms = self.denoising_losses(clip, noise, text)
        if self.objective.get("language"):
            with torch.no_grad():
                description = self.descriptions(_hr(clip))
            terms["language"] = self.objective["language"] * F.mse_loss(text, description)
        return terms

    def prior_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """stage=prior (ours, the miniature): temporal parts and cross-attention learn to use descriptions of the truth.

        Every tenth sample gets the empty prompt, so that the U-Net works without a condition too.
        """
        text = self.descriptions(_hr(clip))
        for row, choice in enumerate(draw_choice(noise, clip, "prompt", 10)):
            if choice == 0:
                text[row] = 0
        return self.denoising_losses(clip, noise, text)

    def denoising_losses(self, clip: Clip, noise: NoiseSource, text: Tensor) -> dict[str, Tensor]:
        """Terms of the U-Net's output at noised latents of the truth, or at what the sampler visits (trajectory)."""
        if self.trajectory:
            return self._on_trajectory(clip, noise, text)
        prior, schedule = self.method.prior, self.method.prior.schedule
        with torch.no_grad():
            latent = self.encode(clip)
            eps = frame_noise(noise, clip, tuple(latent.shape[2:]), "eps")
            level, lr = self._lr(clip, noise)
        sums: dict[str, Tensor] = {}
        draws = self.visited(clip, noise)
        for t in draws:
            x_t = schedule.add_noise(latent, eps, t)
            output = prior.predict(x_t, lr, t, text, level, self.checkpointing)
            _add(sums, self._terms(clip, x_t, output, t, latent, eps), 1 / len(draws))
        return sums

    def visited(self, clip: Clip, noise: NoiseSource) -> list[Tensor]:
        """Timesteps (B,) of the U-Net calls of one training sample.

        "30 denoising steps per iteration" (4.1.1) may mean three things: any timestep with 30 steps in sampling alone
        (uniform), one of the 30 (from_sampler), or all 30, one call each (all).
        """
        if self.timesteps == "uniform":
            return [draw_timesteps(noise, clip, self.method.prior.schedule.length)]
        visited = torch.tensor(self.method.sampler.timesteps(self.method.prior.schedule), device=clip.lr.device)
        if self.timesteps == "from_sampler":
            return [visited[draw_choice(noise, clip, "step", len(visited))]]
        return [step.expand(len(clip.name)) for step in visited]

    def vae_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """stage=vae (ours, the miniature): the decoder's LR and temporal parts learn on sampled latents."""
        return self._decoded_losses(clip, replace(self.method.sampling(clip), condition=False), noise)

    def residual_losses(self, clip: Clip, noise: NoiseSource) -> dict[str, Tensor]:
        """stage=residual: the layer behind the decoder learns on what upscaling decodes (4.1.2; no loss is printed)."""
        return self._decoded_losses(clip, self.method.sampling(clip), noise)

    def _decoded_losses(self, clip: Clip, run: Sampling, noise: NoiseSource) -> dict[str, Tensor]:
        """Charbonnier error, and L1 error of the differences between pixels, of the decoded clip."""
        with torch.no_grad():
            latents, _ = sample(run, noise)
        error = self.method.decode(latents, clip.lr) - _hr(clip)
        return {
            "pixel": self.objective["pixel"] * charbonnier(error),
            "gradient": self.objective["gradient"]
            * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()),
        }

    def _on_trajectory(self, clip: Clip, noise: NoiseSource, text: Tensor) -> dict[str, Tensor]:
        """ours: sample without gradients up to a random step, then learn that step's target."""
        steps = draw_choice(noise, clip, "step", self.method.sampler.steps)
        sums: dict[str, Tensor] = {}
        for step in sorted(set(steps)):
            rows = [row for row, choice in enumerate(steps) if choice == step]
            part = clip.rows(rows)
            with torch.no_grad():
                x, _ = sample(replace(self.method.sampling(part), text=text[rows].detach()), noise, stop=step)
                latent = self.encode(part)
                lr = self.method.prior.noised_lr(part.lr, None, 0)
            t = torch.full(
                (len(rows),), self.method.sampler.timesteps(self.method.prior.schedule)[step], device=x.device
            )
            output = self.method.prior.predict(x, lr, t, text[rows], 0, self.checkpointing)
            _add(sums, self._terms(part, x, output, t, latent, None), len(rows) / len(steps))
        return sums

    def _terms(
        self, clip: Clip, x_t: Tensor, output: Tensor, t: Tensor, latent: Tensor, eps: Tensor | None
    ) -> dict[str, Tensor]:
        """The shared objective on folded frames."""
        prior: Any = self.method.prior
        steps = repeat(t, "b -> (b t)", t=clip.frames)
        known_eps = None if eps is None else folded(eps)
        x, prediction, truth, hr = (folded(value) for value in (x_t, output.float(), latent, _hr(clip)))
        return objective(prior, self.objective, x, prediction, steps, truth, hr, None, self.low_band, known_eps)

    def encode(self, clip: Clip) -> Tensor:
        """Latents (B,T,4,h,w) of the ground truth."""
        latents = self.method.prior.vae.encode(folded(_hr(clip))).float()
        return rearrange(latents, "(b t) c h w -> b t c h w", t=clip.frames)

    def _lr(self, clip: Clip, noise: NoiseSource) -> tuple[Tensor | int, Tensor]:
        """Noise levels (B,) and LR frames noised with them; ours: uniform in ``train_lr_noise``, none is printed."""
        low, high = self.train_lr_noise
        if high == 0:
            return 0, self.method.prior.noised_lr(clip.lr, None, 0)
        level = low + torch.tensor(draw_choice(noise, clip, "lr_level", high - low + 1), device=clip.lr.device)
        eps = frame_noise(noise, clip, tuple(clip.lr.shape[2:]), "lr_noise")
        return level, self.method.prior.noised_lr(clip.lr, eps, level)

    @torch.no_grad()
    def validation_loss(self, clip: Clip) -> float:
        """stage=adapter: Eq. 3.4 at fixed timesteps (50, 150, ..., 950) with fixed noise."""
        if self.stage != "adapter":
            return super().validation_loss(clip)
        prior, schedule, noise = self.method.prior, self.method.prior.schedule, Noise(0)
        latent = self.encode(clip)
        eps = frame_noise(noise, clip, tuple(latent.shape[2:]), "eps")
        text, lr = tokens(self.method.sampling(clip), clip.lr), prior.noised_lr(clip.lr, None, 0)
        losses = []
        for t in range(GRID // 2, schedule.length, GRID):
            output = prior.predict(schedule.add_noise(latent, eps, t), lr, t, text, 0)
            losses.append(F.mse_loss(output.float(), schedule.target(latent, eps, t)))
        return torch.stack(losses).mean().item()


def _add(sums: dict[str, Tensor], terms: dict[str, Tensor], share: float) -> None:
    for name, value in terms.items():
        sums[name] = sums.get(name, 0) + share * value


def _hr(clip: Clip) -> Tensor:
    assert clip.hr is not None
    return clip.hr
