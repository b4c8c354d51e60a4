"""The wheel holds all that a command needs: built, installed elsewhere, used from yet another folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("build")
ROOT = Path(__file__).resolve().parents[1]

USE = """
import json, sys
from pathlib import Path
import vsrbench
from vsrbench import config, runs
from vsrbench.command_line import expand_arguments, home
cfg = config.compose(["method=ldm", "size=mini"], verb="eval")
experiments = expand_arguments(["experiments=mini/*"], "train")[0]
tried = config.compose(["experiments=mini/dgaf"])
print(json.dumps({
    "package": vsrbench.__file__, "home": str(home()), "method": cfg.method._target_, "prior": cfg.prior.path,
    "weights": (Path(cfg.prior.path) / "unet" / "diffusion_pytorch_model.safetensors").is_file(),
    "experiments": experiments, "tried": tried.method.name, "commit": runs._commit(),
    "lists": sorted(p.name for p in (Path(vsrbench.__file__).parent / "data" / "lists").glob("*")),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, with an awkward name, into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    for command in (
        ["build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder / "it's here, [1]")],
    ):
        if command[0] == "pip":
            command.append(str(next(folder.glob("*.whl"))))
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "it's here, [1]"


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_composing_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    told = json.loads(run(installed, tmp_path, "-c", USE))
    package = installed / "vsrbench"
    assert told["package"] == str(package / "__init__.py")
    assert told["home"] == str(package)
    assert told["method"] == "vsrbench.methods.ldm.model.LDM"
    assert told["prior"] == str(package / "assets" / "mini_prior") and told["weights"]
    assert "mini/dgaf" in told["experiments"] and told["tried"] == "dgaf"
    assert told["commit"] is None
    assert told["lists"] == sorted(p.name for p in (ROOT / "src" / "vsrbench" / "data" / "lists").glob("*"))


def test_commands_of_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    printed = run(installed, tmp_path, "-m", "vsrbench", "train", "experiments=mini/prior", "--cfg", "job")
    assert "verb: train" in printed and "stage: unet" in printed


def test_every_shipped_file_is_in_the_wheel(installed: Path) -> None:
    def files(folder: Path) -> set[str]:
        return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}

    package = installed / "vsrbench"
    assert files(ROOT / "src" / "vsrbench") <= files(package)
    assert files(ROOT / "src" / "hydra_plugins") <= files(installed / "hydra_plugins")
    assert files(ROOT / "conf") <= files(package / "conf")
    assert files(ROOT / "experiments") <= files(package / "conf" / "experiments")
