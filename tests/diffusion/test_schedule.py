import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from vsrbench.diffusion.schedule import Schedule
from vsrbench.errors import ConfigError

PREDICTIONS = ("v_prediction", "epsilon", "sample")


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("betas", ["scaled_linear", "linear"])
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler])
def test_shares_of_signal_equal_diffusers(kind: type, betas: str) -> None:
    settings = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": betas}
    assert torch.equal(Schedule(**settings).alphas_cumprod, kind(**settings).alphas_cumprod)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_conversions_are_one_another_s_inverse(prediction: str) -> None:
    schedule = Schedule(prediction_type=prediction)
    x0, eps, t = draws(3, 4, 5, 6), draws(3, 4, 5, 6, seed=1), torch.tensor([1, 400, 900])
    x_t = schedule.add_noise(x0, eps, t)
    assert torch.allclose(schedule.x0(x_t, schedule.target(x0, eps, t), t), x0, atol=2e-5)
    assert torch.allclose(schedule.eps(x_t, x0, t), eps, atol=2e-5)


def test_noising_and_target_equal_diffusers() -> None:
    settings = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
    theirs, ours = DDPMScheduler(**settings), Schedule(**settings)
    x0, eps, t = draws(3, 4, 5, 6), draws(3, 4, 5, 6, seed=1), torch.tensor([0, 400, 999])
    assert torch.allclose(ours.add_noise(x0, eps, t), theirs.add_noise(x0, eps, t), atol=1e-6)
    assert torch.allclose(ours.target(x0, eps, t), theirs.get_velocity(x0, eps, t), atol=1e-6)


def test_one_timestep_serves_the_whole_batch() -> None:
    schedule = Schedule()
    x0, eps = draws(3, 4, 5, 6), draws(3, 4, 5, 6, seed=1)
    assert torch.equal(schedule.add_noise(x0, eps, 7), schedule.add_noise(x0, eps, torch.tensor([7, 7, 7])))


def test_targets_by_prediction_type() -> None:
    x0, eps = draws(1, 4, 2, 2), draws(1, 4, 2, 2, seed=1)
    assert torch.equal(Schedule(prediction_type="epsilon").target(x0, eps, 5), eps)
    assert torch.equal(Schedule(prediction_type="sample").target(x0, eps, 5), x0)


def test_a_diffusers_file_is_read_as_it_is() -> None:
    config = dict(DDIMScheduler(1000, 1e-4, 0.02, "scaled_linear", clip_sample=False, set_alpha_to_one=False).config)
    schedule = Schedule(**config, _class_name="DDIMScheduler", _diffusers_version="0")
    assert (schedule.prediction_type, schedule.steps_offset, schedule.final_abar_is_one) == ("epsilon", 0, False)
    again = DDIMScheduler(**schedule.config)
    assert torch.equal(again.alphas_cumprod, schedule.alphas_cumprod)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("beta_schedule", "squaredcos_cap_v2"),
        ("prediction_type", "flow_prediction"),
        ("trained_betas", [0.1, 0.2]),
        ("rescale_betas_zero_snr", True),
        ("clip_sample", True),
        ("thresholding", True),
        ("timestep_spacing", "trailing"),
    ],
)
def test_settings_that_would_change_the_result_are_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"scheduler.*{setting}"):
        Schedule(**{setting: value})
