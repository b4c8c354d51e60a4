import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vsrbench import analyse
from vsrbench.analysis.report import SCHEMA
from vsrbench.analysis.strength import MEASURES
from vsrbench.command_line import expand_arguments
from vsrbench.config import compose
from vsrbench.errors import ConfigError, DataError, RunError

FIXED = ["method=dgaf", "size=tiny", "data=sample", "analysis.frames=2", "analysis.clips=[coffee_zoom]"]


def configuration(runs: Path, *overrides: str) -> Any:
    return compose([*FIXED, f"runs={runs}", "name=x", "inference.device=cpu", *overrides], verb="analyse")


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    """configured("key=value", ...): a configuration whose run folder is tmp_path/x."""
    return partial(configuration, tmp_path)


@pytest.fixture(scope="module")
def warped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of task=warping; tests that change something in it copy it."""
    return analyse.run(configuration(tmp_path_factory.mktemp("runs"), "task=warping"))


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "table.json").read_text())


@pytest.mark.parametrize("task", ["correlation", "steps", "factors", "components"])
def test_every_task_leaves_tables_and_a_figure(
    configured: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    result = read(analyse.run(configured(f"task={task}", "analysis.factors=[1,2]")))
    assert result["schema"] == SCHEMA and result["task"] == task and result["data"]["clips"] == {"coffee_zoom": 2}
    groups = 1 if task == "components" else 1 * 2 * 4  # pairs x steps x channels
    assert result["counts"]["groups"] == groups and result["counts"]["clips"] == 1
    assert result["settings"]["frames"] == 2 and result["provenance"]["seed"] == 42
    assert result["provenance"]["device"] == "cpu" and "DGAF-VSR" in result["paper"]["reference"]
    folder = tmp_path / "x"
    with Image.open(folder / "figure.png") as figure:
        assert figure.size[0] > 500
    assert (folder / "figure.svg").read_bytes().startswith(b"<?xml")
    assert result["tables"][0]["title"] in (folder / "table.md").read_text()
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)


def test_warping_stands_beside_the_papers_percentages(warped: Path) -> None:
    result = read(warped)
    values = result["values"]
    assert values["factor"] == 4.0 and set(values["strength"]["original"]) == set(MEASURES)
    for m in MEASURES:
        a = values["strength"]
        assert values["loss_percent"][m] == pytest.approx(100 * (1 - a["warped"][m] / a["original"][m]))
        assert values["gain_percent"][m] == pytest.approx(100 * (a["rescaled"][m] / a["warped"][m] - 1))
    rows = {row[0]: row for row in result["tables"][1]["rows"]}
    assert [rows["edges, Canny"][n] for n in (2, 4, 6)] == [12.68, 4.38, 9.98]
    assert [rows["edges, Laplacian"][n] for n in (2, 4, 6)] == [65.08, 40.69, 43.89]
    assert [rows["high-pass"][n] for n in (2, 4, 6)] == [5.34, 1.75, 4.43]


def test_steps_average_to_what_warping_finds(configured: Any, warped: Path) -> None:
    """Two tasks over one sampling run agree."""
    steps = read(analyse.run(configured("task=steps")))["values"]["steps"]
    whole = read(warped)["values"]["strength"]
    for way in ("original", "warped", "rescaled"):
        mean = sum(s[way]["sobel"] for s in steps.values()) / len(steps)
        assert mean == pytest.approx(whole[way]["sobel"])


def test_s_follows_the_method(configured: Any, warped: Path) -> None:
    assert read(warped)["values"]["factor"] == 4.0
    assert read(analyse.run(configured("task=components", "method.rescale=2")))["values"]["factor"] == 2.0


def test_factor_one_loses_what_direct_warping_loses(configured: Any) -> None:
    found = read(analyse.run(configured("task=factors", "analysis.factors=[1,1.6,4]")))["values"]["factors"]
    assert list(found) == ["1", "1.6", "4"]
    assert found["1"]["reduction_percent"] == pytest.approx(found["1"]["reduction_direct_percent"])
    assert found["4"]["reduction_percent"] < found["1"]["reduction_percent"]


def test_ldm_has_features_but_no_flow(configured: Any) -> None:
    result = read(analyse.run(configured("task=correlation", "method=ldm")))
    assert set(result["values"]["gain_percent"]) == set(result["paper"]["gain_percent"])
    with pytest.raises(ConfigError, match="optical flow"):
        analyse.run(configured("task=warping", "method=ldm", "name=y"))


def test_components_of_a_chosen_channel(configured: Any) -> None:
    result = read(analyse.run(configured("task=components", "analysis.components.channel=2")))
    assert result["values"]["channel"] == 2 and result["values"]["clip"] == "coffee_zoom"


def test_the_same_command_shows_what_was_found(configured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = analyse.run(configured("task=components"))
    before = (folder / "table.json").stat().st_mtime_ns
    analyse.run(configured("task=components"))
    assert "analysed before" in capsys.readouterr().out
    assert (folder / "table.json").stat().st_mtime_ns == before
    analyse.run(configured("task=components", "force=true"))
    assert (folder / "table.json").stat().st_mtime_ns > before


def test_other_settings_or_weights_are_not_shown_as_the_same(configured: Any, tmp_path: Path, warped: Path) -> None:
    folder = shutil.copytree(warped, tmp_path / "x")
    with pytest.raises(RunError, match=r"analysis\.padding: 'border' there, 'zeros' now"):
        analyse.run(configured("task=warping", "analysis.padding=zeros"))
    result = read(folder)
    result["provenance"]["weights"] = {"file": "w", "blake2b": "0"}
    (folder / "table.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match="weights have changed"):
        analyse.run(configured("task=warping"))


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ([], ConfigError, "task=None: use one of correlation, warping, steps, factors, components"),
        (["task=warping", "method=bicubic"], ConfigError, r"task=warping needs .* \(dgaf, stablevsr\)"),
        (["task=correlation", "method=bicubic"], ConfigError, r"\(dgaf, stablevsr, ldm\)"),
        (["task=correlation", "analysis.bins=1"], ConfigError, "analysis.bins=1: use 2 or more"),
        (["task=warping", "analysis.frames=1"], ConfigError, "two are needed"),
        (["task=warping", "analysis.clips=[nobody]"], DataError, "no clip nobody; there are"),
        (["task=factors", "analysis.factors=[]"], ConfigError, "analysis.factors is empty"),
        (["task=factors", "analysis.factors=[0.5]"], ConfigError, "0.5: use 1 or more"),
        (["task=components", "analysis.components.frame=2"], DataError, "gives frames 1 to 1"),
        (["task=components", "analysis.components.channel=4"], ConfigError, "use 0 to 3"),
    ],
)
def test_what_cannot_be_analysed(configured: Any, overrides: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        analyse.run(configured(*overrides))


def test_the_task_needs_no_key() -> None:
    assert "task='warping'" in expand_arguments(["warping", "method=dgaf"], "analyse")
