"""Windows: cutting and joining is exact, masks say what was never a neighbour, pieces change nothing."""

import itertools

import pytest
import torch

from vsrbench.nn.windows import in_pieces, join, may_attend, pad_to_windows, partition, real_positions


@pytest.mark.parametrize("size", [(6, 12, 20), (3, 45, 80), (1, 8, 8), (5, 7, 9)])
def test_cutting_and_joining_gives_the_map_back(size: tuple[int, int, int]) -> None:
    x = torch.randn(2, *size, 3)
    window = (size[0], 8, 8)
    padded = pad_to_windows(x, window)
    windows = partition(padded, window)
    assert windows.shape[1:] == (size[0] * 64, 3)
    again = join(windows, window, padded.shape[1:4])
    assert torch.equal(again[:, : size[0], : size[1], : size[2]], x)
    assert again.sum() == pytest.approx(float(x.sum()), abs=1e-3)  # the rest is zero


def test_a_window_holds_all_frames_of_its_place() -> None:
    t, y, x = torch.meshgrid(torch.arange(2), torch.arange(4), torch.arange(4), indexing="ij")
    windows = partition(torch.stack([t, y, x], dim=-1)[None], (2, 2, 2))
    assert windows[1].tolist() == [[t, y, x] for t in range(2) for y in range(2) for x in (2, 3)]


def test_real_positions_are_those_of_the_map() -> None:
    assert real_positions((2, 8, 16), (2, 8, 8)) is None
    real = real_positions((1, 3, 5), (1, 4, 4))
    assert real is not None
    assert real.sum(1).tolist() == [12, 3]
    assert real[1].view(4, 4).tolist() == [[row < 3 and column < 1 for column in range(4)] for row in range(4)]


@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 2, 2), (0, 1, 0)])
@pytest.mark.parametrize("size", [(4, 8, 8), (5, 6, 10), (2, 3, 9)])
def test_attention_is_among_former_neighbours(size: tuple[int, int, int], shift: tuple[int, int, int]) -> None:
    """Of the map before the roll: no axis is wrapped around, and padding is no key of a real position."""
    window = (2, 4, 4)
    allowed = may_attend(size, window, shift)
    padded = [-(-n // w) * w for n, w in zip(size, window, strict=True)]
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in padded), indexing="ij"), dim=-1)[None]
    places = partition(torch.roll(places, [-s for s in shift], (1, 2, 3)), window)
    if allowed is None:
        assert shift == (0, 0, 0) and list(size) == padded
        return
    inside = torch.stack(torch.meshgrid(*(torch.arange(n) for n in window), indexing="ij"), dim=-1).flatten(0, 2)
    assert allowed.diagonal(dim1=1, dim2=2).all()  # no row without a key
    for (w, q), k in itertools.product([(0, 0), (-1, 0), (-1, 5), (len(places) // 2, 17)], range(32)):
        query, key = places[w, q], places[w, k]
        together = torch.equal(query - key, inside[q] - inside[k])  # as far apart as in the window: not wrapped around
        real = [bool((place < torch.tensor(size)).all()) for place in (query, key)]
        assert bool(allowed[w, q, k]) == (together and (real[1] or not real[0]))


def test_without_padding_mask_only_the_roll_separates() -> None:
    assert may_attend((1, 3, 5), (1, 4, 4), (0, 0, 0), mask_padding=False) is None
    allowed = may_attend((2, 6, 6), (2, 4, 4), (0, 2, 2), mask_padding=False)
    whole = may_attend((2, 8, 8), (2, 4, 4), (0, 2, 2))
    assert allowed is not None and whole is not None and torch.equal(allowed, whole)


def test_pieces_change_nothing() -> None:
    x, y = torch.randn(2, 7, 3, requires_grad=True), torch.randn(2, 7, 3)
    whole = x.sin() * y
    assert torch.equal(in_pieces(lambda a, b: a.sin() * b, (x, y), 2, dim=1), whole)
    assert in_pieces(lambda a, b: a.sin() * b, (x, y), 2, dim=1).requires_grad
    with torch.no_grad():
        assert torch.equal(in_pieces(lambda a, b: a.sin() * b, (x, y), 3, dim=1), whole)
        assert torch.equal(in_pieces(lambda a: a.sum(-1), (y,), 3, dim=1), y.sum(-1))
        z = y.clone()
        assert in_pieces(lambda a: a + 1, (z,), 4, dim=1, overwrite=True) is z
        assert torch.equal(z, y + 1)
