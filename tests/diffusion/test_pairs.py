"""Training on pairs: which frame is learned, which neighbour guides it, by which flow, at which noise level."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import latent
from vsrbench.diffusion.noise import Noise
from vsrbench.diffusion.pairs import GuidedLoss, draw_eps, encode, pair
from vsrbench.flow.estimators import Exact


def begun(name: str, *overrides: str) -> Any:
    module = latent.module(name, *overrides)
    module.begin_stage("default", lambda p: torch.optim.Adam(p), Noise(0))
    return module


def test_the_flow_of_a_pair_leads_from_the_middle_frame_to_its_neighbour() -> None:
    """Forward flows are 1 and 2, backward ones 3 and 4 pixels: to the previous frame 3, to the next one 2."""
    clip = latent.make_clip(3, batch=2)
    forward = torch.stack([torch.full((2, 2, 16, 16), float(n)) for n in (1, 2)], dim=1)
    backward = torch.stack([torch.full((2, 2, 16, 16), float(n)) for n in (3, 4)], dim=1)
    known = replace(clip, flow_forward=forward, flow_backward=backward)
    current, neighbour, flow = pair(known, [0, 1], Exact(), lambda lr: lr)
    assert flow[:, 0, 0, 0].tolist() == [3, 2]
    assert (current.index.flatten().tolist(), neighbour.index.flatten().tolist()) == ([1, 1], [0, 2])
    assert torch.equal(neighbour.hr[1, 0], clip.hr[1, 2]) and torch.equal(neighbour.lr[0, 0], clip.lr[0, 0])


@pytest.mark.parametrize(("name", "overrides"), [("dgaf", []), ("dgaf", ["variant=released"]), ("stablevsr", [])])
@torch.no_grad()
def test_the_neighbours_noise_level_is_that_of_the_step_it_guides_from(name: str, overrides: list[str]) -> None:
    """DGAF-VSR as printed: the sampler's next noisier step; as released, and StableVSR: the same."""
    module, clip, seen = begun(name, *overrides, "module.posterior=mode", "sampler.steps=4"), latent.make_clip(3), {}
    timesteps: list[Tensor] = []

    class Spy:
        def on_step(self, step: int, frame: int | None, **tensors: Tensor) -> None:
            seen.update(tensors)

    prior = module.method.prior
    predict = prior.predict

    def spy(x: Tensor, lr: Tensor, t: Tensor, *others: Any, **named: Any) -> Tensor:
        timesteps.append(t)
        return predict(x, lr, t, *others, **named)

    prior.predict = spy
    module.losses(clip, Noise(0), Spy())
    earlier, t = timesteps
    gap = 250 if name == "dgaf" and not overrides else 0
    assert torch.equal(earlier, (t + gap).clamp(max=999))
    matches = []
    for number in (0, 2):
        frame = clip.window(number, number + 1)
        noised = prior.schedule.add_noise(encode(prior, frame, Noise(0)), draw_eps(prior, frame, Noise(0)), earlier)
        matches.append(torch.allclose(seen["x_neighbour"], noised, atol=1e-5))
    assert sum(matches) == 1


@pytest.mark.parametrize("name", ["dgaf", "stablevsr"])
def test_the_trajectory_learns_the_middle_frame_at_every_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[int] = []

    def terms(_: GuidedLoss, x_t: Tensor, current: Any, *others: Any) -> dict[str, Tensor]:
        learned.extend(current.index.flatten().tolist())
        return {"x0": x_t.mean()}

    monkeypatch.setattr(GuidedLoss, "terms", terms)
    module = begun(name, "module.trajectory=true", "sampler.steps=4")
    module.losses(latent.make_clip(3, batch=6), Noise(0))
    assert learned == [1] * 6
