from dataclasses import replace

import pytest
import torch

from vsrbench.errors import DataError
from vsrbench.types import Clip


def clip(batch: int = 2, frames: int = 4, scale: int = 2) -> Clip:
    def numbers(*shape: int) -> torch.Tensor:
        return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)

    return Clip(
        lr=numbers(batch, frames, 3, 5, 6),
        hr=numbers(batch, frames, 3, 5 * scale, 6 * scale),
        name=[f"clip{b}" for b in range(batch)],
        index=torch.arange(10, 10 + frames).expand(batch, frames),
        scale=scale,
        flow_forward=numbers(batch, frames - 1, 2, 5, 6),
        flow_backward=-numbers(batch, frames - 1, 2, 5, 6),
        occlusion=numbers(batch, frames - 1, 2, 5, 6) > 5,
    )


FIELDS = ("lr", "hr", "index", "flow_forward", "flow_backward", "occlusion")


def same(one: Clip, other: Clip) -> bool:
    tensors = all(torch.equal(getattr(one, field), getattr(other, field)) for field in FIELDS)
    return tensors and (one.name, one.scale) == (other.name, other.scale)


def test_a_window_holds_its_frames_and_the_flows_between_them() -> None:
    whole = clip()
    part = whole.window(1, 3)
    assert part.frames == 2
    assert part.index[0].tolist() == [11, 12]
    assert torch.equal(part.hr, whole.hr[:, 1:3])
    assert torch.equal(part.flow_forward, whole.flow_forward[:, 1:2])
    assert torch.equal(part.occlusion, whole.occlusion[:, 1:2])
    assert whole.window(2, 3).flow_forward.shape[1] == 0


def test_windows_of_windows() -> None:
    whole = clip()
    assert same(whole.window(0, 4), whole)
    assert same(whole.window(1, 4).window(1, 3), whole.window(2, 4))


def test_rows_pick_samples_with_their_names() -> None:
    whole = clip(3)
    part = whole.rows([2, 0])
    assert part.name == ["clip2", "clip0"]
    assert torch.equal(part.lr, whole.lr[[2, 0]])
    assert same(whole.rows([0, 1, 2]), whole)
    assert same(whole.rows([1]).window(0, 2), whole.window(0, 2).rows([1]))


def test_moving_keeps_everything() -> None:
    assert same(clip().to("cpu"), clip())
    assert clip().to("meta").flow_backward.device.type == "meta"
    assert replace(clip(), hr=None, flow_forward=None).to("meta").hr is None


def test_without_ground_truth_or_flow() -> None:
    bare = Clip(torch.zeros(1, 2, 3, 4, 4), None, ["a"], torch.arange(2)[None], 4)
    assert bare.window(0, 1).hr is None
    assert bare.rows([0]).flow_forward is None


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("lr", torch.zeros(2, 4, 5, 6), r"Clip\.lr must be \(B,T,3,h,w\), got \(2, 4, 5, 6\)"),
        ("lr", torch.zeros(2, 4, 1, 5, 6), r"Clip\.lr must be"),
        ("hr", torch.zeros(2, 4, 3, 10, 13), r"Clip\.hr must be \(2, 4, 3, 10, 12\), got .*13.*scale 2"),
        ("index", torch.zeros(2, 3), r"Clip\.index must be \(2, 4\)"),
        ("flow_forward", torch.zeros(2, 4, 2, 5, 6), r"Clip\.flow_forward must be \(2, 3, 2, 5, 6\)"),
        ("flow_backward", torch.zeros(2, 3, 2, 10, 12), r"Clip\.flow_backward must be"),
        ("occlusion", torch.zeros(2, 3, 1, 5, 6), r"Clip\.occlusion must be"),
        ("name", ["one"], r"Clip\.name must hold 2 names, got 1"),
    ],
)
def test_what_does_not_fit_is_refused(field: str, value: object, told: str) -> None:
    with pytest.raises(DataError, match=told):
        replace(clip(), **{field: value})
