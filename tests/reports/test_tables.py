import csv
import io
import json

import pytest

from vsrbench.errors import RunError
from vsrbench.reports import tables
from vsrbench.reports.entries import groups

VALUES = {"psnr_y": 26.0, "ssim_y": 0.8, "sharpness": 0.5, "consistency": 0.5}


def test_the_best_of_each_column_is_marked_the_truth_apart(make_run) -> None:
    made = [make_run("bicubic", VALUES), make_run("dgaf", {**VALUES, "psnr_y": 26.5, "consistency": 1.0})]
    made.append(make_run("gt", {**VALUES, "psnr_y": 99.0}))
    table = tables.overview(groups(made)[0])
    best = {line.label: {table.columns[n + 1] for n in line.best} for line in table.lines}
    assert best["DGAF-VSR"] == {"PSNR Y (dB) ↑", "SSIM Y ↑", "s/frame"}
    assert best["bicubic"] == {"SSIM Y ↑", "consistency (×1000) ↓", "s/frame"} and best["ground truth"] == set()
    assert "no competitor" in " ".join(table.notes)


def test_a_metric_without_numbers_is_named_below(make_run) -> None:
    made = make_run("bicubic", {**VALUES, "lpips_alex": {"unavailable": "no weights"}})
    table = tables.overview(groups([made])[0])
    assert not any("LPIPS" in c for c in table.columns) and "lpips_alex" in " ".join(table.notes)


def test_costs_of_other_devices_are_not_compared(make_run) -> None:
    made = [make_run("bicubic", VALUES), make_run("dgaf", VALUES, cost={"device": "H200"})]
    assert "do not compare" in " ".join(tables.overview(groups(made)[0]).notes)


def test_two_clips_support_no_claim(make_run) -> None:
    made = [make_run("ldm", VALUES), make_run("dgaf", {**VALUES, "psnr_y": 40.0})]
    table = tables.paired_tests(groups(made)[0])
    assert table.title == "Against diffusion baseline"
    assert {line.cells[-1] for line in table.lines} == {tables.TOO_FEW}
    assert "2 clips cannot support a claim" in table.notes[0]


@pytest.mark.parametrize(
    ("clips", "comparisons", "can"), [(4, 1, False), (6, 1, True), (6, 2, False), (9, 8, True), (8, 8, False)]
)
def test_how_many_clips_claims_need(clips: int, comparisons: int, can: bool) -> None:
    """A sign-flip test over n clips gives 2^(1-n) at best, which Holm's first step multiplies by the comparisons."""
    assert (2.0 ** (1 - clips) * comparisons <= 0.05) is can
    assert ("cannot support" not in tables.support(clips, comparisons)) is can


def test_one_kind_of_psnr_is_tested(make_run) -> None:
    made = [make_run(name, {**VALUES, "psnr_rgb": 25.0}) for name in ("bicubic", "dgaf")]
    assert tables.tested(groups(made)[0]) == ["psnr_y", "ssim_y", "consistency"]


def test_a_comparison_needs_two(make_run) -> None:
    with pytest.raises(RunError, match="two methods"):
        tables.paired_tests(groups([make_run("bicubic", VALUES)])[0])


def test_intervals_hold_the_mean_and_seeds_their_spread(make_run) -> None:
    made = [make_run(f"s{n}", {**VALUES, "psnr_y": 26.0 + n}, settings={"seed": n}, method="dgaf") for n in (0, 2)]
    cells = tables.intervals(groups(made)[0]).lines[0].cells
    assert cells[0] == "27.00 [27.00, 27.00] ± 1.41 over 2 seeds"


def test_means_of_clips_are_named_where_the_protocol_takes_those_of_frames(make_run) -> None:
    made = make_run("bicubic", VALUES, protocol={"switches": {"scale": 4, "averaging": "frames"}})
    assert "means of clip means" in tables.intervals(groups([made])[0]).notes[-1]
    assert "means of clip" not in " ".join(tables.intervals(groups([make_run("ldm", VALUES)])[0]).notes)


def test_all_values_at_full_precision(make_run) -> None:
    group = groups([make_run("bicubic", {"psnr_y": {"coffee": 26.123456789, "rocket": 25.0}})])
    rows = list(csv.DictReader(io.StringIO(tables.long_csv(group))))
    assert (rows[0]["clip"], rows[0]["value"]) == ("coffee", "26.123456789") and len(rows) == 3


def test_a_frame_without_a_number_keeps_its_metric_out_of_intervals_and_tests(make_run) -> None:
    """Equal frames have no finite PSNR, and what is left of their clip is another quantity than its mean."""
    runs = [make_run(name, {"psnr_y": 30.0, "psnr_rgb": 29.0, "ssim_y": 0.9}) for name in ("bicubic", "dgaf")]
    result = json.loads((runs[1] / "result.json").read_text())
    psnr = result["metrics"]["psnr_y"]
    why = {"unavailable": "psnr_y of coffee/1.png is infinite"}
    psnr["mean"] = psnr["clips"]["coffee"]["mean"] = psnr["clips"]["coffee"]["frames"][1] = why
    (runs[1] / "result.json").write_text(json.dumps(result))
    (group,) = groups(runs)
    assert tables.tested(group) == ["psnr_rgb", "ssim_y"]
    assert tables.intervals(group).columns == ("method", "PSNR RGB (dB) ↑", "SSIM Y ↑")
