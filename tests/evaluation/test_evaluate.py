"""Which results are worth evaluating again: those that lacked a file, not those whose frames have no value."""

import pytest

from vsrbench.evaluation import evaluate
from vsrbench.metrics.perceptual import SMALL
from vsrbench.metrics.scorer import NOTHING_VISIBLE


@pytest.mark.parametrize(
    ("reason", "again"),
    [
        ("weights/niqe.mat is missing", ["niqe"]),
        (f"it needs frames of 96 {SMALL}, these have 64x64", []),
        (NOTHING_VISIBLE, []),
    ],
)
def test_only_what_a_file_was_missing_for_is_judged_again(reason, again, make_protocol, monkeypatch):
    class All:
        def __init__(self, names, settings):
            self.unavailable = {}

    monkeypatch.setattr(evaluate, "Scorer", All)
    why = {"unavailable": reason}
    result = {"metrics": {"niqe": {"mean": why, "clips": {"a": {"mean": why, "frames": [why, why]}}}}}
    assert evaluate.now_available([make_protocol()], [result]) == again
