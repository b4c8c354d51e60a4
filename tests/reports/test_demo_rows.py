import json
from dataclasses import replace
from pathlib import Path

import pytest

from vsrbench.errors import RunError
from vsrbench.reports.demo import PSNR_Y, SECONDS, SHARPNESS, Measure, check_equal_terms, read_row
from vsrbench.reports.tables import best, shown


def best_of(values: list, measure: Measure) -> set[int]:
    return best(values, measure.better, measure.digits)


VALUES = {"psnr_y": 27.0, "ssim_y": 0.8, "consistency": 1.5}


def test_a_row_holds_what_the_result_says(make_run) -> None:
    row = read_row("bicubic", make_run("a", {**VALUES, "psnr_y": {"coffee": 26.0, "rocket": 28.0}}))
    assert row.means["psnr_y"] == 27.0
    assert row.clips["coffee"]["psnr_y"] == 26.0
    assert row.means["seconds"] == 0.5


def test_a_metric_that_the_protocol_leaves_out_is_not_applicable(make_run) -> None:
    row = read_row("a", make_run("a", {"psnr_y": 27.0}))
    assert row.means["ssim_y"] == "not_applicable" and shown(row.means["ssim_y"], PSNR_Y.digits) == "–"


def test_an_unfinished_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"result\.json: the evaluation of 'DGAF' is not finished"):
        read_row("DGAF", tmp_path)


def test_a_value_that_is_no_value_is_refused(make_run) -> None:
    folder = make_run("a", VALUES)
    result = json.loads((folder / "result.json").read_text())
    result["metrics"]["psnr_y"]["mean"] = None
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match=r"psnr_y\.mean"):
        read_row("a", folder)


def test_rows_of_different_protocols_do_not_stand_together(make_run) -> None:
    row = read_row("a", make_run("a", VALUES))
    other = replace(row, result={**row.result, "protocol": {**row.result["protocol"], "hash": "other"}})
    check_equal_terms([row, row])
    with pytest.raises(RunError, match=r"protocol\.hash"):
        check_equal_terms([row, other])


def test_best_knows_the_direction_and_shares_ties_as_shown() -> None:
    assert best_of([27.0, 27.311, 27.309], PSNR_Y) == {1, 2}
    assert best_of([0.3, 0.1, 0.2], SECONDS) == {1}
    assert best_of([0.3, {"unavailable": "why"}], SECONDS) == set()
    assert best_of([0.3, 0.9], SHARPNESS) == set()
