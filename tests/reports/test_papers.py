import pytest

from report_fakes import change
from vsrbench import published
from vsrbench.errors import ConfigError
from vsrbench.reports.entries import groups
from vsrbench.reports.papers import find, find_paper, table

VALUES = {"psnr_y": 23.0, "ssim_y": 0.62, "lpips_alex": 0.5}


def on_vid4(make_run, name: str, values: dict[str, object], identity: str | None = "dgaf_vid4", **changes: object):
    comparison = {"verdict": "verified", "why": "", "published": identity, "row": None}
    protocol = {"id": "dgaf", "conformance": "verified", "comparison": comparison}
    return make_run(name, values, protocol=protocol, data={"set": "vid4"}, **changes)


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("dgaf/T1", [("dgaf_vsr", "table1_reds4"), ("dgaf_vsr", "table1_vid4")]),
        ("dgaf_vsr/table3", [("dgaf_vsr", "table3")]),
        ("dgaf/ST4", [("dgaf_vsr", "s_table4")]),
        ("videogigagan/F6", [("videogigagan", "figure6")]),
        ("adapter/T4.2", [("adapter_thesis", "table4_2")]),
    ],
)
def test_tables_have_short_names(reference: str, found: list[tuple[str, str]]) -> None:
    assert find(reference) == found


@pytest.mark.parametrize("reference", ["dgaf/T9", "dgaf", "nobody/T1"])
def test_what_is_not_there_is_refused_with_what_is(reference: str) -> None:
    with pytest.raises(ConfigError, match=r"table1_reds4|stablevsr"):
        find(reference)


def test_every_table_can_be_printed_without_a_run() -> None:
    for paper, content in published.load()["papers"].items():
        assert find_paper(paper) == paper
        for name in content["tables"]:
            lines = table(paper, name, []).lines
            assert [line.label for line in lines] == published.rows(paper, name)
            assert {line.kind for line in lines} == {"quoted"}


def test_ours_stands_below_the_printed_row_with_the_difference(make_run) -> None:
    made = table("dgaf_vsr", "table1_vid4", groups([on_vid4(make_run, "bicubic", VALUES)]))
    labels = [line.label.strip() for line in made.lines]
    at = labels.index("ours: bicubic")
    assert [labels[at - 1], labels[at + 1]] == ["Bicubic", "difference"] and labels[-1] == "DGAF-VSR"
    ours, difference = (dict(zip(made.columns[1:], made.lines[n].cells, strict=True)) for n in (at, at + 1))
    assert (ours["PSNR ↑"], difference["PSNR ↑"]) == ("23.00", "-0.78")
    assert (ours["LPIPS ↓"], difference["LPIPS ↓"]) == ("0.500", "+0.003")
    assert (ours["MUSIQ ↑"], difference["MUSIQ ↑"]) == ("–", "")
    assert ours["comparable?"] == "protocol yes, weights yes"
    note = "Comparable? bicubic: protocol: yes, dgaf_vid4, bicubic as reported; weights: yes, none needed."
    assert note in made.notes


def test_what_is_not_comparable_says_why(make_run) -> None:
    runs = [on_vid4(make_run, name, VALUES, identity=None, partial=True) for name in ("dgaf", "stablevsr")]
    made = table("dgaf_vsr", "table1_vid4", groups(runs))
    said = {line.cells[-1] for line in made.lines if line.label.strip().startswith("ours:")}
    assert said == {"protocol no, weights no"}
    why = "protocol: no, dgaf here, dgaf_vid4 there, data partial; weights: no, size=mini."
    assert [n for n in made.notes if n.startswith("Comparable?")] == [f"Comparable? DGAF-VSR, StableVSR: {why}"]


def test_part_of_the_papers_frames_and_an_unknown_file_are_no_yes(make_run) -> None:
    settings = {"partial": True, "size": "paper", "provenance": {"weights": {"file": "own.safetensors"}}}
    made = table("dgaf_vsr", "table1_vid4", groups([on_vid4(make_run, "dgaf", VALUES, **settings)]))
    said = {line.cells[-1] for line in made.lines if line.label.strip().startswith("ours:")}
    assert said == {"protocol partial, weights unknown"}


def test_two_metrics_of_one_name_are_ambiguous(make_run) -> None:
    made = table("dgaf_vsr", "table1_vid4", groups([on_vid4(make_run, "bicubic", {**VALUES, "lpips_vgg": 0.4})]))
    assert next(line.cells[0] for line in made.lines if line.label.strip().startswith("ours:")) == "ambiguous"


def test_a_method_that_the_paper_lacks_comes_last(make_run) -> None:
    lines = table("dgaf_vsr", "table1_vid4", groups([on_vid4(make_run, "ldm", VALUES)])).lines
    assert lines[-1].label.strip() == "ours: diffusion baseline" and lines[-1].kind == ""


def test_the_row_that_an_experiment_names_goes_before_the_methods_own(make_run) -> None:
    named = {"reference": {"paper": "dgaf_vsr", "table": "table3", "row": "case 1"}}
    group = groups([make_run("dgaf", VALUES, data={"set": "reds"}, published=named)])
    labels = [line.label.strip() for line in table("dgaf_vsr", "table3", group).lines]
    assert labels[:2] == ["case 1", "ours: DGAF-VSR"]


def test_runs_on_other_data_stay_out(make_run) -> None:
    made = table("dgaf_vsr", "table1_reds4", groups([on_vid4(make_run, "bicubic", VALUES)]))
    assert not any("ours" in line.label for line in made.lines)
    assert any("None of the runs is on this table's data (REDS4)" in note for note in made.notes)


def test_ours_fills_the_columns_of_its_own_data_alone(make_run) -> None:
    run = make_run("bicubic", {"psnr_rgb": 26.0, "psnr_y": 27.0}, data={"set": "reds"})
    made = table("stablevsr", "table1", groups([run]))
    assert sum("PSNR" in column for column in made.columns) == 2
    lines = {line.label.strip(): line.cells for line in made.lines}
    vimeo, reds = (n - 1 for n, column in enumerate(made.columns) if "PSNR" in column)
    assert lines["ours: bicubic"][vimeo] == "" and float(lines["ours: bicubic"][reds]) == 26.0
    assert lines["difference"][vimeo] == "" and lines["difference"][reds] != ""


@pytest.mark.parametrize(("name", "answered"), [("bicubic", "BI"), ("blur_down", "BD")])
def test_ours_answers_columns_of_its_own_degradation(make_run, name: str, answered: str) -> None:
    switches = {"scale": 4, "degradation": {"name": name}}
    made = table(
        "videogigagan",
        "table2",
        groups([make_run("bicubic", VALUES, data={"set": "vid4"}, protocol={"switches": switches})]),
    )
    ours = next(line.cells for line in made.lines if line.label.strip().startswith("ours:"))
    assert {c for c, cell in zip(made.columns[1:-1], ours[:-1], strict=True) if cell} == {
        f"Vid4 {answered} {metric}" for metric in ("LPIPS ↓", "PSNR ↑", "SSIM ↑")
    }


def test_another_scale_stays_out(make_run) -> None:
    made = table("dgaf_vsr", "s_table3_x8", groups([make_run("bicubic", VALUES, data={"set": "reds"})]))
    assert not any(line.label.strip().startswith("ours:") for line in made.lines)


def test_two_protocols_of_one_method_are_told_apart(make_run) -> None:
    runs = [on_vid4(make_run, "bicubic", VALUES, None), on_vid4(make_run, "ldm", VALUES, None)]
    change(runs[0], protocol={"id": "vsrbench", "hash": "f" * 16})
    lines = table("sateco", "table1_vid4", groups(runs)).lines
    ours = {line.label.strip() for line in lines if line.label.strip().startswith("ours:")}
    assert ours == {"ours: bicubic (vid4, vsrbench)", "ours: diffusion baseline (vid4, dgaf)"}


def test_columns_of_settings_bring_no_other_data_in(make_run) -> None:
    made = table("dgaf_vsr", "table3", groups([make_run("dgaf", VALUES)]))
    assert any("data (REDS4)" in note for note in made.notes)


def test_columns_of_one_metric_are_told_apart() -> None:
    for paper, content in published.load()["papers"].items():
        for name in content["tables"]:
            heads = table(paper, name, []).columns
            assert len(set(heads)) == len(heads), f"{paper}.{name}: {heads}"


def test_units_of_ours_and_theirs(make_run) -> None:
    """tOF is printed x 10 and tLPIPS x 1000, as ours of those names are given already."""
    values = {"tof_stablevsr": 4.0, "tlpips_stablevsr": 5.0}
    group = groups([make_run("dgaf", values, data={"set": "reds"})])
    made = table("dgaf_vsr", "table3", group)
    ours = dict(
        zip(made.columns[1:], next(x for x in made.lines if x.label.strip().startswith("ours:")).cells, strict=True)
    )
    assert float(ours["tOF ×10 ↓"]) == 4.0 and float(ours["tLPIPS ×1000 ↓"]) == 5.0
