"""Folders and lists that come from elsewhere: nothing in them is run, and nothing outside of ours is touched."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from vsrbench import eval as entry
from vsrbench import train
from vsrbench.config import compose, home
from vsrbench.data.packed import INDEX, VERSION, read_index
from vsrbench.errors import ConfigError, DataError, RunError, VsrbenchError, WeightsError
from vsrbench.evaluation.results import selected_on
from vsrbench.reports.entries import fine_print, groups, read
from vsrbench.reports.make import Material
from vsrbench.reports.tables import intervals, long_csv, overview
from vsrbench.runs import alone, open_run, read_run_settings, run_folder
from vsrbench.stored import below, check_name, inside, read_config, read_json
from vsrbench.trusted import known_targets
from vsrbench.weights.commands.check import check_path
from vsrbench.weights.layout import weight_files

from .report_fakes import write_run
from .training_fakes import tiny, trained

OUTSIDE = ["../x", "/etc/x", "a/../../x", "", ".", "a\\..\\..\\x", "a\0b", "a\nb"]


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A node that writes a file when it is built; afterwards nothing may have written it."""
    monkeypatch.setenv("SECRET_OF_THIS_TEST", "secret")
    yield {"_target_": "pathlib.Path.write_text", "_args_": [str(tmp_path / "ran"), "x"]}
    assert not (tmp_path / "ran").exists()


def run_with(folder: Path, **changes: Any) -> Path:
    settings = compose(["method=bicubic", "data=sample"], "eval")
    content: Any = OmegaConf.to_container(settings, resolve=True)
    for path, value in changes.items():
        *groups, key = path.split("__")
        node = content
        for group in groups:
            node = node[group]
        node[key] = value
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


class TestForeignRunFolder:
    @pytest.mark.parametrize("place", ["data", "data__seed", "data__degradation"])
    def test_a_report_builds_nothing_that_it_names(self, place: str, payload: Any, tmp_path: Path) -> None:
        folder = run_with(tmp_path / "run", **{place: payload})
        with pytest.raises(RunError, match=r"config\.yaml names 'pathlib\.Path\.write_text'|has _args_"):
            Material(folder, "test", tmp_path / "cache")

    def test_a_list_hides_nothing(self, payload: Any, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="vsrbench does not"):
            Material(run_with(tmp_path / "run", data__root=[[payload]]), "test", tmp_path / "cache")

    def test_no_other_function_of_ours_either(self, tmp_path: Path) -> None:
        node = {"_target_": "vsrbench.runs.write_atomic", "path": str(tmp_path / "x"), "data": "x"}
        with pytest.raises(RunError, match="vsrbench does not build"):
            Material(run_with(tmp_path / "run", data=node), "test", tmp_path / "cache")

    def test_the_environment_is_not_read(self, payload: Any, tmp_path: Path) -> None:
        folder = run_with(tmp_path / "run", data__root="${oc.env:SECRET_OF_THIS_TEST}")
        with pytest.raises(RunError, match="plain values") as caught:
            Material(folder, "test", tmp_path / "cache")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("place", ["method", "flow"])
    @pytest.mark.parametrize("depth", [0, 1])
    def test_a_check_of_weights_builds_nothing_that_it_names(
        self, place: str, depth: int, payload: Any, tmp_path: Path
    ) -> None:
        folder = run_with(tmp_path / "run", **{place: payload})
        file = folder / ("checkpoints/last.ckpt" if depth else "last.ckpt")
        file.parent.mkdir(exist_ok=True)
        torch.save({"state_dict": {"guide.weight": torch.zeros(1)}}, file)
        with pytest.raises(RunError, match="vsrbench does not"):
            check_path(str(file), compose(["method=dgaf", "size=tiny"], "weights"))

    def test_every_method_and_data_set_of_ours_can_be_built(self) -> None:
        assert {"vsrbench.data.datamodule.VideoData", "vsrbench.methods.dgaf.model.DGAF"} <= known_targets()
        assert all(name.startswith("vsrbench.") for name in known_targets())
        methods = [file.stem for file in (home() / "conf" / "method").glob("*.yaml")]
        targets = {str(compose([f"method={name}"], "eval").method._target_) for name in methods}
        assert targets <= known_targets()


class TestDamagedFiles:
    def test_aliases_that_would_fill_the_memory(self, tmp_path: Path) -> None:
        lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
        (tmp_path / "config.yaml").write_text("\n".join(lines))
        with pytest.raises(RunError, match=r"config\.yaml is damaged .*aliases"):
            read_config(tmp_path / "config.yaml")

    @pytest.mark.parametrize("text", ["", "[1]", "a: [", "1: 2", "\x00", "a: " + "[" * 5000])
    def test_configurations(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(RunError, match=r"config\.yaml is damaged"):
            read_config(tmp_path / "config.yaml")

    def test_settings_of_no_command(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("verb: nosuch")
        with pytest.raises(RunError, match=r"config\.yaml is damaged \('nosuch' is no command"):
            read_run_settings(tmp_path / "config.yaml")

    @pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100000, "1"])
    def test_json(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DataError, match=r"x\.json is damaged .*: fetch it"):
            read_json(tmp_path / "x.json", "fetch it", DataError)

    def test_pipes_do_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.json")
        with pytest.raises(RunError, match=r"x\.json is no regular file: fetch it"):
            read_json(tmp_path / "x.json", "fetch it")

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_bytes(b"\xff\xff")
        with pytest.raises(RunError, match=r"x\.json cannot be read .*: fetch it"):
            read_json(tmp_path / "x.json", "fetch it")


class TestNames:
    @pytest.mark.parametrize("name", OUTSIDE)
    def test_those_that_lead_out_of_a_folder(self, name: str, tmp_path: Path) -> None:
        assert not inside(name)
        with pytest.raises(RunError):
            below(tmp_path, name)
        with pytest.raises(DataError, match=r"list\.txt names"):
            check_name(name, Path("list.txt"), DataError)

    @pytest.mark.parametrize("name", ["calendar", "00001/0266", "a b", "…", "a..b"])
    def test_those_that_do_not(self, name: str, tmp_path: Path) -> None:
        assert inside(name) and below(tmp_path, name) == tmp_path / name

    def test_links_are_followed_before_anything_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "frames").mkdir()
        (tmp_path / "frames" / "clip").symlink_to(tmp_path)
        with pytest.raises(RunError, match="does not lie below"):
            below(tmp_path / "frames", "clip")

    @pytest.mark.parametrize("name", OUTSIDE)
    @pytest.mark.parametrize("key", ["name", "frames"])
    def test_of_a_pack(self, name: str, key: str, tmp_path: Path) -> None:
        clip = {
            "name": "clip", "frames": ["0"], "shard": 0, "offset": 0, "hr": None, "lr": [4, 4], "scored": None,
            "full": None, "origin": {}, "digest": "",
        }  # fmt: skip
        clip[key] = [name] if key == "frames" else name
        header = ["pack", {"version": VERSION, "unit": "clips", "switches": {}}]
        (tmp_path / INDEX).write_text("".join(json.dumps(line) + "\n" for line in (header, ["clip", clip])))
        with pytest.raises(DataError, match=r"index\.jsonl names"):
            read_index(tmp_path)

    @pytest.mark.parametrize(
        "changes", [{"shard": -1}, {"offset": "0"}, {"lr": [4]}, {"lr": [4, None]}, {"hr": [-4, 4]}, {"frames": 3}]
    )
    def test_numbers_of_a_pack(self, changes: dict[str, Any], tmp_path: Path) -> None:
        clip = {
            "name": "clip", "frames": ["0"], "shard": 0, "offset": 0, "hr": None, "lr": [4, 4], "scored": None,
            "full": None, "origin": {}, "digest": "",
        }  # fmt: skip
        header = ["pack", {"version": VERSION, "unit": "clips", "switches": {}}]
        lines = (header, ["clip", {**clip, **changes}])
        (tmp_path / INDEX).write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(DataError, match=r"index\.jsonl is damaged in line 2"):
            read_index(tmp_path)

    def test_of_a_list_of_clips(self, tmp_path: Path) -> None:
        (tmp_path / "sep_testlist.txt").write_text("00001/0266\n../../../home/user\n")
        with pytest.raises(DataError, match=r"sep_testlist\.txt names '\.\./\.\./\.\./home/user'"):
            entry.run(
                compose(["method=bicubic", "data=vimeo", f"data.root={tmp_path}", f"runs={tmp_path}/runs"], "eval")
            )

    def test_of_pieces_of_weights(self, tmp_path: Path) -> None:
        index = {"weight_map": {"a": "../../secret.safetensors"}}
        (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(WeightsError, match="must lie below its folder"):
            weight_files(tmp_path)

    @pytest.mark.parametrize("name", ["..", "../x", "/tmp/x", "a/../.."])
    def test_of_run_folders(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="name of a folder below runs="):
            run_folder(compose(["method=bicubic", f"name={name}", f"runs={tmp_path}"], "eval"), "eval")


class TestFoldersOfOthers:
    def test_a_folder_that_is_no_run_is_left_alone(self, tmp_path: Path) -> None:
        own = tmp_path / "thesis"
        (own / "checkpoints").mkdir(parents=True)
        for name in ("README.md", "metrics.csv", "checkpoints/best.ckpt"):
            (own / name).write_text("mine")
        for force in ("false", "true"):
            with pytest.raises(RunError, match=r"thesis is no run folder \(it holds README\.md, checkpoints"):
                trained(tmp_path, f"force={force}", name="thesis")
        assert {p.read_text() for p in own.rglob("*") if p.is_file()} == {"mine"}

    def test_nor_one_with_a_configuration_of_other_software(self, tmp_path: Path) -> None:
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "config.yaml").write_text("model: x\n")
        with pytest.raises(RunError, match="own is no run folder"):
            open_run(compose(["method=bicubic", "name=own", f"runs={tmp_path}"], "eval"), "eval")
        assert (tmp_path / "own" / "config.yaml").read_text() == "model: x\n"

    def test_a_lock_that_is_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("mine")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "lock").symlink_to(tmp_path / "target")
        with pytest.raises(RunError, match="cannot write"), alone(tmp_path / "run"):
            pass
        assert (tmp_path / "target").read_text() == "mine"


class TestForce:
    """What was computed goes when the new work begins, and not before."""

    @pytest.mark.parametrize("wrong", ["ckpt_path=nosuch", "train.effective_batch=3", "trainer.accelerator=tpu"])
    def test_training_that_cannot_begin_costs_nothing(self, wrong: str, tmp_path: Path) -> None:
        folder = trained(tmp_path)
        kept = ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "metrics.csv", "result.json")
        before = {name: (folder / name).read_bytes() for name in kept}
        with pytest.raises(VsrbenchError):
            trained(tmp_path, "force=true", wrong)
        assert {name: (folder / name).read_bytes() for name in kept} == before

    def test_training_that_begins_starts_anew(self, tmp_path: Path) -> None:
        folder = trained(tmp_path)
        train.run(tiny(tmp_path, "force=true", "trainer.max_steps=3", name="run"))
        assert json.loads((folder / "result.json").read_text())["steps"] == 3
        steps = [int(line.split(",")[0]) for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
        assert steps and max(steps) <= 3


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every part of a nested value is, the first entry of each list standing for the others."""
    if path:
        yield path
    inner = node.items() if isinstance(node, dict) else enumerate(node[:1]) if isinstance(node, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


class TestDamagedResults:
    """A result with any part absent or of another kind is read, or refused in one line."""

    @pytest.mark.parametrize("value", [None, 1, "x", [], {}, [None], {"a": None}, -1.5])
    def test_reports(self, value: Any, tmp_path: Path) -> None:
        folder = write_run(tmp_path, "run", {"psnr_y": 30.0, "ssim_y": 0.8})
        whole = json.loads((folder / "result.json").read_text())
        whole["provenance"]["selection"] = {"metric": "val/psnr_y", "step": 3, "set": "reds", "clips": ["240"]}
        for path in places(whole):
            damaged = json.loads(json.dumps(whole))
            node = damaged
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
            (folder / "result.json").write_text(json.dumps(damaged))
            try:
                found = groups([folder])
                texts = [(overview(group), intervals(group), fine_print(group)) for group in found]
                assert texts and long_csv(found)
                assert all(selected_on(result) is not None for result in read(folder))
            except RunError:
                continue
            except Exception as error:
                raise AssertionError(f"{path} = {value!r}: {type(error).__name__}: {error}") from error
