from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from vsrbench.reports.drawing import ASIDE, inside, overlap, places

PANEL = (0.0, 0.0, 400.0, 400.0)
POINTS = st.lists(st.tuples(st.floats(0, 400), st.floats(0, 400)), min_size=1, max_size=12)


@given(POINTS)
def test_names_cover_neither_each_other_nor_the_edge(points: list[tuple[float, float]]) -> None:
    boxes = places(points, [(60.0, 12.0)] * len(points), PANEL)
    assert all(inside(box, PANEL) for box in boxes)
    assert not any(overlap(a, b) for a, b in combinations(boxes, 2))


def test_a_lone_name_is_beside_its_point_towards_the_middle() -> None:
    assert places([(100.0, 50.0)], [(60.0, 12.0)], PANEL) == [(100 + ASIDE, 44.0, 160 + ASIDE, 56.0)]
    assert places([(300.0, 50.0)], [(60.0, 12.0)], PANEL) == [(240 - ASIDE, 44.0, 300 - ASIDE, 56.0)]


def test_a_name_gives_way_to_a_point_in_its_place() -> None:
    first, _ = places([(100.0, 50.0), (130.0, 50.0)], [(60.0, 12.0)] * 2, PANEL)
    assert not overlap(first, (124.0, 44.0, 136.0, 56.0))


def test_a_name_too_wide_for_the_panel_stays_beside_its_point() -> None:
    assert places([(100.0, 50.0)], [(900.0, 12.0)], PANEL)[0][0] == 100 + ASIDE
