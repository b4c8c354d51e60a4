"""``weights list``: what is found on this disk, and what is said about what is not."""

import shutil
from pathlib import Path

import pytest

from vsrbench.weights.catalogue import FILE
from vsrbench.weights.commands.listing import Location, digest, inventory

RAFT = "raft_large_C_T_SKHT_V2-ff5fadd5.pth"


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No variables, empty caches."""
    for variable in ("VSRBENCH_PRIOR", "VSRBENCH_RAFT", "VSRBENCH_SPYNET"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VSRBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    return tmp_path


def found() -> dict[str, Location]:
    return {row.known.name: row for row in inventory()}


def test_a_bare_machine_has_what_is_shipped() -> None:
    rows = found()
    shipped = {file.stem for file in FILE.parent.glob("*_mini.safetensors")} | {"mini_prior"}
    assert {name for name, row in rows.items() if row.where} == shipped, "whatever is shipped is listed"
    assert rows["mini_prior"].bytes and rows["mini_prior"].digest
    assert rows["mini_prior"].where and rows["dgaf_mini"].where


def test_variables_name_folders_and_files(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / RAFT).write_bytes(b"12345")
    monkeypatch.setenv("VSRBENCH_RAFT", str(tmp_path / RAFT))
    monkeypatch.setenv("VSRBENCH_PRIOR", str(pipeline))
    rows = found()
    assert rows["raft_large"].where == tmp_path / RAFT and rows["raft_large"].bytes == 5
    assert rows["stablevsr"].where == pipeline and rows["sd_x4_upscaler"].where is None, "it has a controlnet/"
    shutil.rmtree(pipeline / "controlnet")
    rows = found()
    assert rows["stablevsr"].where is None and rows["sd_x4_upscaler"].where == pipeline


def test_two_files_share_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "spynet_sintel_final-3d2a1287.pth"
    file.touch()
    monkeypatch.setenv("VSRBENCH_SPYNET", str(file))
    rows = found()
    assert rows["spynet_basicsr"].where == file and rows["spynet_mmagic"].where is None


def test_a_variable_that_leads_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSRBENCH_RAFT", "/nowhere/raft.pth")
    assert found()["raft_large"].how == "VSRBENCH_RAFT=/nowhere/raft.pth is not on this disk"


def test_the_hubs_cache(bare_machine: Path) -> None:
    entry = bare_machine / "hub" / "models--claudiom4sir--StableVSR"
    (entry / "snapshots" / "a").mkdir(parents=True)
    (entry / "blobs").mkdir()
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("a")
    (entry / "blobs" / "b").write_bytes(b"123")
    (entry / "snapshots" / "a" / "model_index.json").symlink_to(entry / "blobs" / "b")
    row = found()["stablevsr"]
    assert row.where == entry and row.bytes == 3 and row.how == "the hub's cache"


def test_torchs_folder(bare_machine: Path) -> None:
    assert found()["alexnet"].where is None
    folder = bare_machine / "torch" / "hub" / "pyiqa"
    folder.mkdir(parents=True)
    (folder / "niqe_modelparameters.mat").write_bytes(b"1")
    assert found()["niqe"].where == folder / "niqe_modelparameters.mat"


def test_a_file_with_another_hash_is_not_here(bare_machine: Path) -> None:
    file = bare_machine / "weights" / "basicvsr" / "BasicVSR_REDS4.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"1")
    row = found()["basicvsr_reds4"]
    assert row.where is None and row.how == f"{file} has another SHA-256: it is used only when named by its path"


def test_the_digest_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "c").write_text("one")
    first = digest(folder)
    (folder / "b" / "c").rename(folder / "b" / "d")
    second = digest(folder)
    (folder / "b" / "d").write_text("two")
    assert len({first, second, digest(folder)}) == 3
