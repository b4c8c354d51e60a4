import pytest
from omegaconf import OmegaConf

from vsrbench.benchmarks.report import reported
from vsrbench.errors import ConfigError

NODE = {"paper": "dgaf_vsr", "table": "s_table5", "lines": {"ours": "FTCM", "sum": "total (50 steps)"}, "notes": ["n"]}


def test_printed_numbers_stand_beside_the_lines_that_name_them() -> None:
    quoted = reported(OmegaConf.create(NODE))
    assert quoted is not None
    assert quoted.values == {"ours": 0.4504, "sum": 24.15}
    assert quoted.label == "reported, Supp. Table 5, s" and quoted.notes == ["n"]
    rows = quoted.beside([{"part": "ours", "unit": 1.0}, {"part": "another"}])
    assert [row["printed"] for row in rows] == [0.4504, None]


def test_a_method_without_a_table() -> None:
    assert reported(None) is None


def test_a_row_that_nobody_printed() -> None:
    with pytest.raises(ConfigError):
        reported(OmegaConf.create({**NODE, "lines": {"ours": "no such row"}}))
