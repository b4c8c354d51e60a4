"""The published numbers: their file keeps to its layout, references find rows, wrong ones are told what is near."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vsrbench import published
from vsrbench.errors import ConfigError

Change = Callable[[Any], Any]


@pytest.fixture
def altered(tmp_path: Path) -> Callable[[Change], str]:
    """altered(change): what loading says of a copy that ``change(content)`` has spoilt."""
    loader, dumper = getattr(yaml, "CSafeLoader", yaml.SafeLoader), getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    content = yaml.load(published.FILE.read_text(), loader)

    def load(change: Change) -> str:
        change(content)
        copy = tmp_path / "numbers.yaml"
        copy.write_text(yaml.dump(content, Dumper=dumper))
        with pytest.raises(ConfigError) as caught:
            published.load(copy)
        return str(caught.value)

    return load


def table3(content: Any) -> Any:
    return content["papers"]["dgaf_vsr"]["tables"]["table3"]


# --- rows ------------------------------------------------------------------------------------------


def test_a_row_by_column_with_protocol_and_factor() -> None:
    """DGAF-VSR, Table 3, case 4: 28.17 dB, tLPIPS 3.92 x 10^-3."""
    row = published.row("dgaf_vsr", "table3", "case 4 (ours)")
    assert list(row) == ["interp", "dense", "psnr", "ssim", "lpips", "dists", "tlpips", "tof"]
    psnr, tlpips = row["psnr"], row["tlpips"]
    assert (psnr.metric, psnr.value, psnr.unit, psnr.dir, psnr.protocol) == ("PSNR", 28.17, "dB", "up", "dgaf_reds4")
    assert (tlpips.printed, tlpips.factor, tlpips.dir) == (3.92, 1000, "down")
    assert tlpips.value == pytest.approx(0.00392)
    assert (row["interp"].value, row["dense"].value) == ("nearest", True)


def test_every_value_is_printed_divided_by_its_factor_and_has_a_protocol() -> None:
    content = published.load()
    for paper, entry in content["papers"].items():
        for table in entry["tables"]:
            for name in published.rows(paper, table):
                for cell in published.row(paper, table, name).values():
                    assert cell.protocol in content["protocols"]
                    if isinstance(cell.value, float):
                        assert cell.value * cell.factor == pytest.approx(cell.printed)
                    else:
                        assert cell.value == cell.printed


def test_text_is_as_printed() -> None:
    def text(table: str, row: str, column: str, paper: str = "dgaf_vsr") -> str:
        return published.row(paper, table, row)[column].text

    assert text("table1_reds4", "BasicVSR++", "musiq") == "67.00"
    assert text("s_table8", "s=2.5", "tlpips") == "12.00"
    assert text("s_table5", "OGWM upscaling", "seconds") == "6.11e-07"
    assert text("s_table5", "total (50 steps)", "seconds") == "24.15"
    assert text("s_table7", "case 3", "flow") == "SpyNet"
    assert text("table1", "ToFlow", "reds_psnr", "stablevsr") == "-"


def test_the_protocol_of_row_column_and_table() -> None:
    assert published.row("dgaf_vsr", "released_readme", "walk")["psnr"].protocol == "dgaf_vid4"  # the row's own
    assert published.row("dgaf_vsr", "released_readme", "000")["psnr"].protocol == "dgaf_reds4"  # the column's
    assert published.row("dgaf_vsr", "table1_vid4", "STAR")["psnr"].protocol == "dgaf_vid4"  # the table's


def test_a_name_that_several_rows_have_needs_its_group() -> None:
    assert published.row("adapter_thesis", "table4_3", "REDS/condition + ali")["psnr"].printed == 23.386
    with pytest.raises(ConfigError, match=r"near are.*Vid4/condition"):
        published.row("adapter_thesis", "table4_3", "condition + ali")
    assert published.row("sateco", "table3", "w=0") == published.row("sateco", "table3", "refiner/w=0")


@pytest.mark.parametrize(
    ("place", "near"),
    [
        (("dgaf", "table3", "case 1"), "no paper is called 'dgaf'; near are dgaf_vsr"),
        (("dgaf_vsr", "table_3", "case 1"), "no table in dgaf_vsr is called 'table_3'; near are table3"),
        (("dgaf_vsr", "table3", "case1"), "no row in dgaf_vsr.table3 is called 'case1'; near are case 1"),
        (("dgaf_vsr", "table2", "xyz"), "near are UAV, MGLD-VSR, STAR, DGAF-VSR"),
    ],
)
def test_a_wrong_name_is_answered_with_near_ones(place: tuple[str, str, str], near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        published.row(*place)
    assert near in str(caught.value)


# --- references ------------------------------------------------------------------------------------


def test_a_reference_to_a_row_becomes_plain_values() -> None:
    quoted = published.quote({"paper": "dgaf_vsr", "table": "table2", "row": "STAR"})
    assert quoted is not None
    assert quoted["reference"] == {"paper": "dgaf_vsr", "table": "table2", "row": "STAR"}
    assert quoted["values"]["dover"] == {
        "metric": "DOVER", "value": 0.7034, "printed": 0.7034, "factor": 1, "unit": "score", "dir": "up", "digits": 4,
        "protocol": "dgaf_videolq", "text": "0.7034",
    }  # fmt: skip
    assert published.quote(None) is None


def test_a_reference_to_sentences() -> None:
    quoted = published.quote({"paper": "dgaf_vsr", "claims": ["tof_stablevsr"], "row": None})
    assert quoted is not None and quoted["values"] == {}
    assert quoted["claims"]["tof_stablevsr"]["computed"] == 2.766
    with pytest.raises(ConfigError, match="no claim in dgaf_vsr is called 'tof_rvrt'; near are"):
        published.quote({"paper": "dgaf_vsr", "claims": ["tof_rvrt"]})


@pytest.mark.parametrize(
    "reference",
    [{"paper": "dgaf_vsr"}, {"paper": "dgaf_vsr", "table": "table3"}, {"table": "table3", "row": "case 1"},
     {"paper": "dgaf_vsr", "table": "table3", "claims": ["tof_stablevsr"]}],
)  # fmt: skip
def test_an_incomplete_or_ambiguous_reference_is_refused(reference: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="by paper, table and row, or sentences by paper and claims"):
        published.check(reference)


def test_an_unknown_part_of_a_reference_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"published\.rows is no part of a reference"):
        published.check({"paper": "dgaf_vsr", "table": "table3", "row": "case 1", "rows": "x"})


def test_a_row_that_can_only_be_quoted_says_why_and_what_is_printed() -> None:
    reference = {"paper": "dgaf_vsr", "table": "s_table4", "row": "STAR", "quoted_only": "nobody can measure it here"}
    with pytest.raises(published.QuotedOnlyError, match=r"STAR prints peak GPU memory 24.42 GB; nobody can measure"):
        published.check(reference)


# --- the file --------------------------------------------------------------------------------------


def test_the_file_is_loaded_once() -> None:
    assert published.load() is published.load()


def test_rows_that_several_papers_print_are_those_of_their_tables() -> None:
    """Bicubic on REDS4: StableVSR and DGAF-VSR print the same values."""
    cross = {entry["row"]: entry["values"] for entry in published.load()["cross"]}["Bicubic, REDS4, x4"]
    ours = published.row("dgaf_vsr", "table1_reds4", "Bicubic")
    theirs = published.row("stablevsr", "table1", "Bicubic")
    for metric, value in cross["dgaf_vsr"].items():
        assert ours[metric].printed == value == theirs[f"reds_{metric}"].printed


def test_too_few_values(altered: Callable[[Change], str]) -> None:
    told = altered(lambda c: table3(c)["rows"][1]["v"].pop())
    assert told == "numbers.yaml: dgaf_vsr.table3 row 'case 2': 7 values for 8 columns"


def spoil_cell(value: Any) -> Change:
    return lambda c: table3(c)["rows"][0]["v"].__setitem__(2, value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(schema_version=2), "schema_version 2, this version reads 1"),
        (lambda c: c.pop("cross"), "missing keys ['cross']"),
        (lambda c: c["protocols"]["cost"].update(colour="RGB"), "cost: missing keys [], unknown keys ['colour']"),
        (lambda c: c["protocols"]["cost"].update(sure=["size"]), "protocol cost: sure: 'size' is none of dataset"),
        (lambda c: table3(c).update(protocol="dgaf_reds5"), "column 'interp': protocol: 'dgaf_reds5' is none of"),
        (lambda c: table3(c).update(protocol=None), "column 'interp': protocol: None is none of"),
        (lambda c: table3(c)["columns"][2].update(dir="higher"), "dir: 'higher' is none of up, down, none"),
        (lambda c: table3(c)["columns"][2].update(unit="db"), "column 'psnr': unit: 'db' is none of dB"),
        (lambda c: table3(c)["columns"][2].update(deg="bicubic"), "column 'psnr': deg: 'bicubic' is none of BI"),
        (lambda c: table3(c)["columns"][2].update(factor=0), "column 'psnr': factor is 0, not a positive number"),
        (lambda c: table3(c)["columns"][2].update(id="ssim"), "dgaf_vsr.table3: columns: 'ssim' is there twice"),
        (lambda c: table3(c)["rows"][0].update(m="case 2"), "dgaf_vsr.table3: rows: 'case 2' is there twice"),
        (lambda c: table3(c)["rows"][0].update(m=1), "dgaf_vsr.table3 row 1: a name is text"),
        (lambda c: table3(c)["rows"][0].update(p="x"), "dgaf_vsr.table3 row 'case 1': protocol: 'x' is none of"),
        (lambda c: table3(c)["rows"][0].update(n="x"), "dgaf_vsr.table3 row 'case 1': missing keys [], unknown keys"),
        (spoil_cell(27.811), "row 'case 1' column 'psnr': 27.811 is not a finite number of at most digits=2 decimals"),
        (spoil_cell(float("nan")), "row 'case 1' column 'psnr': nan is not a finite number"),
        (spoil_cell("27.81"), "row 'case 1' column 'psnr': '27.81' is no number, but the column has digits=2"),
        (spoil_cell([27.81]), "row 'case 1' column 'psnr': [27.81] is neither number, text, bool nor null"),
        (lambda c: c["papers"]["sateco"]["claims"][0].pop("why"), "sateco: a claim: missing keys ['why']"),
        (lambda c: c["cross"][0]["values"].update(edvr={}), "row 'Bicubic, REDS4, x4': 'edvr' is none of"),
    ],
)  # fmt: skip
def test_what_breaks_the_layout_is_named(altered: Callable[[Change], str], change: Change, told: str) -> None:
    message = altered(change)
    assert message.startswith("numbers.yaml: ") and told in message


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "numbers.yaml"
    text = published.FILE.read_text()
    copy.write_text(text.replace("      s_table8:\n", "      s_table7:\n"))
    with pytest.raises(ConfigError, match=r"numbers.yaml: 's_table7' is there twice"):
        published.load(copy)


def test_no_yaml_at_all(tmp_path: Path) -> None:
    copy = tmp_path / "numbers.yaml"
    copy.write_text("papers: [")
    with pytest.raises(ConfigError, match=r"numbers\.yaml is no YAML"):
        published.load(copy)
