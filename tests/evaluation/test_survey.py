"""Which bicubic rows can be tested, and the command that tests them with the data at hand."""

import json

import pytest

from vsrbench import conformance
from vsrbench.evaluation.conformance import BicubicRow, bicubic_rows, root_of
from vsrbench.evaluation.protocol import shipped

CLIPS = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}


def test_every_printed_bicubic_row_is_a_job_under_each_kernel_it_is_made_of():
    found = {(job.set, job.scale, job.kernel): job.protocols for job in bicubic_rows(shipped())}
    assert found[("vid4", 4, "matlab")] == found[("vid4", 4, "cv2")] == ("dgaf", "sateco")
    assert found[("reds", 4, "matlab")] == ("sateco", "videogigagan") and ("reds", 4, "cv2") in found
    assert found[("reds", 4, "pil")] == ("dgaf", "stablevsr") and ("vimeo", 4, "matlab") in found
    assert {scale for data, scale, _ in found if data == "reds"} == {4, 8, 16}


def test_data_are_found_in_the_folder_or_one_below(make_tree):
    root = make_tree({f"GT/{clip}": 1 for clip in CLIPS}, size=(16, 16))
    job = BicubicRow("vid4", 4, "matlab", ("sateco",))
    assert root_of(job, root) == root_of(job, root.parent) == root
    assert root_of(BicubicRow("reds", 4, "matlab", ("sateco",)), root.parent) is None


def test_the_command_measures_what_is_there_and_says_what_is_not(make_tree, tmp_path, capsys, monkeypatch):
    make_tree({f"GT/{clip}": 1 for clip in CLIPS}, size=(48, 48))
    wanted = [BicubicRow("reds", 4, "matlab", ("sateco",)), BicubicRow("vid4", 4, "matlab", ("sateco", "dgaf"))]
    monkeypatch.setattr("vsrbench.evaluation.conformance.bicubic_rows", lambda nodes: wanted)
    conformance.main([str(tmp_path), "--runs", str(tmp_path / "runs")])
    told = capsys.readouterr().out
    assert "data_absent" in told and told.count("partial") == 2
    [run] = (tmp_path / "runs").iterdir()
    names = sorted(path.name for path in run.glob("result*.json"))
    assert names == ["result.json", "result_dgaf.json"]
    assert json.loads((run / "result.json").read_text())["protocol"]["comparison"]["row"] == "Bicubic"


def test_a_row_that_deviates_fails_the_command(monkeypatch, tmp_path):
    row = {"job": BicubicRow("vid4", 4, "matlab", ("sateco",)), "id": "sateco", "why": "psnr_y -0.5", "cells": []}
    for verdict, code in (("deviates", 1), ("verified", None)):
        monkeypatch.setattr(conformance, "survey", lambda folder, runs, v=verdict: [{**row, "verdict": v}])
        if code is None:
            conformance.main([str(tmp_path)])
            continue
        with pytest.raises(SystemExit) as left:
            conformance.main([str(tmp_path)])
        assert left.value.code == code


def test_a_folder_that_is_not_there_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        conformance.main([str(tmp_path / "nowhere")])
    assert left.value.code == 2 and "no folder" in capsys.readouterr().err
