from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vsrbench.errors import ConfigError
from vsrbench.flow.bank import clip_flows
from vsrbench.flow.estimators import DIS, Exact
from vsrbench.flow.warp import resize_flow
from vsrbench.types import Clip


class Counting(nn.Module):
    """A flow that names the two frames it was asked for; remembers the questions."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[float, float]] = []

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        first, second = a[0, 0, 0, 0], b[0, 0, 0, 0]
        self.asked.append((first.item(), second.item()))
        return torch.stack([first, second]).view(1, 2, 1, 1).expand(len(a), 2, *a.shape[-2:])


def clip(frames: int = 4, batch: int = 1) -> Clip:
    generator = torch.Generator().manual_seed(0)
    flows = torch.randn(2, batch, frames - 1, 2, 6, 8, generator=generator)
    lr = torch.rand(batch, frames, 3, 6, 8, generator=generator)
    index = torch.arange(frames).expand(batch, frames)
    return Clip(lr, None, ["a"] * batch, index, 4, flow_forward=flows[0], flow_backward=flows[1])


def numbered(frames: int) -> Tensor:
    """Frames (1,T,3,6,8) whose pixels are the frame's number."""
    return torch.arange(float(frames)).view(1, -1, 1, 1, 1).expand(1, frames, 3, 6, 8)


def test_each_pair_is_estimated_once_per_direction() -> None:
    estimator = Counting()
    bank = clip_flows(clip(), estimator, numbered(4))
    assert sorted(estimator.asked) == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    for frame, neighbour in estimator.asked:
        flow = bank.flow_to(int(frame), int(neighbour))
        assert flow[0, :, 0, 0].tolist() == [frame, neighbour], "flow[frame→neighbour]"


@pytest.mark.parametrize(("frame", "neighbour"), [(0, 2), (1, 1), (0, -1), (3, 4), (4, 3), (-1, 0), (-1, -2)])
def test_only_neighbours_within_the_clip(frame: int, neighbour: int) -> None:
    bank = clip_flows(clip(), Counting(), numbered(4))
    with pytest.raises(ValueError, match=f"no flow from frame {frame} to {neighbour}"):
        bank.flow_to(frame, neighbour)


def test_a_single_frame_has_no_flow() -> None:
    for estimator in (Counting(), Exact()):
        bank = clip_flows(clip(1), estimator, numbered(1))
        assert bank.to_next.shape == bank.to_previous.shape == (1, 0, 2, 6, 8)


def test_exact_takes_the_clips_own_flow_and_resizes_it() -> None:
    given = clip(3, batch=2)
    bank = clip_flows(given, Exact(), torch.zeros(2, 3, 3, 24, 32))
    assert torch.equal(bank.flow_to(0, 1), resize_flow(given.flow_forward[:, 0], (24, 32)))
    assert torch.equal(bank.flow_to(2, 1), resize_flow(given.flow_backward[:, 1], (24, 32)))
    same = clip_flows(given, Exact(), given.lr)
    assert torch.allclose(same.to_next, given.flow_forward)


def test_exact_needs_data_that_know_their_flow() -> None:
    with pytest.raises(ConfigError, match="flow=exact needs data"):
        clip_flows(replace(clip(), flow_backward=None), Exact(), clip().lr)


def test_a_flow_does_not_depend_on_the_rest_of_the_clip() -> None:
    given = clip(4)
    whole = clip_flows(given, DIS(), given.lr)
    part = clip_flows(given.window(1, 3), DIS(), given.lr[:, 1:3])
    assert torch.equal(part.flow_to(0, 1), whole.flow_to(1, 2))
    assert torch.equal(part.flow_to(1, 0), whole.flow_to(2, 1))
