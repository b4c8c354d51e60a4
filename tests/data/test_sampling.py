from dataclasses import replace

import numpy as np
import pytest
import torch

from vsrbench.data.degradations import Bicubic
from vsrbench.data.photos import as_clip
from vsrbench.data.renderer import Motion, Scene, render
from vsrbench.data.sampling import Choices, SampleNumbers, augment, collate, generator, unit_of
from vsrbench.flow.warp import warp
from vsrbench.types import Clip

FIELDS = ("lr", "hr", "index", "flow_forward", "flow_backward", "occlusion")


@pytest.fixture(scope="module")
def clip() -> Clip:
    y, x = np.mgrid[:120, :160]
    photo = np.stack([128 + 100 * np.sin(x / 9 + k) * np.cos(y / 7 - k) for k in range(3)], -1).astype(np.uint8)
    camera = Motion((80, 60), velocity=(3.0, -2.0), spin=1.0, growth=1.01)
    return as_clip(render(Scene(photo, camera), range(3), (64, 96), 4), "waves", range(3), Bicubic(), 4)


def same(one: Clip, other: Clip) -> bool:
    return all(torch.equal(getattr(one, f), getattr(other, f)) for f in FIELDS)


def test_draws_depend_on_their_key_alone() -> None:
    assert generator(1, "crop").random() == generator(1, "crop").random()
    assert len({generator(*key).random() for key in [(1, "a"), (2, "a"), (1, "b"), (1, "a", 0), (11, "a")]}) == 5


@pytest.mark.parametrize(("units", "per_epoch"), [(10, 10), (10, 4), (3, 7)])
def test_an_epoch_takes_every_unit_equally_often(units: int, per_epoch: int) -> None:
    epochs = [[unit_of(e * per_epoch + n, 5, units, per_epoch) for n in range(per_epoch)] for e in range(6)]
    for epoch in epochs:
        counts = np.bincount(epoch, minlength=units)
        assert counts.max() - counts.min() <= 1
    assert len({tuple(e) for e in epochs}) > 1


def test_the_order_depends_on_the_seed() -> None:
    assert len({tuple(unit_of(n, seed, 10, 10) for n in range(10)) for seed in range(4)}) == 4


def numbers(rank: int = 0, world: int = 1, first: int = 0, epochs: int = 3, batch: int = 2) -> list[int]:
    sampler = SampleNumbers(steps=12 // (world * batch), batch=batch, rank=rank, world=world, first=first)
    return [n for _ in range(epochs) for n in sampler]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_the_numbers_and_a_global_step_is_consecutive(world: int) -> None:
    ranks = [numbers(r, world) for r in range(world)]
    assert sorted(n for r in ranks for n in r) == list(range(36))
    for step in range(36 // (2 * world)):
        together = sorted(n for r in ranks for n in r[2 * step : 2 * step + 2])
        assert together == list(range(2 * world * step, 2 * world * (step + 1)))


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("first", [0, 12])
def test_a_batch_holds_the_same_samples_on_any_number_of_ranks(world: int, first: int) -> None:
    def batches(rank: int = 0, world: int = 1) -> list[tuple[int, ...]]:
        found = numbers(rank, world, first=first)
        return [tuple(found[i : i + 2]) for i in range(0, len(found), 2)]

    assert sorted(b for r in range(world) for b in batches(r, world)) == sorted(batches())


@pytest.mark.parametrize("first", [0, 4, 12, 20])
def test_numbers_go_on_where_a_run_stopped(first: int) -> None:
    assert numbers(first=first, epochs=2)[:12] == list(range(first, first + 24))[:12]
    assert numbers(first=first, epochs=1)[-1] == (first // 12 + 1) * 12 - 1


@pytest.mark.parametrize("choices", [Choices(*(k == n for n in range(4))) for k in range(4)])
def test_twice_mirrored_is_the_same(clip: Clip, choices: Choices) -> None:
    assert not same(augment(clip, choices), clip)
    assert same(augment(augment(clip, choices), choices), clip)


@pytest.mark.parametrize("choices", [Choices(*(bool(k >> n & 1) for n in range(4))) for k in range(16)])
def test_flows_stay_exact_when_frames_are_mirrored(clip: Clip, choices: Choices) -> None:
    changed = augment(clip, choices)

    def errors(c: Clip) -> list[torch.Tensor]:
        forward = warp(c.lr[0, 1:], c.flow_forward[0]) - c.lr[0, :-1]
        backward = warp(c.lr[0, :-1], c.flow_backward[0]) - c.lr[0, 1:]
        pairs = zip((forward, backward), (c.occlusion[0, :, :1], c.occlusion[0, :, 1:]), strict=True)
        return sorted([e.abs().mul(~o).mean() for e, o in pairs])

    torch.testing.assert_close(errors(changed), errors(clip), rtol=1e-3, atol=1e-6)
    assert max(errors(changed)) < 0.02


def test_choices_follow_the_recipe() -> None:
    recipe = {"flip": True, "flip_vertical": False, "transpose": False, "time_reversal": True}
    drawn = [Choices.draw(recipe, 1, 0, k) for k in range(200)]
    assert 60 < sum(c.flip for c in drawn) < 140
    assert 60 < sum(c.reverse for c in drawn) < 140
    assert not any(c.flip_vertical for c in drawn)
    assert drawn == [Choices.draw(recipe, 1, 0, k) for k in range(200)]


def test_batches_keep_names_numbers_and_flows(clip: Clip) -> None:
    batch = collate([clip, replace(clip, name=["b"])])
    assert batch.name == ["waves", "b"]
    assert all(getattr(batch, f).shape[0] == 2 for f in FIELDS)
    assert collate([clip, replace(clip, flow_forward=None)]).flow_forward is None


def test_every_lap_of_a_long_epoch_has_an_order_of_its_own() -> None:
    laps = [[unit_of(50 * lap + k, 0, 50, 200) for k in range(50)] for lap in range(8)]
    assert all(sorted(lap) == list(range(50)) for lap in laps)
    assert len({tuple(lap) for lap in laps}) == 8
