"""Pieces of work shared out over processes: none twice, none lost, and every accident told."""

import pytest

import rank_fakes
from vsrbench.errors import ConfigError
from vsrbench.inference.ranks import Ranks


class Counter:
    done = 0

    def start(self, total: int, what: str) -> None:
        """Not told."""

    def advance(self, count: int = 1) -> None:
        self.done += count


@pytest.mark.parametrize("ranks", [1, 3])
def test_every_piece_is_made_once(ranks: int) -> None:
    counter = Counter()
    with Ranks(rank_fakes.begin, ranks, counter) as pool:
        assert pool.facts()["rank"] in range(ranks)
        assert sorted(pool.results(range(20))) == [(n, 2 * n) for n in range(20)]
    assert pool.failures == []
    assert counter.done == 40


def test_more_ranks_than_pieces_and_no_piece_at_all() -> None:
    with Ranks(rank_fakes.begin, 3) as pool:
        assert list(pool.results([7])) == [(7, 14)]
    with Ranks(rank_fakes.begin, 2) as pool:
        assert list(pool.results([])) == []


@pytest.mark.parametrize(
    ("piece", "why", "known"),
    [("broken", "frame 3 is truncated", True), ("odd", "ZeroDivisionError", False), ("killed", "out of memory", False)],
)
def test_a_rank_that_fails_is_told_with_its_piece_and_the_others_go_on(piece: str, why: str, known: bool) -> None:
    with Ranks(rank_fakes.begin, 2) as pool:
        made = sorted(pool.results([1, piece, 2, 3, 4]))
    assert made == [(n, 2 * n) for n in (1, 2, 3, 4)]
    (failure,) = pool.failures
    assert failure.piece == piece
    assert why in failure.why
    assert (failure.error is not None) == known


def test_pieces_that_no_rank_is_left_for_are_not_made() -> None:
    with Ranks(rank_fakes.begin, 2) as pool:
        assert list(pool.results(["broken", "killed", 1])) == []
    assert {failure.piece for failure in pool.failures} == {"broken", "killed"}


def test_ranks_that_cannot_begin_say_why() -> None:
    with Ranks(rank_fakes.refuses, 2) as pool:
        assert pool.facts() is None
        assert list(pool.results([1])) == []
    assert [failure.piece for failure in pool.failures] == [None, None]
    assert all(isinstance(failure.error, ConfigError) for failure in pool.failures)
