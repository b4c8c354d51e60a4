import io
import json
import math

import pytest
from rich.console import Console

from vsrbench.errors import RunError
from vsrbench.evaluation import results
from vsrbench.evaluation.outputs import foreign_cost
from vsrbench.evaluation.scoring import score
from vsrbench.published import quote

COMPLETE = {"set": "vid4", "clips": {"a": 3}, "absent": [], "short": {}}
PARTIAL = {"set": "vid4", "clips": {"a": 3}, "absent": ["b"], "short": {"a": [3, 41]}}
SETTINGS = {
    "method": {"name": "bicubic"},
    "size": "mini",
    "variant": "paper",
    "supports": {"size": ["mini"]},
    "predictions": None,
}


@pytest.fixture
def assembled(make_source, write, make_protocol):
    """assembled(coverage, **settings): a result of one clip."""

    def assemble(coverage=COMPLETE, **settings):
        source = make_source("a")
        protocol = make_protocol()
        scores = score(write(source), [source], protocol)
        return results.assemble({**SETTINGS, **settings}, protocol, scores, coverage, foreign_cost(), {"seed": 1})

    return assemble


def shown(result) -> str:
    console = Console(file=io.StringIO(), width=120)
    results.show(result, console)
    return console.file.getvalue()


def test_survives_json_without_loss(assembled):
    result = assembled()
    results.check(json.loads(json.dumps(result, allow_nan=False)))
    assert json.loads(json.dumps(result)) == result


def test_states_protocol_data_and_method(assembled):
    result = assembled()
    assert (result["method"], result["size"], result["variant"]) == ("bicubic", "mini", "paper")
    assert result["protocol"]["id"] == "test" and len(result["protocol"]["hash"]) == 16
    assert result["protocol"]["flow"] == {"a": "dis"}
    assert result["data"] == {**COMPLETE, "split": "test"} and result["partial"] is False


def test_foreign_frames_have_no_method_and_no_cost(assembled):
    result = assembled(predictions="/some/where")
    assert (result["method"], result["size"], result["predictions"]) == ("predictions", None, "/some/where")
    assert set(result["cost"].values()) == {"not_applicable"}


@pytest.mark.parametrize(
    ("coverage", "verdict"),
    [
        (COMPLETE, "no_published_row"),
        ({**COMPLETE, "absent": ["b"]}, "partial"),
        ({**COMPLETE, "short": {"a": [3, 41]}}, "partial"),
    ],
)
def test_conformance_claims_nothing_that_was_not_compared(assembled, coverage, verdict):
    assert assembled(coverage)["protocol"]["conformance"] == verdict


def test_partial_data_are_named_in_result_and_table(assembled):
    result = assembled(PARTIAL)
    assert result["partial"] is True and result["protocol"]["conformance"] == "partial"
    text = shown(result)
    assert "a has 3 of 41 frames" in text and "absent clips: b" in text


def test_the_table_shows_means_reasons_and_warnings(assembled):
    result = assembled()
    result["metrics"]["niqe"] = {
        "mean": {"unavailable": "no file x"},
        "clips": {"a": {"mean": {"unavailable": "no file x"}, "frames": []}},
    }
    result["warnings"] = ["a/0000.png: the frame has a single colour"]
    text = shown(result)
    assert f"{result['metrics']['psnr_y']['mean']:.4f}" in text
    assert "niqe is unavailable: no file x" in text and "warning: a/0000.png" in text and "motion: dis" in text


@pytest.mark.parametrize("bad", [math.nan, math.inf, None, "infinite", True, {"reason": "x"}])
def test_refuses_a_value_of_no_known_form(assembled, bad):
    result = assembled()
    result["metrics"]["psnr_y"]["clips"]["a"]["frames"][1] = bad
    with pytest.raises(RunError, match=r"psnr_y\.a\.frames\[1\]"):
        results.check(result)


def test_refuses_a_foreign_schema_and_a_missing_part(assembled):
    result = assembled()
    with pytest.raises(RunError, match="schema"):
        results.check({**result, "schema": "other/9"})
    del result["cost"]
    with pytest.raises(RunError, match="lacks cost"):
        results.check(result)


class TestQuoted:
    ROW = {"paper": "dgaf_vsr", "table": "table3", "row": "case 1"}

    def told(self, assembled, reference) -> str:
        result = {**assembled(), "published": quote(reference)}
        results.check(json.loads(json.dumps(result, allow_nan=False)))
        return shown(result)

    def test_a_printed_row_stands_below_with_the_protocol_of_each_value(self, assembled):
        told = self.told(assembled, self.ROW)
        assert "quoted, not measured: dgaf_vsr table3 case 1" in told and "not comparable as they" in told
        lines = {line.split("│")[1].strip(): line for line in told.splitlines() if line.count("│") == 5}
        assert "27.81" in lines["PSNR"] and "dgaf_reds4" in lines["PSNR"] and "psnr_y" in lines["PSNR"]
        assert "6.25" in lines["tLPIPS x 1000"] and lines["tLPIPS x 1000"].split("│")[4].strip() == ""

    def test_a_quoted_sentence_shows_what_follows_from_it(self, assembled):
        told = self.told(assembled, {"paper": "dgaf_vsr", "claims": ["tof_stablevsr"]})
        assert "tOF 2.02 % better than StableVSR" in told and "2.766 follows from 2.71 / (1 - 0.0202)" in told

    def test_nothing_is_shown_where_nothing_is_quoted(self, assembled):
        assert assembled()["published"] is None and "quoted" not in shown(assembled())


class TestLoad:
    @pytest.fixture
    def stored(self, assembled, tmp_path):
        """A result.json made with the weights of tmp_path/weights.bin."""
        (tmp_path / "weights.bin").write_bytes(b"first")
        result = assembled()
        result["provenance"]["weights"] = results.fingerprint(tmp_path / "weights.bin")
        (tmp_path / "result.json").write_text(json.dumps(result))
        return tmp_path / "result.json"

    def test_gives_what_was_stored(self, stored):
        assert results.load(stored) == json.loads(stored.read_text())

    def test_refuses_a_result_whose_weights_have_changed(self, stored):
        (stored.parent / "weights.bin").write_bytes(b"second")
        with pytest.raises(RunError, match=r"weights\.bin has changed"):
            results.load(stored)

    def test_keeps_a_result_whose_weights_are_gone(self, stored):
        (stored.parent / "weights.bin").unlink()
        assert results.load(stored)["schema"] == results.SCHEMA

    def test_refuses_half_a_file(self, stored):
        stored.write_text(stored.read_text()[:100])
        with pytest.raises(RunError, match=r"is damaged .*evaluate again"):
            results.load(stored)


@pytest.mark.parametrize(
    ("selection", "line"),
    [
        ({"set": "vid4", "clips": ["a", "z"]}, "selected by val/psnr_y on clips that are evaluated here: a"),
        ({"set": "reds", "clips": ["a"]}, "selected by val/psnr_y on 1 other clips (reds), none of which is evaluated"),
        ({"set": "vid4", "clips": ["z"]}, "selected by val/psnr_y on 1 other clips (vid4), none of which is evaluated"),
        ({"set": None, "clips": None}, "selected by val/psnr_y on clips that an earlier version did not record"),
    ],
)
def test_a_result_says_whether_its_weights_were_selected_on_the_clips_that_it_evaluates(
    assembled, selection: dict, line: str
) -> None:
    result = assembled()
    assert "selected" not in shown(result)
    chosen = {"metric": "val/psnr_y", "step": 7, **selection}
    result["provenance"] = results.origin({"seed": 1}, None, chosen)
    assert f"weights: step 7, {line}" in " ".join(shown(result).split())
