import subprocess
import sys

import pytest

from vsrbench.metrics.catalog import KINDS, METRICS, of_kind
from vsrbench.metrics.perceptual import RECIPES

DESIGN = (
    "psnr_rgb ssim_rgb psnr_y ssim_y lpips_alex lpips_vgg dists musiq clipiqa niqe fid consistency ewarp rwe we "
    "tof_tecogan tof_stablevsr tlpips_tecogan tlpips_stablevsr"
)


def test_holds_every_name_that_the_project_uses():
    assert set(DESIGN.split()) | RECIPES.keys() <= METRICS.keys()


@pytest.mark.parametrize("name", METRICS)
def test_says_what_a_value_is(name):
    metric = METRICS[name]
    assert metric.kind in KINDS and metric.better in ("lower", "higher") and metric.unit and metric.skip >= 0


def test_every_name_has_one_kind():
    assert sorted(name for kind in KINDS for name in of_kind(kind)) == sorted(METRICS)


def test_full_reference_nets_need_ground_truth():
    assert all(METRICS[name].reference for name, recipe in RECIPES.items() if recipe.reference)


def test_is_read_without_torch():
    code = "import sys, vsrbench.metrics.catalog; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
