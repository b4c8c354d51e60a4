"""What ``inference.precision=auto`` costs in quality, on the trained weights that are shipped."""

import pytest
import torch

from vsrbench.config import PACKAGE, build, build_method, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.inference.tiles import cut, upscale_tiled
from vsrbench.nn.functional import native_precision

SHIPPED = sorted(file.stem.removesuffix("_mini") for file in (PACKAGE / "assets").glob("*_mini.safetensors"))


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "prior"])
def test_output_is_within_50_db_of_fp32(name: str) -> None:
    cfg = compose([f"method={name}", "size=mini", "data=sample", "inference.device=cpu"], verb="eval")
    clip = cut(build(cfg.data).clips("test")[0].read(0, 4), 4, 44, 8, 56)
    method = build_method(cfg)
    exact = upscale_tiled(method, clip, Noise(0), None, 16)
    method.configure_inference("auto")
    error = (upscale_tiled(method, clip, Noise(0), None, 16) - exact).square().mean()
    assert -10 * torch.log10(error) > 50
    assert method.precision == (native_precision(method.device) if method.tolerates_half else torch.float32)
