"""The noise schedule of the frozen prior and the conversions between eps, x0 and v.

Legend: abar = alphas_cumprod, the share of signal at a timestep; x_t = sqrt(abar) x0 + sqrt(1-abar) eps;
v = sqrt(abar) eps - sqrt(1-abar) x0 (Salimans and Ho 2022).
"""

from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.errors import ConfigError

KNOWN_BETAS = ("scaled_linear", "linear")
KNOWN_PREDICTIONS = ("v_prediction", "epsilon", "sample")
# Settings of a scheduler_config.json that would change the result, with the one value that is meant here.
FIXED = {
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "clip_sample": False,
    "thresholding": False,
    "timestep_spacing": "leading",
}


class Schedule(nn.Module):
    """alphas_cumprod (T,) float32 and what the network predicts; built from a diffusers scheduler_config.json.

    beta_schedule: "scaled_linear" squares a linear ramp of square roots (Stable Diffusion), "linear" is the
    ramp itself: the wrong one changes every x_t. Raises ConfigError for values it does not know.
    """

    alphas_cumprod: Tensor

    def __init__(
        self,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        beta_schedule: str = "scaled_linear",
        num_train_timesteps: int = 1000,
        prediction_type: str = "v_prediction",
        steps_offset: int = 1,
        set_alpha_to_one: bool = False,
        **others: Any,
    ) -> None:
        super().__init__()
        if beta_schedule not in KNOWN_BETAS:
            raise ConfigError(f"scheduler.beta_schedule={beta_schedule}: use one of {', '.join(KNOWN_BETAS)}")
        if prediction_type not in KNOWN_PREDICTIONS:
            raise ConfigError(f"scheduler.prediction_type={prediction_type}: use one of {', '.join(KNOWN_PREDICTIONS)}")
        for key, only in FIXED.items():
            if others.get(key, only) != only:
                raise ConfigError(f"scheduler.{key}={others[key]}: only {only} is supported")
        power = 0.5 if beta_schedule == "scaled_linear" else 1.0
        betas = torch.linspace(beta_start**power, beta_end**power, num_train_timesteps) ** (1 / power)
        self.register_buffer("alphas_cumprod", torch.cumprod(1 - betas, dim=0), persistent=False)
        self.config = {
            "beta_start": beta_start,
            "beta_end": beta_end,
            "beta_schedule": beta_schedule,
            "num_train_timesteps": num_train_timesteps,
            "prediction_type": prediction_type,
            "steps_offset": steps_offset,
            "set_alpha_to_one": set_alpha_to_one,
            "clip_sample": False,
        }
        self.prediction_type = prediction_type
        self.steps_offset = steps_offset
        self.final_abar_is_one = set_alpha_to_one

    @property
    def length(self) -> int:
        """Number of training timesteps T."""
        return len(self.alphas_cumprod)

    def abar(self, t: Tensor | int, like: Tensor) -> Tensor:
        """alphas_cumprod at t, shaped to multiply ``like`` (B,...); t is one number or (B,)."""
        index = torch.as_tensor(t, device=self.alphas_cumprod.device).reshape(-1)
        return self.alphas_cumprod[index].to(like.device).view(-1, *[1] * (like.ndim - 1))

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """x_t from x0 and eps of the same shape (DGAF-VSR Eq. 1)."""
        abar = self.abar(t, x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """What the network should predict: v, eps or x0, by the prior's own configuration."""
        abar = self.abar(t, x0)
        if self.prediction_type == "v_prediction":
            return abar.sqrt() * eps - (1 - abar).sqrt() * x0
        return eps if self.prediction_type == "epsilon" else x0

    def x0(self, x_t: Tensor, output: Tensor, t: Tensor | int) -> Tensor:
        """The noise-free approximation from the network's output (DGAF-VSR Eq. 3, in the prior's own form)."""
        abar = self.abar(t, x_t)
        if self.prediction_type == "v_prediction":
            return abar.sqrt() * x_t - (1 - abar).sqrt() * output
        if self.prediction_type == "epsilon":
            return self.project(x_t, output, t)
        return output

    def eps(self, x_t: Tensor, x0: Tensor, t: Tensor | int) -> Tensor:
        """The noise that takes x0 to x_t."""
        abar = self.abar(t, x_t)
        return (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()

    def project(self, x_t: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """The noise-free approximation by an estimate of the noise (DGAF-VSR Eq. 3 as it is printed)."""
        abar = self.abar(t, x_t)
        return (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()
