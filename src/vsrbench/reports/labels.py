"""Where the names of points go in a chart: each at the nearest place at which it covers no point and no other name."""

from collections.abc import Sequence

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels

RADIUS = 6.0  # of a point's marker, in pixels
ASIDE = 10.0  # from a point to its name
REACH = 40  # half lines that a name may move up or down


def places(points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], panel: Box) -> list[Box]:
    """The box of each name. points: (x,y) in pixels; sizes: (width, height) of the names; panel: where names may be.

    A name for which there is no room at all lies beside its point, over what is there.
    """
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in points]
    found: dict[int, Box] = {}
    for n in sorted(range(len(points)), key=lambda n: points[n][1]):
        tried = _candidates(points[n], sizes[n], panel)
        free = (box for box in tried if inside(box, panel) and not any(overlap(box, other) for other in taken))
        found[n] = next(free, tried[0])
        taken.append(found[n])
    return [found[n] for n in range(len(points))]


def _candidates(point: tuple[float, float], size: tuple[float, float], panel: Box) -> list[Box]:
    """Boxes right and left of a point and in half lines above and below, nearest first; to the middle before."""
    (x, y), (width, height) = point, size
    lefts = [x + ASIDE, x - ASIDE - width]
    if x > (panel[0] + panel[2]) / 2:
        lefts.reverse()
    bottoms = [y + (step - 1) * height / 2 for step in sorted(range(-REACH, REACH + 1), key=abs)]
    return [(left, bottom, left + width, bottom + height) for bottom in bottoms for left in lefts]


def inside(box: Box, panel: Box) -> bool:
    return panel[0] <= box[0] and panel[1] <= box[1] and box[2] <= panel[2] and box[3] <= panel[3]


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
