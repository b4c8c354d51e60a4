"""Every name that a dashboard refers to is logged by a run; specifications are whole without a network."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from training_fakes import FakeModule, trained
from vsrbench import config, dashboard, train
from vsrbench import eval as evaluation
from vsrbench.cluster import workspace
from vsrbench.cluster.dashboard import COMPARISON, Dashboard, Panel, methods, of_method
from vsrbench.cluster.dashboard import dashboard as described
from vsrbench.errors import ConfigError, RunError
from vsrbench.training import names, validation
from wandb_reader import Logged, offline_runs, read

ALL = [*methods(), COMPARISON]
SHORT = ("data.splits.test.clips=2", "data.splits.test.frames=2", "data.frame_size=[48,64]")
RUN_FIELDS = {names.STEP, "_step"}


@pytest.fixture(autouse=True, scope="module")
def logged_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", str(tmp_path_factory.mktemp("home") / "netrc"))
        patch.setenv("WANDB_SILENT", "true")
        yield


class Distance(torch.nn.Module):
    """Stands where LPIPS would be if its weights were here: what is tested is that its curve is logged."""

    def forward(self, output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return (output - truth).abs().mean()


def watched(self: FakeModule, *args: Any) -> dict[str, torch.Tensor]:
    self.observed = {"logit_real": torch.tensor(1.0), "logit_fake": torch.tensor(-1.0)}
    return LOSSES(self, *args)


LOSSES = FakeModule.losses


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, logged_out: None) -> Logged:
    """A training with an average, LPIPS and a method that observes a discriminator's logits."""
    wanted = ",".join(names.VALIDATION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "lpips_network", lambda metrics: Distance())
        patch.setattr(FakeModule, "losses", watched)
        settings = (
            "logger=wandb",
            "ema.decay=0.9",
            "trainer.max_steps=2",
            f"validation.metrics=[{wanted}]",
            "validation.frames=3",
        )
        folder = trained(tmp_path_factory.mktemp("training"), *settings)
    return read(offline_runs(folder)[0])


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, logged_out: None) -> tuple[Path, Logged]:
    """An evaluation of clips that need no download; its steps are set, since bicubic has no sampler."""
    runs = tmp_path_factory.mktemp("eval")
    settings = [f"runs={runs}", "name=x", "logger=wandb", "inference.device=cpu", "data=sample", *SHORT]
    cfg = config.compose(["method=ldm", "size=tiny", "sampler.steps=1", *settings], verb="eval")
    folder = evaluation.run(cfg)
    return folder, read(offline_runs(folder)[0])


@pytest.mark.parametrize("name", ALL)
def test_every_name_is_logged(name: str, training: Logged, judged: tuple[Path, Logged]) -> None:
    known = training.keys | judged[1].keys | RUN_FIELDS
    for panel in described(name).panels():
        assert set(panel.keys) <= known, panel.title
        assert panel.x in known
        if panel.pattern is not None:
            assert any(re.search(panel.pattern, key) for key in training.scalars), panel.title
        if panel.group is not None:
            assert (training.config[panel.group], judged[1].config[panel.group]) == ("fake", "ldm")
    for panel in described(name).panels():
        if panel.kind == "media":
            assert set(panel.keys) <= training.kinds.keys() & judged[1].kinds.keys()
        if panel.kind == "table":
            assert (training.kinds | judged[1].kinds)[panel.keys[0]] == "table-file"


@pytest.mark.parametrize("name", ALL)
def test_the_specification_refers_to_nothing_else(name: str) -> None:
    """What W&B is sent is read without knowing how it was made."""
    one = described(name)
    found = set(referred(workspace.specification(workspace.build(one, "team", "project"))))
    expected = {key for panel in one.panels() for key in (*panel.keys, panel.x, panel.pattern) if key}
    assert found - {None} == expected | ({f"{names.METHOD}.value"} if any(p.group for p in one.panels()) else set())


def referred(node: Any) -> Iterator[Any]:
    """Metrics, media, axes, patterns, groups and tables anywhere in a specification."""
    if isinstance(node, list):
        for item in node:
            yield from referred(item)
    elif isinstance(node, dict):
        if node.get("viewType") == "Weave":
            yield from set(re.findall(r'"val": "((?:val|eval)/\w+)"', json.dumps(node)))
            return
        for key, value in node.items():
            if key in ("metrics", "mediaKeys") and isinstance(value, list):
                yield from value
            elif key in ("xAxis", "yAxis", "metricRegex", "groupBy") and isinstance(value, str):
                if value != "_step":  # W&B's own default of a section
                    yield value.removeprefix("summary:")
            else:
                yield from referred(value)


def test_a_methods_workspace_shows_its_runs_alone() -> None:
    spec = workspace.specification(workspace.build(of_method("dgaf"), "team", "project"))
    (runs,) = spec["spec"]["section"]["runSets"]
    (chosen,) = runs["filters"]["filters"]
    assert (chosen["key"]["name"], chosen["op"], chosen["value"]) == (names.METHOD, "=", "dgaf")


def test_panels_do_not_overlap() -> None:
    for section in described(COMPARISON).sections:
        made = workspace.build(Dashboard("x", None, (section,)), "team", "project").sections[0].panels
        taken = [
            (p.layout.x + dx, p.layout.y + dy) for p in made for dx in range(p.layout.w) for dy in range(p.layout.h)
        ]
        assert len(taken) == len(set(taken))
        assert max(x for x, _ in taken) < workspace.WIDE


def test_the_command_writes_specifications_where_nobody_is_logged_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = dashboard.run(config.compose([f"runs={tmp_path}"], verb="dashboard"))
    assert sorted(path.stem for path in folder.iterdir()) == sorted(ALL)
    content = json.loads((folder / "dgaf.json").read_text())
    assert content["url"] is None
    assert content["workspace"]["displayName"] == "vsrbench dgaf"
    assert content["workspace"]["project"] == "vsrbench"
    assert "not logged in" in capsys.readouterr().out


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Somebody is logged in; what is saved is noted instead of sent."""
    from wandb_workspaces import workspaces as ws

    noted: list[str] = []

    def save(self: Any) -> Any:
        noted.append(f"{self.entity}/{self.project}/{self.name}:{self._internal_name or 'new'}")
        self._internal_name = "nw-view-v"
        return self

    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setattr(ws.Workspace, "save", save)
    monkeypatch.setattr(ws.Workspace, "url", property(lambda self: "https://wandb.example/team/p?nw=view"))

    def from_url(url: str) -> Any:
        view = ws.Workspace(entity="team", project="p", name="old")
        view._internal_name = f"view of {url}"
        return view

    monkeypatch.setattr(ws.Workspace, "from_url", staticmethod(from_url))
    return lambda: noted


def test_the_command_saves_where_somebody_is_logged_in_and_replaces_what_it_saved(
    tmp_path: Path, saved: Callable[[], list[str]]
) -> None:
    settings = [
        f"runs={tmp_path}",
        "dashboard=dgaf",
        "logger=wandb",
        "logger.wandb.project=p",
        "logger.wandb.entity=team",
    ]
    for _ in range(2):
        dashboard.run(config.compose(settings, verb="dashboard"))
    address = "https://wandb.example/team/p?nw=view"
    assert saved() == ["team/p/vsrbench dgaf:new", f"team/p/vsrbench dgaf:view of {address}"]
    assert json.loads((tmp_path / "dashboards" / "dgaf.json").read_text())["url"] == address


def test_a_refusal_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb_workspaces import workspaces as ws

    def refuse(self: Any) -> None:
        raise ValueError("permission denied")

    monkeypatch.setattr(ws.Workspace, "save", refuse)
    with pytest.raises(RunError, match=r"permission denied.*logger.wandb.entity"):
        workspace.save(workspace.build(of_method("dgaf"), "team", "project"), None)


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_damaged_file_of_a_dashboard_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "dgaf.json").write_text(content)
    with pytest.raises(RunError, match=r"dgaf\.json is damaged .*: delete it"):
        workspace.address(tmp_path / "dgaf.json")


def test_unknown_dashboards_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dashboard=bicubic: use all, comparison, or a method .*dgaf"):
        described("bicubic")


def test_every_kind_of_panel_can_be_made() -> None:
    assert type(workspace.panel_object(Panel("differences", "x"))).__name__ == "RunComparer"


def test_an_evaluation_shows_its_means_cost_clips_and_pictures(judged: tuple[Path, Logged]) -> None:
    folder, logged = judged
    result = json.loads((folder / "result.json").read_text())
    assert logged.run["job_type"] == "eval"
    assert logged.config["protocol_hashes"] == {result["protocol"]["id"]: result["protocol"]["hash"]}
    for metric, found in result["metrics"].items():
        assert logged.values(names.evaluation(metric))[0] == pytest.approx(found["mean"])
    assert logged.summary[names.SECONDS_PER_FRAME] == pytest.approx(result["cost"]["seconds_per_frame"])
    assert logged.summary[names.SAMPLER_STEPS] == 1
    (table,) = (offline_runs(folder)[0] / "files" / "media" / "table").rglob("*.json")
    content = json.loads(table.read_text())
    assert [row[0] for row in content["data"]] == list(result["data"]["clips"])
    assert {names.STRIP, names.SLICE, names.VIDEO} <= logged.kinds.keys()
    assert len(list((folder / "samples").glob("step_000000_*.mp4"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", methods())
def test_every_name_is_logged_by_the_method_itself(name: str, tmp_path: Path) -> None:
    """Its own loss terms and observations at size=tiny; LPIPS apart, whose weights are not everywhere."""
    settings = [f"method={name}", "size=tiny", "data=sample", "logger=wandb", f"runs={tmp_path}", "name=x"]
    settings += ["trainer.max_steps=2", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu", "ema.decay=0.9"]
    settings += ["train.effective_batch=null", "train.batch=1", "validation.clips=1", "validation.frames=2"]
    folder = train.run(config.compose([*settings, "data.frame_size=[64,64]"]))
    assert folder is not None
    logged = read(offline_runs(folder)[0])
    for panel in described(name).panels():
        assert set(panel.keys) - {names.LPIPS} <= logged.keys
        assert panel.pattern is None or any(re.search(panel.pattern, key) for key in logged.scalars), panel.pattern
