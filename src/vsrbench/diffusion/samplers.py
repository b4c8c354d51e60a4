"""Samplers as visible arithmetic: which timesteps are visited, and one update per kind.

Each update equals the diffusers scheduler of the same name (tests/diffusion/test_samplers.py).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from vsrbench.annotations import check_fields
from vsrbench.diffusion.schedule import Schedule
from vsrbench.errors import ConfigError


@dataclass(frozen=True)
class Sampler:
    """kind: ddpm (ancestral), ddim, dpmpp (DPM-Solver++ 2M). steps: network calls per frame.

    start: "noise" begins at pure noise (the papers); "lr_noised" at the latent of the bicubic LR frame with
    the noise of timestep strength*(T-1): large-scale content then comes from the LR frame. eta: share of
    fresh noise in ddim. low_band: standard deviation in HR pixels of the low band taken from the bicubic
    frame after decoding; 0 switches it off.
    """

    kind: Literal["ddpm", "ddim", "dpmpp"] = "ddpm"
    steps: Annotated[int, Ge(1), Le(1000)] = 50
    start: Literal["noise", "lr_noised"] = "noise"
    strength: Annotated[float, Gt(0), Le(1)] = 1.0
    eta: Annotated[float, Ge(0), Le(1)] = 0.0
    low_band: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "sampler")
        if self.start == "noise" and self.strength != 1:
            raise ConfigError("sampler.strength below 1 needs sampler.start=lr_noised")

    def timesteps(self, schedule: Schedule) -> list[int]:
        """Visited timesteps, noisiest first.

        From noise: "leading" spacing t = k*(T//steps) + offset, as the released codes (50 steps: 981 ... 1).
        From the noised LR frame: evenly from strength*(T-1) down to 1 (ours). Raises ConfigError where they do not fit.
        """
        if self.start == "noise":
            ratio = schedule.length // self.steps
            visited = [k * ratio + schedule.steps_offset for k in reversed(range(self.steps))]
        else:
            first = round((schedule.length - 1) * self.strength)
            visited = [round(t) for t in torch.linspace(first, 1, self.steps, dtype=torch.float64).tolist()]
        if visited[0] >= schedule.length or any(a <= b for a, b in zip(visited, [*visited[1:], -1], strict=True)):
            raise ConfigError(
                f"sampler.steps={self.steps} does not fit {schedule.length} timesteps at "
                f"sampler.strength={self.strength}: use fewer steps"
            )
        return visited

    def gap(self, schedule: Schedule) -> int:
        """Timesteps between two visits."""
        visited = self.timesteps(schedule)
        return visited[0] - visited[1] if len(visited) > 1 else visited[0]

    def update(
        self,
        schedule: Schedule,
        x: Tensor,
        x0: Tensor,
        step: int,
        noise: Tensor | None,
        last_x0: Tensor | None,
    ) -> Tensor:
        """x at the next visited timestep from x and x0 (both (B,4,h,w)) at visit number ``step``.

        noise: standard normal like x (needed by ddpm, and by ddim with eta > 0). last_x0: x0 of the visit
        before (dpmpp).
        """
        visited = self.timesteps(schedule)
        t = visited[step]
        following = visited[step + 1] if step + 1 < len(visited) else None
        abar = schedule.alphas_cumprod[t].to(x)
        if self.kind == "dpmpp":
            before = schedule.alphas_cumprod[visited[step - 1]].to(x) if step > 0 else None
            after = schedule.alphas_cumprod[following].to(x) if following is not None else None
            return dpmpp(x, x0, last_x0, abar, after, before)
        if following is not None:
            after = schedule.alphas_cumprod[following].to(x)
        elif self.kind == "ddim" and not schedule.final_abar_is_one:
            after = schedule.alphas_cumprod[0].to(x)
        else:
            after = torch.ones_like(abar)
        if self.kind == "ddpm":
            assert noise is not None
            return ddpm(x, x0, abar, after, noise)
        return ddim(x, x0, abar, after, noise, self.eta)


def ddpm(x: Tensor, x0: Tensor, abar: Tensor, abar_next: Tensor, noise: Tensor) -> Tensor:
    """Ancestral step of Ho et al. (2020), Eq. 7, strided: alpha = abar/abar_next between the two timesteps."""
    alpha = abar / abar_next
    mean = abar_next.sqrt() * (1 - alpha) / (1 - abar) * x0 + alpha.sqrt() * (1 - abar_next) / (1 - abar) * x
    variance = ((1 - abar_next) / (1 - abar) * (1 - alpha)).clamp(min=1e-20)
    return mean + variance.sqrt() * noise


def ddim(x: Tensor, x0: Tensor, abar: Tensor, abar_next: Tensor, noise: Tensor | None, eta: float) -> Tensor:
    """Song et al. (2021), Eq. 12; eta = 0 is deterministic."""
    eps = (x - abar.sqrt() * x0) / (1 - abar).sqrt()
    sigma = eta * ((1 - abar_next) / (1 - abar) * (1 - abar / abar_next)).clamp(min=0).sqrt()
    direction = (1 - abar_next - sigma**2).clamp(min=0).sqrt() * eps
    fresh = sigma * noise if noise is not None and eta > 0 else 0
    return abar_next.sqrt() * x0 + direction + fresh


def dpmpp(
    x: Tensor,
    x0: Tensor,
    last_x0: Tensor | None,
    abar: Tensor,
    abar_next: Tensor | None,
    abar_last: Tensor | None,
) -> Tensor:
    """DPM-Solver++ (2M), Lu et al. (2022), Alg. 2; first order at the first step, x0 itself at the last."""
    if abar_next is None:
        return x0
    half_logsnr, next_logsnr = _half_logsnr(abar), _half_logsnr(abar_next)
    h = next_logsnr - half_logsnr
    ratio = ((1 - abar_next) / (1 - abar)).sqrt()
    growth = abar_next.sqrt() * torch.expm1(-h)
    result = ratio * x - growth * x0
    if last_x0 is not None and abar_last is not None:
        r = (half_logsnr - _half_logsnr(abar_last)) / h
        result = result - 0.5 * growth * (x0 - last_x0) / r
    return result


def _half_logsnr(abar: Tensor) -> Tensor:
    return 0.5 * (abar.log() - (1 - abar).log())
