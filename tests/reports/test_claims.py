"""Sentences of the papers, computed again from the printed numbers."""

import copy
import re
from typing import Any

import pytest

from vsrbench import published
from vsrbench.errors import ConfigError
from vsrbench.reports.claims import agrees, claims, evaluate, parts, summary, text


def test_every_formula_gives_what_the_file_records() -> None:
    found = claims()
    assert sum(bool(c.recomputed) for c in found) > len(found) / 2
    assert {c.verdict for c in found} == {"holds", "does not hold", "undecided"}
    assert summary(found).startswith(f"{len(found)} sentences: ")


def test_claims_that_do_not_hold_say_why() -> None:
    assert all(c.why for c in claims() if c.verdict == "does not hold")


def test_a_papers_own_claims() -> None:
    by_formula = {c.formula: c for c in claims("stablevsr")}
    assert by_formula["473 + 207 + 32"].recomputed == (712,)
    musiq = by_formula["table1.StableVSR.vimeo_musiq > table1.VRT.vimeo_musiq"]
    assert musiq.recomputed == (False,) and musiq.verdict == "does not hold"


def test_numbers_that_stand_in_no_table_are_named() -> None:
    found = {c.formula: c for c in claims("dgaf_vsr")}
    assert found["3.92 / (1 - 0.3037)"].absent == ("0.3037",)
    assert found["28.17 - 27.97"].absent == ()


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("1 + 2; (3 - 1) / 4", ["1 + 2", "(3 - 1) / 4"]),
        ("(3 - 1) / 4  (table 1, RVRT)", ["(3 - 1) / 4"]),
        ("min of every column", []),
        ("1 + 2; rank of 3", []),
        ("3.5", []),
        ("__import__('os').system('x')", []),
        ("os.path.sep", []),
    ],
)
def test_only_arithmetic_and_cells_are_computed(formula: str, expected: list[str]) -> None:
    assert parts(formula) == expected


def test_values() -> None:
    assert evaluate("2 * 3 - 10 / 4", "stablevsr") == 3.5
    assert evaluate("0.1 < 0.2", "stablevsr") is True


@pytest.mark.parametrize(
    ("values", "recorded", "same"),
    [
        ((0.3582089,), "0.3582", True),
        ((0.3582089,), "0.3583", False),
        ((0.28, 0.015), "0.28; 0.015", True),
        ((0.28, 0.015), "0.28", False),
        ((2.4332e-05,), "2.433e-05", True),
        ((True,), "True", True),
        ((False,), "True", False),
    ],
)
def test_agreement_is_to_the_digits_recorded(values: tuple[float, ...], recorded: str, same: bool) -> None:
    assert agrees(values, recorded) is same


def test_a_wrong_record_and_an_unknown_paper_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content: dict[str, Any] = copy.deepcopy(published.load())
    content["papers"]["sateco"]["claims"][0]["computed"] = 0.31
    monkeypatch.setattr(published, "load", lambda: content)
    with pytest.raises(ConfigError, match=r"0\.1372 - 0\.1015.*records '0\.31'"):
        claims()
    with pytest.raises(ConfigError, match="no paper 'nobody'"):
        claims("nobody")


def test_a_verdict_is_what_the_arithmetic_says_or_its_reason_is_told() -> None:
    verdicts = {True: "holds", False: "does not hold"}
    printed = [c for c in claims() if c.recomputed and re.search(r"\d", c.printed)]
    assert len(printed) > 20
    assert [c.text for c in printed if verdicts[agrees(c.recomputed, c.printed)] != c.verdict and not c.why] == []


def test_the_text_marks_what_does_not_hold() -> None:
    found = claims("stablevsr")
    told = text(found)
    assert told.count("✗ does not hold") == sum(c.verdict == "does not hold" for c in found) > 0
    assert all(c.text in told for c in found) and told.endswith(summary(found))
    assert "473 + 207 + 32 = 712" in told
