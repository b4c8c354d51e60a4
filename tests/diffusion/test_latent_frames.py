"""The loop that all latent methods share, and the terms they are trained with."""

import pytest
import torch
from torch import Tensor

import latent
from vsrbench.diffusion.frames import Steps, bicubic_latent, finish, frame_noise, initial_latents
from vsrbench.diffusion.noise import Noise
from vsrbench.diffusion.objective import TERMS, draw_choice, draw_timesteps, objective
from vsrbench.diffusion.samplers import Sampler
from vsrbench.nn.imresize import imresize


def test_a_frames_noise_is_its_own() -> None:
    clip = latent.make_clip(4, (8, 8), batch=2)
    whole = frame_noise(Noise(0), clip, (4, 8, 8), "step", 3)
    assert whole.shape == (2, 4, 4, 8, 8)
    assert torch.equal(frame_noise(Noise(0), clip.rows([1]).window(2, 4), (4, 8, 8), "step", 3)[0], whole[1, 2:])
    assert torch.equal(whole[1, 2], Noise(0).normal((4, 8, 8), "step", "clip#1", 2, 3))
    assert len(torch.unique(whole[:, :, 0, 0, 0])) == 8, "no two frames share a draw"


@torch.no_grad()
def test_the_first_latents() -> None:
    prior, clip = latent.prior("mini"), latent.make_clip(3)
    eps = frame_noise(Noise(0), clip, (4, 16, 16), "initial")
    assert torch.equal(initial_latents(prior, Sampler("ddim", 4), clip, Noise(0), 2), eps)
    start = bicubic_latent(prior, clip.lr[0])
    noised = initial_latents(prior, Sampler("ddim", 4, "lr_noised", 0.4), clip, Noise(0), 2)
    assert torch.allclose(noised[0], prior.schedule.add_noise(start, eps[0], 400), atol=1e-5)


def visited(kind: str, stop: int | None = None, eta: float = 0.0) -> tuple[list, Tensor, Tensor | None]:
    prior, clip, calls = latent.prior(), latent.make_clip(2), []

    sampler = Sampler(kind, 4, eta=eta)
    x, x0 = initial_latents(prior, sampler, clip, Noise(0), 4), None
    steps = Steps(prior.schedule, sampler, clip, Noise(0), stop)
    for step, t in steps:
        calls.append((step, t, x, x0))
        last, x0 = x0, x.tanh()
        x = steps.update(step, x, x0, last)
    return calls, x, x0


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmpp"])
def test_every_step_sees_the_x0_of_the_step_before(kind: str) -> None:
    calls, x, x0 = visited(kind)
    assert [(step, t) for step, t, _, _ in calls] == [(0, 751), (1, 501), (2, 251), (3, 1)]
    assert calls[0][3] is None
    for earlier, later in zip(calls, calls[1:], strict=False):
        assert torch.equal(later[3], earlier[2].tanh())
    assert torch.equal(x0, calls[-1][2].tanh())
    assert x.shape == (1, 2, 4, 16, 16)


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_stopping_early_gives_what_the_whole_run_passes_through(stop: int) -> None:
    calls, _, _ = visited("ddpm")
    fewer, x, x0 = visited("ddpm", stop)
    assert len(fewer) == stop
    assert torch.equal(x, calls[stop][2])
    assert (x0 is None) if stop == 0 else torch.equal(x0, calls[stop][3])


def test_fresh_noise_is_drawn_where_the_sampler_wants_it() -> None:
    assert not torch.equal(visited("ddim", eta=1.0)[1], visited("ddim")[1])


@torch.no_grad()
def test_finished_frames_do_not_depend_on_grouping() -> None:
    prior, clip = latent.prior("mini"), latent.make_clip(3)
    x = torch.stack([prior.encode(clip.hr[0])])
    for low_band in (0.0, 2.0):
        sampler = Sampler("ddim", 4, low_band=low_band)
        whole = finish(prior, sampler, clip, x, 3)
        assert whole.shape == clip.hr.shape
        assert torch.allclose(finish(prior, sampler, clip, x, 1), whole, atol=1e-5)
    assert torch.allclose(finish(prior, Sampler("ddim", 4), clip, x, 2)[0], prior.decode(x[0]).clamp(0, 1), atol=1e-5)


# --- loss terms ----------------------------------------------------------------------------------


def ingredients(prediction: str = "v_prediction") -> tuple:
    prior, clip = latent.prior("mini"), latent.make_clip(1, (16, 16), batch=2)
    prior.schedule.prediction_type = prediction
    with torch.no_grad():
        truth = prior.encode(clip.hr[:, 0])
    t = torch.tensor([100, 600])
    eps = Noise(0).normal(tuple(truth.shape), "eps")
    return prior, prior.schedule.add_noise(truth, eps, t), t, truth, clip.hr[:, 0], eps


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon", "sample"])
@torch.no_grad()
def test_the_right_answer_has_no_loss(prediction: str) -> None:
    prior, x_t, t, truth, hr, eps = ingredients(prediction)
    hr[..., 4:60, 4:60] = prior.decode(truth[..., 1:15, 1:15])  # the part that is decoded
    answer = prior.schedule.target(truth, eps, t)
    terms = objective(prior, dict.fromkeys(TERMS, 1.0), x_t, answer, t, truth, hr, aligned=truth, low_band=2.0)
    assert set(terms) == set(TERMS)
    assert all(value < 2e-3 for name, value in terms.items() if name != "agreement")
    assert terms["agreement"].item() == pytest.approx(1e-2, abs=1e-3)  # Charbonnier's own floor


@torch.no_grad()
def test_agreement_counts_only_what_the_neighbour_shows() -> None:
    prior, x_t, t, truth, hr, eps = ingredients()
    answer = prior.schedule.target(truth, eps, t)
    aligned = truth + 1
    aligned[..., :4] = 0  # outside the neighbour's frame
    found = objective(prior, {"agreement": 1.0}, x_t, answer, t, truth, hr, aligned=aligned)["agreement"]
    assert found.item() == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_pixel_errors_of_the_low_band_do_not_count() -> None:
    prior, x_t, t, truth, hr, eps = ingredients()
    hr[..., 4:60, 4:60] = prior.decode(truth[..., 1:15, 1:15]) + 0.3
    answer = prior.schedule.target(truth, eps, t)
    whole = objective(prior, {"pixel": 1.0}, x_t, answer, t, truth, hr)["pixel"]
    detail = objective(prior, {"pixel": 1.0}, x_t, answer, t, truth, hr, low_band=2.0)["pixel"]
    assert whole.item() == pytest.approx(0.3, abs=1e-3)
    assert detail.item() < 2e-3


@torch.no_grad()
def test_the_end_of_the_decoded_part_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder errs where its input ends. Trained on that, the miniature drew a ring a quarter of a crop inside."""
    prior, x_t, t, truth, hr, eps = ingredients()
    end = torch.ones(56, 56)
    end[12:-12, 12:-12] = 0

    def decode(x0: Tensor) -> Tensor:
        assert torch.allclose(x0, truth[..., 1:15, 1:15], atol=1e-3), "the central half and three on each side"
        return hr[..., 4:60, 4:60] + 0.2 * end

    monkeypatch.setattr(prior, "decode", decode)
    answer = prior.schedule.target(truth, eps, t)
    found = objective(prior, {"pixel": 1.0, "gradient": 1.0}, x_t, answer, t, truth, hr)
    assert all(value < 2e-3 for value in found.values())


@torch.no_grad()
def test_prediction_is_the_squared_error_of_the_priors_target() -> None:
    prior, x_t, t, truth, hr, eps = ingredients()
    output = Noise(1).normal(tuple(truth.shape), "output")
    terms = objective(prior, {"prediction": 2.0}, x_t, output, t, truth, hr)
    assert set(terms) == {"prediction"}
    expected = (output - prior.schedule.target(truth, eps, t)).square().mean()
    assert torch.allclose(terms["prediction"], 2 * expected, rtol=1e-4)


@torch.no_grad()
def test_terms_are_weighted_and_left_out_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, x_t, t, truth, hr, _ = ingredients()
    output = Noise(1).normal(tuple(truth.shape), "output")

    def terms(**weights: float) -> dict[str, Tensor]:
        return objective(prior, weights, x_t, output, t, truth, hr, aligned=truth)

    one, two = terms(**dict.fromkeys(TERMS, 1.0)), terms(**dict.fromkeys(TERMS, 2.0))
    assert all(torch.allclose(2 * one[name], two[name]) for name in TERMS)
    monkeypatch.setattr(prior, "decode", None)
    assert set(terms(prediction=0.0, x0=1.0, pixel=0.0, gradient=0.0)) == {"x0"}, "nothing is decoded in vain"


def test_draws_for_training_are_keyed_by_the_sample() -> None:
    clip = latent.make_clip(1, (4, 4), batch=200)
    t = draw_timesteps(Noise(0), clip, 1000)
    assert t.dtype == torch.long
    assert t.min() >= 0 and t.max() <= 999 and len(t.unique()) > 150
    assert torch.equal(draw_timesteps(Noise(0), clip.rows([7, 3]), 1000), t[[7, 3]])
    choices = draw_choice(Noise(0), clip, "neighbour", 2)
    assert set(choices) == {0, 1} and 70 < sum(choices) < 130
    assert draw_choice(Noise(0), clip.rows([7, 3]), "neighbour", 2) == [choices[7], choices[3]]
    assert draw_choice(Noise(0), clip, "step", 2) != choices


def test_bicubic_start_is_matlabs_enlargement() -> None:
    prior, clip = latent.prior(), latent.make_clip(1)
    with torch.no_grad():
        assert torch.equal(bicubic_latent(prior, clip.lr[0]), prior.encode(imresize(clip.lr[0], 4).clamp(0, 1)))
