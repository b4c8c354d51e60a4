"""``vsrbench weights``: its words, what it prints and its exit code."""

from pathlib import Path

import pytest

import latent
from vsrbench.config import compose
from vsrbench.diffusion.prior import save_prior
from vsrbench.errors import ConfigError
from vsrbench.weights.__main__ import run


def weights(*words: str) -> None:
    run(compose(list(words), verb="weights"))


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    save_prior(latent.prior(), tmp_path / "prior")
    return tmp_path / "prior"


def test_words() -> None:
    with pytest.raises(ConfigError, match="task=get: use list, fetch, check, export or null"):
        weights("get")
    with pytest.raises(ConfigError, match="needs nothing that can be fetched"):
        weights("fetch")
    with pytest.raises(ConfigError, match="check needs a folder, file or hub id"):
        weights("check")
    with pytest.raises(ConfigError, match="weights list takes no path"):
        weights("list", "somewhere")


def test_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSRBENCH_RAFT", "/nowhere/raft.pth")
    weights("list")
    told = capsys.readouterr().out
    table = " ".join(told.split())
    for word in ("what it is for", "claudiom4sir/StableVSR -> prior.path", "not stated (its code: MIT)", "fetch it"):
        assert word in table
    assert "VSRBENCH_RAFT=/nowhere/raft.pth is not on this disk" in table and "not usable" in table
    assert "here (shipped)" in table and "2.61 M parameters" in table and "cache: " in table


def test_check_of_what_fits(prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights("check", str(prior))
    told = capsys.readouterr().out
    tensors = len(latent.prior().unet.state_dict())
    assert f"{tensors} of {tensors}" in told and "float16" in told and " NO" not in told


def test_check_of_what_does_not_fit(prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file, save_file

    file = prior / "unet" / "diffusion_pytorch_model.safetensors"
    content = load_file(file)
    lost = sorted(key for key in content if key.startswith("conv_"))
    save_file({key: value for key, value in content.items() if key not in lost}, file)
    with pytest.raises(SystemExit) as left:
        weights("check", str(prior))
    assert left.value.code == 1
    told = capsys.readouterr().out
    assert f"unet: {len(lost)} missing: {', '.join(lost[:3])}, ..." in told and " NO" in told


def test_a_path_with_an_equals_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_prior(latent.prior(), tmp_path / "lr=1e-4")
    weights("check", str(tmp_path / "lr=1e-4"))
    assert "fits" in capsys.readouterr().out


def test_export_prints_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights("export", "method=ldm", "size=tiny", f"output={tmp_path / 'out'}")
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert (tmp_path / "out" / "unet" / "config.json").is_file()
