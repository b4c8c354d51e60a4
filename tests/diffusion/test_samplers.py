import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from vsrbench.diffusion.samplers import Sampler
from vsrbench.diffusion.schedule import Schedule
from vsrbench.errors import ConfigError

CONFIG = {
    "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction", "steps_offset": 1,
}  # fmt: skip
SHAPE = (2, 4, 6, 5)


def draws(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def network(x: Tensor, t: int) -> Tensor:
    """Stands for a UNet: bounded, smooth, different at every timestep."""
    return torch.tanh(x.roll(1, dims=-1) * (0.5 + t / 1000)) - 0.3 * torch.cos(x + t)


def ours(sampler: Sampler, schedule: Schedule, x: Tensor) -> list[Tensor]:
    """Every x of a trajectory; the noise of step k is ``draws(k)``."""
    last, visited = None, []
    for step, t in enumerate(sampler.timesteps(schedule)):
        x0 = schedule.x0(x, network(x, t), t)
        x, last = sampler.update(schedule, x, x0, step, draws(step), last), x0
        visited.append(x)
    return visited


def compare(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        assert (a - b).abs().max() <= 1e-6 * max(1, b.abs().max()), f"step {step}"


def in_double(*modules: object) -> None:
    """Both sides in float64, so that what is compared is the rule and not the order of roundings."""
    for module in modules:
        for name in ("alphas_cumprod", "final_alpha_cumprod", "one"):
            if hasattr(module, name):
                setattr(module, name, getattr(module, name).double())


@pytest.mark.parametrize("steps", [1, 4, 50])
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_ddpm_equals_diffusers(steps: int, prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**CONFIG, "prediction_type": prediction}
    theirs = DDPMScheduler(**config, clip_sample=False)
    schedule = Schedule(**config)
    in_double(theirs, schedule)
    theirs.set_timesteps(steps)
    assert theirs.timesteps.tolist() == Sampler("ddpm", steps).timesteps(schedule)
    number = iter(range(steps))
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: draws(next(number)).double()
    )
    x, visited = draws(99).double(), []
    for t in theirs.timesteps:
        x = theirs.step(network(x, int(t)), t, x).prev_sample
        visited.append(x)
    compare(ours(Sampler("ddpm", steps), schedule, draws(99).double()), visited)


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_ddim_equals_diffusers(steps: int, eta: float, final: bool) -> None:
    theirs = DDIMScheduler(**CONFIG, clip_sample=False, set_alpha_to_one=final)
    schedule = Schedule(**CONFIG, set_alpha_to_one=final)
    in_double(theirs, schedule)
    theirs.set_timesteps(steps)
    x, visited = draws(99).double(), []
    for step, t in enumerate(theirs.timesteps):
        noise = draws(step).double() if eta else None
        x = theirs.step(network(x, int(t)), t, x, eta=eta, variance_noise=noise).prev_sample
        visited.append(x)
    compare(ours(Sampler("ddim", steps, eta=eta), schedule, draws(99).double()), visited)


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_dpmpp_equals_diffusers(steps: int, strength: float) -> None:
    theirs = DPMSolverMultistepScheduler(
        **CONFIG, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", final_sigmas_type="zero"
    )
    schedule = Schedule(**CONFIG)
    sampler = Sampler("dpmpp", steps, start="noise" if strength == 1 else "lr_noised", strength=strength)
    in_double(theirs, schedule)
    theirs.set_timesteps(timesteps=sampler.timesteps(schedule))
    abar = theirs.alphas_cumprod[theirs.timesteps]
    theirs.sigmas = torch.cat([((1 - abar) / abar).sqrt(), abar.new_zeros(1)])  # their own values, not in float32
    x, visited = draws(99).double(), []
    for t in theirs.timesteps:
        x = theirs.step(network(x, int(t)), t, x).prev_sample
        visited.append(x)
    compare(ours(sampler, schedule, draws(99).double()), visited)


def test_timesteps_of_the_released_codes() -> None:
    visited = Sampler("ddpm", 50).timesteps(Schedule())
    assert visited[:3] + visited[-2:] == [981, 961, 941, 21, 1]
    assert Sampler("ddpm", 50).gap(Schedule()) == 20


def test_timesteps_from_the_noised_lr_frame() -> None:
    assert Sampler("ddim", 4, "lr_noised", 0.4).timesteps(Schedule()) == [400, 267, 134, 1]
    assert Sampler("ddim", 1, "lr_noised", 0.4).timesteps(Schedule()) == [400]
    assert Sampler("ddim", 1, "lr_noised", 0.4).gap(Schedule()) == 400


def test_a_perfect_network_ends_at_the_truth() -> None:
    """With x0 known at every step every sampler ends at it (ddim at the remaining noise of abar_0)."""
    schedule, truth = Schedule(set_alpha_to_one=True), draws(1)
    for kind in ("ddpm", "ddim", "dpmpp"):
        sampler, x = Sampler(kind, 5), draws(2)
        for step in range(5):
            x = sampler.update(schedule, x, truth, step, draws(3), truth)
        assert torch.allclose(x, truth, atol=1e-5), kind


def test_the_first_step_of_dpmpp_is_ddim() -> None:
    schedule, x, x0 = Schedule(), draws(1), draws(2)
    one, other = Sampler("dpmpp", 5), Sampler("ddim", 5)
    assert torch.allclose(
        one.update(schedule, x, x0, 0, None, None), other.update(schedule, x, x0, 0, None, None), atol=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "euler"}, r"sampler\.kind=euler: use ddpm, ddim or dpmpp"),
        ({"start": "lr"}, r"sampler\.start=lr: use noise or lr_noised"),
        ({"steps": 0}, r"sampler\.steps=0: give a whole number from 1 to 1000"),
        ({"steps": 1001}, r"sampler\.steps=1001"),
        ({"start": "lr_noised", "strength": 0}, r"sampler\.strength=0: give a number above 0 to 1"),
        ({"start": "lr_noised", "strength": 1.1}, r"sampler\.strength=1\.1"),
        ({"strength": 0.5}, r"strength below 1 needs sampler\.start=lr_noised"),
        ({"eta": -0.1}, r"sampler\.eta=-0\.1: give a number from 0 to 1"),
        ({"low_band": -1.0}, r"sampler\.low_band=-1\.0"),
    ],
)
def test_impossible_settings(settings: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Sampler(**settings)


@pytest.mark.parametrize(
    "sampler", [Sampler("ddim", 1000), Sampler("ddim", 20, "lr_noised", 0.01), Sampler("ddim", 2, "lr_noised", 0.0001)]
)
def test_more_steps_than_timesteps(sampler: Sampler) -> None:
    with pytest.raises(ConfigError, match=r"sampler\.steps=\d+ does not fit 1000 timesteps"):
        sampler.timesteps(Schedule())


def test_every_number_of_steps_visits_falling_timesteps() -> None:
    for steps in range(1, 1000):
        visited = Sampler("ddim", steps).timesteps(Schedule())
        assert len(visited) == steps
        assert all(a > b for a, b in zip(visited, visited[1:], strict=False))
        assert visited[-1] >= 0 and visited[0] < 1000
