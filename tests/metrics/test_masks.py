import pytest
import torch

from motion_fakes import constant_flow
from vsrbench.errors import ConfigError
from vsrbench.metrics.masks import RULES, boundary, visible


def step_in_motion(jump: float = 2.0) -> torch.Tensor:
    """The right half moves ``jump`` pixels faster than the left one."""
    flow = constant_flow(0, 0, 1, 16, 24)
    flow[:, 0, :, 12:] = jump
    return flow


@pytest.mark.parametrize("rule", ["occlusion", "ruder", "lai"])
def test_a_still_scene_is_visible_everywhere(rule):
    flow = constant_flow(0, 0, 2, 8, 10)
    assert visible(flow, flow, rule).all()


@pytest.mark.parametrize("rule", RULES)
def test_flow_that_does_not_come_back_is_occluded(rule):
    flow = constant_flow(2, 0, 1, 16, 24)
    assert not visible(flow, torch.zeros_like(flow), rule).any()


@pytest.mark.parametrize(
    ("rule", "counts"), [("occlusion", False), ("ruder", False), ("lai", True), ("stablevsr", False)]
)
def test_pixels_that_leave_the_frame_count_with_lai_alone(rule, counts):
    flow = constant_flow(3, 0, 1, 16, 24)
    seen = visible(flow, -flow, rule)
    assert seen[0, 4:-4, 4:-5].all()
    assert bool(seen[0, 8, -1]) is counts


def test_a_motion_boundary_is_one_pixel_wide_for_lai_and_two_for_ruder():
    flow = step_in_motion()
    lai, ruder = (
        boundary(flow)[0].any(0).nonzero().flatten(),
        boundary(flow, centred=True)[0].any(0).nonzero().flatten(),
    )
    assert lai.tolist() == [11] and ruder.tolist() == [11, 12]


def test_only_boundaries_part_ruder_from_occlusion():
    flow = step_in_motion()
    occlusion, ruder = (visible(flow, -flow, rule) for rule in ("occlusion", "ruder"))
    assert (occlusion & ~boundary(flow, centred=True)).equal(ruder)
    assert occlusion.sum() > ruder.sum()


@pytest.mark.parametrize("centred", [True, False])
def test_boundaries_do_not_depend_on_the_axis(centred):
    flow = step_in_motion()
    turned = flow.flip(1).transpose(-1, -2)
    assert boundary(turned, centred).transpose(-1, -2).equal(boundary(flow, centred))


def test_fast_motion_may_change_more_before_it_is_a_boundary():
    slow, fast = step_in_motion(0.3), step_in_motion(0.3) + 10
    assert boundary(slow).any() and not boundary(fast).any()


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match=r"protocol\.mask=none: use one of occlusion, ruder"):
        visible(constant_flow(0, 0, 1, 4, 4), constant_flow(0, 0, 1, 4, 4), "none")
