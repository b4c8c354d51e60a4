import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motion_fakes import constant_flow, moving, noisy
from vsrbench.flow.estimators import DIS, Farneback
from vsrbench.metrics.changes import inner, released, tlpips_stablevsr, tlpips_tecogan, tof_stablevsr, tof_tecogan

TOF = {"tecogan": tof_tecogan, "stablevsr": tof_stablevsr}


@pytest.mark.parametrize("tof", TOF.values())
def test_tof_is_zero_for_equal_flows_and_symmetric(tof):
    a, b = (torch.randn(2, 2, 64, 80, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    assert tof(a, a).tolist() == [0, 0]
    assert torch.equal(tof(a, b), tof(b, a)) and (tof(a, b) > 0).all()


def test_tof_of_a_known_difference():
    """3 pixels to the right and 4 down: length 5; mean of the components 3.5, times 10."""
    a, b = constant_flow(1, 1, 2, 64, 80), constant_flow(4, 5, 2, 64, 80)
    assert tof_tecogan(a, b).tolist() == pytest.approx([5, 5])
    assert tof_stablevsr(a, b).tolist() == pytest.approx([35, 35])


@settings(max_examples=20)
@given(st.floats(-5, 5), st.floats(-5, 5))
def test_tof_ignores_motion_that_both_share(dx, dy):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1, 2, 48, 64, generator=generator, dtype=torch.float64) for _ in range(2))
    shared = constant_flow(dx, dy, 1, 48, 64).double()
    for tof in TOF.values():
        assert torch.allclose(tof(a + shared, b + shared), tof(a, b))


@pytest.mark.parametrize(("tof", "flow"), [(tof_tecogan, Farneback()), (tof_stablevsr, DIS())])
def test_frame_wise_noise_moves_worse_than_a_shifted_copy(tof, flow):
    truth = moving(2, height=96, width=128)

    def score(out):
        return tof(flow(out[:-1], out[1:]), flow(truth[:-1], truth[1:])).mean()

    assert score(noisy(truth, 0.1)) > 2 * score(moving(2, height=96, width=128, shift=1))


def test_tecogan_leaves_the_rim_out():
    flow = constant_flow(0, 0, 1, 64, 80)
    other = flow.clone()
    other[..., :8] = 9
    assert tof_tecogan(flow, other).item() == 0 and tof_stablevsr(flow, other).item() > 0


@pytest.mark.parametrize(
    ("size", "kept"),
    [((720, 1280), (704, 1248)), ((576, 704), (544, 672)), ((64, 48), (32, 32)), ((40, 100), (40, 64))],
)
def test_what_tecogan_judges(size, kept):
    """Multiples of 32 that leave 16 pixels or more; smaller frames stay whole."""
    assert inner(torch.zeros(1, 1, *size)).shape[-2:] == kept


def test_the_kept_part_lies_in_the_middle():
    frame = torch.zeros(64, 64)
    frame[16:48, 16:48] = 1
    assert inner(frame).shape == (32, 32) and inner(frame).all()


def test_tlpips_is_the_distance_of_distances_in_two_units():
    out, truth = torch.tensor([0.10, 0.30]), torch.tensor([0.12, 0.25])
    assert tlpips_tecogan(out, truth).tolist() == pytest.approx([2, 5], abs=1e-4)
    assert torch.allclose(tlpips_stablevsr(out, truth), 10 * tlpips_tecogan(truth, out))


def test_released_raft_sees_frames_between_0_and_1():
    """The estimator doubles and shifts its input; what its network sees then is the frame as it is."""
    seen = []
    released(lambda a, b: seen.extend([2 * a - 1, 2 * b - 1]))(torch.full((1,), 0.25), torch.ones(1))
    assert [x.item() for x in seen] == [0.25, 1.0]
