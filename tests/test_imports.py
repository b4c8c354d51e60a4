"""What a command loads before its work: no trainer, no tracker, no torch where no tensor is looked at."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CODE = """
import atexit, runpy, sys
atexit.register(lambda: print("loaded", *{name.partition(".")[0] for name in sys.modules}))
runpy.run_module("vsrbench", run_name="__main__", alter_sys=True)
"""
TRAINING = {"pytorch_lightning", "lightning_fabric", "wandb", "mlflow", "tensorboard", "torchmetrics", "submitit"}
DIFFUSION = {"diffusers", "transformers"}
SETTINGS = {"torch", "hydra", "omegaconf", "numpy", "scipy"} | TRAINING | DIFFUSION
FOLDER = ("data=folder", "data.root=clips")


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (("--help",), SETTINGS),
        (("list", "methods"), SETTINGS),
        (("report", "--help"), SETTINGS),
        (("upscale", "--help"), {"torch", "numpy"} | TRAINING | DIFFUSION),
        (("weights", "list"), {"torch", "numpy"} | TRAINING | DIFFUSION),
        (("data", "check", *FOLDER), {"torch", "cv2", "av"} | TRAINING | DIFFUSION),
        (("eval", "method=bicubic", *FOLDER, "protocol.metrics=[psnr_rgb]"), TRAINING | DIFFUSION | {"matplotlib"}),
        (("upscale", "clips/a", "out", "method=bicubic"), TRAINING | DIFFUSION | {"scipy", "cv2"}),
        (("upscale", "clips/a", "out", "method=basicvsrpp", "size=tiny"), TRAINING | DIFFUSION),
        (("upscale", "clips/a", "out", "method=dgaf", "size=tiny"), TRAINING),
    ],
)
def test_a_command_loads_only_what_it_uses(words: tuple[str, ...], absent: set[str], tmp_path: Path) -> None:
    (tmp_path / "clips" / "a").mkdir(parents=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "clips" / "a" / f"{number}.png")
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert not absent & set(done.stdout.rpartition("loaded ")[2].split())
