"""What upscaling loads before its first frame: no trainer, no tracker, no diffusion library without diffusion."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

CODE = """
import sys
from vsrbench import upscale
from vsrbench.config import compose
upscale.run(compose(sys.argv[1:], verb="upscale"))
print("loaded", *{name.partition(".")[0] for name in sys.modules})
"""
TRAINING = {"pytorch_lightning", "lightning_fabric", "wandb", "mlflow", "tensorboard", "torchmetrics", "submitit"}
DIFFUSION = {"diffusers", "transformers"}


@pytest.mark.parametrize(
    ("method", "absent"),
    [("bicubic", TRAINING | DIFFUSION), ("basicvsrpp", TRAINING | DIFFUSION), ("dgaf", TRAINING)],
)
def test_upscaling_loads_only_what_it_uses(method: str, absent: set[str], tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(2):
        Image.new("RGB", (16, 16), (90 * number, 120, 40)).save(source / f"{number}.png")
    arguments = [str(source), str(target), f"method={method}", "size=tiny", "inference.device=cpu"]
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not absent & set(done.stdout.rpartition("loaded ")[2].split())
    assert len(list(target.glob("*.png"))) == 2
